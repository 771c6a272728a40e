//! `cargo xtask demo`: a real Airflow whose tasks run through Windlass, on this machine.
//!
//! Everything is started here and ends here: on success, on failure, on Ctrl-C, and by the lab's watchdog if this
//! process is killed.

mod progress;
mod report;
mod stack;
mod story;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use windlass_lab::airflow::Component;

use progress::Progress;
use stack::Stack;

/// A real Airflow whose tasks run through Windlass, on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Arguments {
    /// Leave all of it running, with Airflow's UI, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { keep } = Arguments::parse();
    let progress = Arc::new(Progress::start());
    let ended = tokio::select! {
        ended = demo(keep, &progress) => ended,
        asked = asked_to_stop() => asked.map(|()| {
            progress.say("stopping all of it");
            false
        }),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything went as Airflow's semantics say.
async fn demo(keep: bool, progress: &Progress) -> Result<bool> {
    let mut stack = Stack::start(progress).await?;
    story::play(&stack, progress).await?;
    let report = report::Report::read(&stack).await?;
    println!("\n{report}");
    if keep {
        stay(&mut stack, progress).await?;
    }
    progress.say("stopping all of it");
    Ok(report.as_expected())
}

/// Until Ctrl-C.
async fn stay(stack: &mut Stack, progress: &Progress) -> Result<()> {
    progress.say("starting Airflow's UI");
    let user = ["users", "create", "--role", "Admin", "--username", "admin", "--password", "admin"];
    let person = ["--firstname", "Ada", "--lastname", "Min", "--email", "admin@example.test"];
    stack.airflow.cli(&[&user[..], &person[..]].concat()).await?;
    stack.airflow.start(Component::Webserver).await?;
    println!("\nAirflow's UI    {}  user admin, password admin", stack.airflow.webserver_url());
    for (what, where_to) in stack.addresses() {
        println!("{what:<15} {where_to}");
    }
    println!("Ctrl-C stops all of it.");
    asked_to_stop().await
}

async fn asked_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
