//! Tells cargo that a new file in the folder of migrations means a new binary: `sqlx::migrate!` watches only the files
//! that it has seen.

fn main() {
    println!("cargo:rerun-if-changed=postgres");
}
