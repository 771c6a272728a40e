//! Full lifecycles: queued, created, bound, running, succeeded, settled, deleted, delivered, closed. The bare client
//! creates, watches and deletes; kubelet and workers are the same for both.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::arguments::Plan;
use super::progress::Progress;
use crate::bare::Round;
use crate::meter::{self, Memory};
use crate::rig::{Cpu, Rig};
use crate::scheduler::Standing;
use crate::workers::{self, Workers};

#[derive(Debug)]
pub(super) struct Lifecycles {
    pub(super) bare: Vec<Round>,
    /// With how many tasks and what CPU per task.
    pub(super) daemon: Vec<(usize, Standing, Cpu)>,
    pub(super) memory: Memory,
}

impl Lifecycles {
    pub(super) fn per_second(&self) -> f64 {
        let tasks: usize = self.daemon.iter().map(|(tasks, ..)| tasks).sum();
        tasks as f64 / self.daemon.iter().map(|(_, standing, _)| at_work(standing.closing)).sum::<f64>()
    }
}

/// Of a round's seconds, those in which there was work: every pod runs for a while by itself, the last one too.
fn at_work(seconds: f64) -> f64 {
    (seconds - workers::RUN.as_secs_f64()).max(f64::EPSILON)
}

/// `in_flight`: creates of the bare client, its best.
pub(super) async fn run(rig: &Rig, plan: &Plan, in_flight: usize, progress: &Progress) -> Result<Lifecycles> {
    let kubelet = rig.start_kubelet(workers::RUN).await?;
    let workers = Workers::start(rig.plane.client(), rig.scheduler.pool().clone());
    let lifecycles = rounds(rig, plan, in_flight, progress).await;
    // Without kubelet or workers nothing ends as it should: what happened to them is the cause.
    workers.stop().await?;
    kubelet.must_run()?;
    lifecycles
}

async fn rounds(rig: &Rig, plan: &Plan, in_flight: usize, progress: &Progress) -> Result<Lifecycles> {
    let (mut bare, mut daemon) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 1 {
                bare.push(bare_round(rig, plan, round, in_flight, progress).await?);
            } else {
                daemon.push(daemon_round(rig, plan, round, progress).await?);
            }
        }
    }
    Ok(Lifecycles { bare, daemon, memory: meter::memory(rig.daemon.process().pid())? })
}

async fn bare_round(
    rig: &Rig,
    plan: &Plan,
    round: usize,
    in_flight: usize,
    progress: &Progress,
) -> Result<Round> {
    let (run, tasks) = (format!("lifecycles-bare-{round}"), plan.lifecycles);
    rig.scheduler.new_run(&run, tasks).await?;
    let pods = rig.pod_form(&run, 0).await?.bare(0..tasks, "l0")?;
    // For the workers. Queued by nobody that Windlass knows: it is not to take them.
    rig.scheduler.queue_elsewhere(&run).await?;
    let mut round = rig.bare.lifecycles(pods, in_flight).await?;
    round.seconds = at_work(round.seconds);
    progress.say(&format!("{run}: {:.0} lifecycles/s", round.per_second()));
    rig.until("no pod is left", async || Ok(rig.pods().await? == 0)).await?;
    let states = rig.scheduler.states(&run).await?;
    if states != BTreeMap::from([("success".to_owned(), tasks)]) {
        bail!("{tasks} task instances of {run} ended as {states:?}");
    }
    Ok(round)
}

async fn daemon_round(
    rig: &Rig,
    plan: &Plan,
    round: usize,
    progress: &Progress,
) -> Result<(usize, Standing, Cpu)> {
    let (run, tasks) = (format!("lifecycles-{round}"), plan.lifecycles);
    rig.scheduler.new_run(&run, tasks).await?;
    let before = rig.cpu()?;
    rig.scheduler.queue_all(&run, tasks, plan.batch).await?;
    rig.until("the launches of the round are closed", async || {
        rig.scheduler.deliver().await?;
        Ok(rig.scheduler.done(&run).await? == tasks)
    })
    .await?;
    let cpu = rig.cpu()?.since(&before, tasks);
    let standing = rig.scheduler.standing(&run).await?;
    let rate = tasks as f64 / at_work(standing.closing);
    progress.say(&format!("{run}: Windlass: {rate:.0} lifecycles/s, {:.2} ms CPU per task", cpu.daemon));
    let (outcomes, pods) = (rig.scheduler.outcomes(&run).await?, rig.pods().await?);
    let states = rig.scheduler.states(&run).await?;
    let all = BTreeMap::from([("success".to_owned(), tasks)]);
    if outcomes != all || states != all || pods != 0 || standing.again > 0 {
        bail!(
            "{tasks} tasks of {run} ended with outcomes {outcomes:?}, states {states:?}, {pods} pods left: {standing:?}"
        );
    }
    Ok((tasks, standing, cpu))
}
