//! The binary `windlass`.

fn main() -> std::process::ExitCode {
    windlass::cli::main()
}
