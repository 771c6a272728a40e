//! The command line: what can be asked for, and with which exit code it ends.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use scheduler_bridge::BridgeError;
use windlass_cluster::ClusterError;

use crate::chain;
use crate::cleanup::Cleanup;
use crate::config::environment::Environment;
use crate::config::fault::Faults;
use crate::config::settings::LogFormat;
use crate::config::{Config, Lookup};
use crate::doctor::Doctor;
use crate::explain::Explain;
use crate::login::Login;
use crate::render::{RenderDag, RenderPod};
use crate::{cleanup, docs, doctor, explain, identity, logging, migrate, render, run, show, status};

const LONG_ABOUT: &str = "\
A native KubernetesExecutor for Apache Airflow. `windlass run` is a sidecar of the scheduler: it launches one worker \
pod per queued task instance, watches the pods and hands back what became of them.

Configuration is Airflow's own (airflow.cfg, AIRFLOW__SECTION__KEY, _CMD); what Airflow has no word for stands in \
windlass.toml or WINDLASS__SECTION__KEY. `windlass config` shows every value and where it came from.";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the reason is on standard error. `windlass doctor`: a finding of severity error; `--diff`: a difference
  2  the command line is wrong
  3  the configuration is wrong; all faults are on standard error
  4  the database cannot be used: unreachable, not migrated, a missing grant, an unknown Airflow
  5  the cluster cannot be compared (`windlass identity render --diff`)

Examples:
  windlass config                          every effective value and its source
  windlass migrate --dry-run               what would be done to the schema `windlass`
  windlass run                             the daemon, as in the sidecar
  windlass status --watch                  queue, launches, leader, last errors
  windlass doctor                          what does not fit together, and what to do
  windlass explain etl load manual__1      why this task waits, and what became of it
  windlass render pod --dag-id etl --task-id load --run-id manual__1 --from-flags
  windlass identity explain etl load       which rule gives the task its identity, and what the pod gets
  windlass cleanup --dry-run               which worker pods have ended and can go";

/// A native KubernetesExecutor for Apache Airflow.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, long_about = LONG_ABOUT, after_long_help = EXIT_CODES)]
#[command(propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Windlass's own settings [default: WINDLASS_CONFIG, else /etc/windlass/windlass.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One own setting, over file and environment; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: lead or stand by, until SIGTERM
    #[command(after_long_help = "\
Without database, schema or API server it waits and says so (/readyz); it does not exit. On SIGTERM it finishes what is \
under way, hands its term over and ends with 0; a second one ends it at once.

Examples:
  windlass run
  windlass run --set log.format=json --set create.concurrency=64")]
    Run,
    /// Create or update the schema `windlass` beside Airflow's tables
    #[command(after_long_help = "\
Needs a direct connection (not PgBouncer in transaction mode) as a role that may create the schema: database.migrate-url, \
else Airflow's own. Two at once are safe: one waits for the other.

Examples:
  windlass migrate --dry-run
  WINDLASS__DATABASE__MIGRATE_URL=postgresql://owner@db/airflow windlass migrate")]
    Migrate(Migrate),
    /// Show every effective value of the configuration and its source; secrets are masked
    #[command(after_long_help = "\
Ends with 3 if the configuration has faults, after showing the values. Needs no database.

Examples:
  windlass config
  windlass config --output json | jq '.values[] | select(.source != \"default\")'")]
    Config(Output),
    /// Show queue, launches by stage, leader, schedulers and recent failures
    #[command(after_long_help = "\
Examples:
  windlass status
  windlass status --watch
  windlass status --output json | jq .queued")]
    Status(Status),
    /// Check everything that the work stands on, and find what does not fit together
    Doctor(Doctor),
    /// Tell the story of one task instance: what happened when, and why it waits now
    Explain(Explain),
    /// Show what would be sent to Kubernetes
    Render {
        /// What of it.
        #[command(subcommand)]
        what: Render,
    },
    /// Who tasks are: which rule gives a task its identity, and what is wrong with the rules
    #[command(subcommand)]
    Identity(identity::Identity),
    /// Delete worker pods that have ended and that nobody needs any more
    Cleanup(Cleanup),
    /// Print a completion script for a shell
    #[command(after_long_help = "\
Examples:
  windlass completion bash > /etc/bash_completion.d/windlass
  windlass completion zsh > \"${fpath[1]}/_windlass\"")]
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write the reference pages
    #[command(hide = true)]
    Docs(docs::Docs),
}

#[derive(Debug, Subcommand)]
enum Render {
    /// The exact pod for a task instance, from the database or from flags
    Pod(Box<RenderPod>),
    /// The pods of all task instances of a DAG run
    Dag(RenderDag),
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Debug, Args)]
struct Output {
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
}

