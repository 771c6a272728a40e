//! `cargo bench --bench throughput`, see benches/README.md.

fn main() -> std::process::ExitCode {
    windlass_benches::throughput::main()
}
