//! `cargo xtask`: every task of the project, the same for a developer and for CI.

mod check;
mod coverage;
mod forward;
mod profile;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use test::Level;

/// The tasks of the Windlass repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    /// Show the output of commands that succeed too.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, lints, direction of dependencies, file lengths, dead paths, generated pages, Python types.
    Check,
    /// Tests, by level. Ends with a table of minutes and the line `N passed, N failed, N skipped`.
    Test {
        /// What to run: unit sim store cluster plugin airflow parity faults, or all of these.
        #[arg(value_enum, default_values_t = [Level::All])]
        levels: Vec<Level>,
        /// Only tests whose name contains this.
        #[arg(long, default_value = "")]
        filter: String,
        /// The long form of `faults` (ten minutes of faults and 2,100 tasks) and `parity` (all examples that can run here).
        #[arg(long)]
        long: bool,
    },
    /// Plays seeds of the simulator; arguments as `windlass-sim --help` has them (`--first-seed N --seeds K --trace`).
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Branch coverage of `executor/core/src/launch` by its unit tests and the simulator. Needs nightly and its LLVM.
    Coverage,
    /// Benchmarks: all, or the one named; what follows the name goes to it.
    Bench {
        /// For example `throughput`.
        name: Option<String>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Writes the generated pages of `docs/`.
    Docs {
        /// Fail if they differ from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// A real Airflow whose tasks run through Windlass, on this machine, and a table of what happened.
    Demo {
        /// Leave all of it running, with Airflow's UI, until Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
    /// Builds what tests and demo need besides Rust: the control plane (Go) and Airflow's virtual environments.
    Prepare,
}

fn main() -> ExitCode {
    let Arguments { verbose, task } = Arguments::parse();
    match run(task, verbose) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, verbose: bool) -> Result<bool> {
    match task {
        Task::Check => check::run(verbose),
        Task::Test { levels, filter, long } => test::run(&levels, &test::How { filter, long, verbose }),
        Task::Sim { arguments } => forward::sim(&arguments),
        Task::Coverage => coverage::run(verbose),
        Task::Bench { name, arguments } => forward::bench(name.as_deref(), &arguments),
        Task::Docs { check } => forward::docs(check),
        Task::Demo { keep } => forward::demo(keep),
        Task::Prepare => {
            println!("{}", windlass_lab_prepare::control_plane_binary()?.display());
            for series in windlass_lab_prepare::Series::ALL {
                println!("{}", windlass_lab_prepare::venv(series)?.root().display());
            }
            Ok(true)
        }
    }
}
