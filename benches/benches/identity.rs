//! `cargo bench --bench identity`, see benches/README.md.

fn main() -> std::process::ExitCode {
    windlass_benches::identity::main()
}