#[derive(Debug, Args)]
struct Migrate {
    /// Only say which migrations are pending
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: their SQL as well
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct Status {
    /// Show it again and again, until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Seconds between two looks of --watch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    #[command(flatten)]
    output: Output,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Exit code 3.
    #[error(transparent)]
    Config(#[from] Faults),
    /// Exit code 4.
    #[error(transparent)]
    Database(#[from] BridgeError),
    /// Exit code 5: it could not be told whether there is a difference; what, and what to do.
    #[error("{what}")]
    Uncompared {
        /// Each cause.
        what: String,
        /// Empty: nothing to say.
        hint: String,
    },
    /// Exit code 1; what, and what to do.
    #[error("{what}")]
    Other {
        /// With its causes.
        what: String,
        /// Empty: nothing to say.
        hint: String,
    },
    /// Exit code as given: the log has told why.
    #[error("the log says why")]
    Logged {
        /// Exit code.
        code: u8,
    },
    /// Not as it should be, which the output has told (doctor, check, diff): exit code 1.
    #[error("not healthy")]
    Unhealthy,
    /// The reader of our output has gone (`| head`): exit code 0.
    #[error("nobody reads the output")]
    PipeClosed,
}

impl Failure {
    /// Without a hint.
    pub fn other(what: impl Into<String>) -> Self {
        Self::Other { what: what.into(), hint: String::new() }
    }

    fn code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Other { .. } | Self::Unhealthy => 1,
            Self::Config(_) => 3,
            Self::Database(_) => 4,
            Self::Uncompared { .. } => 5,
            Self::Logged { code } => *code,
        }
    }

    /// What standard error says.
    pub fn report(&self) -> String {
        let (text, hint) = match self {
            Self::PipeClosed | Self::Unhealthy | Self::Logged { .. } => return String::new(),
            Self::Config(faults) => (faults.to_string(), String::new()),
            Self::Database(error) => (chain::sentence(error), error.hint().unwrap_or_default()),
            Self::Uncompared { what, hint } | Self::Other { what, hint } => (what.clone(), hint.clone()),
        };
        if hint.is_empty() { format!("error: {text}") } else { format!("error: {text}\n  hint: {hint}") }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::other(format!("cannot write the output: {error}")),
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        Self::Other { what: error.to_string(), hint: error.hint().to_owned() }
    }
}

/// Parses the command line and does it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let report = failure.report();
            if !report.is_empty() {
                // Standard error may be closed; the exit code still tells.
                let _ = writeln!(std::io::stderr(), "{report}");
            }
            ExitCode::from(failure.code())
        }
    }
}

/// The command line for the reference page and the completions.
pub fn command() -> clap::Command {
    Cli::command()
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let lookup = Lookup { config: cli.config, sets: cli.sets };
    let load = || Config::load_checked(&lookup, Environment::of_process());
    match cli.command {
        Command::Run => run_daemon(&lookup),
        Command::Migrate(of) => {
            let config = load()?;
            block_on(migrate::migrate(&config, of.dry_run, of.verbose))?
        }
        Command::Config(of) => {
            let (config, faults) = Config::load(&lookup, Environment::of_process());
            print(&show::values(config.as_ref(), &faults, of.output))?;
            if faults.is_empty() { Ok(()) } else { Err(Faults(faults).into()) }
        }
        Command::Status(of) => {
            let config = load()?;
            let every = of.watch.then(|| std::time::Duration::from_secs(of.every));
            block_on(status::status(&config, of.output.output, every))?
        }
        Command::Doctor(of) => {
            let (config, faults) = Config::load(&lookup, Environment::of_process());
            block_on(doctor::doctor(config.as_ref(), &faults, &of))?
        }
        Command::Explain(of) => {
            let config = load()?;
            block_on(explain::explain(&config, &of))?
        }
        Command::Render { what: Render::Pod(of) } => {
            if let Some(done) = render::of_input(&of) {
                return done;
            }
            let config = load()?;
            block_on(render::pod(&config, &of))?
        }
        Command::Render { what: Render::Dag(of) } => {
            let config = load()?;
            block_on(render::dag(&config, &of))?
        }
        // Needs no configuration.
        Command::Identity(identity::Identity::Groups(of)) => identity::groups(&of),
        Command::Identity(of) => {
            let config = load()?;
            block_on(identity::identity(&config, &of))?
        }
        Command::Cleanup(of) => {
            let config = load()?;
            block_on(cleanup::cleanup(&config, &of))?
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "windlass", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Docs(of) => docs::docs(&of),
    }
}

/// Once the configuration says how to log, the failure is a log line too: one object per line, also for the last one.
fn run_daemon(lookup: &Lookup) -> Result<(), Failure> {
    let (config, faults) = Config::load(lookup, Environment::of_process());
    let Some(config) = config else { return Err(Faults(faults).into()) };
    logging::start(&config.own.log)?;
    let as_json = config.own.log.format == LogFormat::Json;
    let work = || {
        if !faults.is_empty() {
            return Err(Faults(faults).into());
        }
        // A connection string that is none does not mend itself; everything else is waited for.
        let database = config.database()?;
        let ended = block_on(async {
            let env = Environment::of_process();
            let login = Login::new(lookup.clone(), env.clone(), database, &config.own.database).await;
            run::run(config, login, &env).await
        })?;
        ended.map_err(|error| Failure::other(format!("{error:#}")))
    };
    work().map_err(|failure: Failure| {
        if !as_json {
            return failure;
        }
        tracing::error!("{}", failure.report());
        Failure::Logged { code: failure.code() }
    })
}

/// To standard output; a reader that has gone is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other(format!("cannot start worker threads: {error}")))?;
    let done = runtime.block_on(work);
    // What still runs (a name lookup) must not hold the process back.
    runtime.shutdown_background();
    Ok(done)
}
