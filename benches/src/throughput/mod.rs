//! `cargo bench --bench throughput`: how near Windlass comes to a client that has nothing else to do.

mod arguments;
mod creates;
mod idle;
mod latency;
mod lifecycles;
mod overload;
mod progress;
mod report;
mod restart;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::{Builder, Handle};

use arguments::{Arguments, Plan, Section};
use progress::Progress;
use report::{Circumstances, Figures};

use crate::rig::Rig;
use crate::{bare, meter};

/// Creates in flight of the bare client's lifecycles, where no section has found its best.
const USUAL_IN_FLIGHT: usize = 32;

/// Runs it. 1: something was lost, doubled or wrong; 0 whatever the speed.
pub fn main() -> ExitCode {
    let plan = Arguments::parse().plan();
    match start(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(plan: &Plan) -> Result<()> {
    let runtime = |threads: &str| Builder::new_multi_thread().thread_name(threads).enable_all().build();
    let bare = runtime(bare::THREADS).context("start the bare client's threads")?;
    runtime("bench").context("start threads")?.block_on(run(plan, bare.handle().clone()))
}

async fn run(plan: &Plan, bare: Handle) -> Result<()> {
    let load_before = meter::load();
    let progress = Progress::start();
    progress.say("PostgreSQL, kube-apiserver, daemon");
    let mut rig = Rig::start(bare, &plan.sets).await?;
    creates::warm_up(&rig, &progress).await?;
    let mut figures = Figures::default();
    if plan.has(Section::Creates) {
        figures.creates = Some(creates::run(&rig, plan, &progress).await?);
    }
    if let (Some(creates), true) = (&figures.creates, plan.has(Section::Latency)) {
        let rate = creates.per_second();
        figures.latency = Some(latency::run(&rig, rate, plan.latency_seconds, &progress).await?);
    }
    if plan.has(Section::Lifecycles) {
        let best = figures.creates.as_ref().and_then(creates::Creates::best);
        let in_flight = best.map_or(USUAL_IN_FLIGHT, |(in_flight, _)| in_flight);
        figures.lifecycles = Some(lifecycles::run(&rig, plan, in_flight, &progress).await?);
    }
    if plan.has(Section::Idle) {
        figures.idle = Some(idle::run(&rig, plan.idle_seconds, &progress).await?);
    }
    if plan.has(Section::Overload) {
        figures.overload = Some(overload::run(&mut rig, plan, &progress).await?);
    }
    // The last one: its pods stay.
    if plan.has(Section::Restart) {
        figures.restarts = Some(restart::run(&mut rig, plan, &progress).await?);
    }
    let kubernetes = rig.plane.client().apiserver_version().await.context("ask for the version")?.git_version;
    let circumstances = Circumstances { load_before, kubernetes, postgres: rig.postgres.version() };
    println!("\n{}", report::text(&figures, &circumstances));
    Ok(())
}
