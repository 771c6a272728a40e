//! A full burst: how fast queued task instances get their pods, and how fast a client does that has nothing else to do.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::arguments::Plan;
use super::progress::Progress;
use crate::bare::{self, Round};
use crate::pods::{BARE, INSTALLATION};
use crate::rig::{Cpu, Rig};
use crate::scheduler::Standing;

/// With one call in flight a round takes eight times as long as with more: fewer pods say as much.
const ALONE_DIVISOR: usize = 8;

/// One round of the daemon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    pub(super) tasks: usize,
    pub(super) standing: Standing,
    /// Per task.
    pub(super) cpu: Cpu,
}

#[derive(Debug, Default)]
pub(super) struct Creates {
    /// By calls in flight.
    pub(super) bare: BTreeMap<usize, Vec<Round>>,
    /// Per pod, over all rounds.
    pub(super) bare_cpu: Vec<Cpu>,
    pub(super) daemon: Vec<Burst>,
}

impl Creates {
    /// Calls in flight and all rounds of the bare client's best.
    pub(super) fn best(&self) -> Option<(usize, Round)> {
        let all = self.bare.iter().map(|(in_flight, rounds)| (*in_flight, bare::sum(rounds.iter().copied())));
        all.max_by(|(_, a), (_, b)| a.per_second().total_cmp(&b.per_second()))
    }

    /// All rounds of the daemon as one: pods per second.
    pub(super) fn per_second(&self) -> f64 {
        let pods: usize = self.daemon.iter().map(|burst| burst.tasks).sum();
        pods as f64 / self.daemon.iter().map(|burst| burst.standing.creating).sum::<f64>()
    }
}

/// Connections are opened, caches and the Go runtimes' heaps warm, before anything is measured.
pub(super) async fn warm_up(rig: &Rig, progress: &Progress) -> Result<()> {
    progress.say("warm-up");
    let tasks = 300;
    rig.scheduler.new_run("warm-up", tasks).await?;
    let pods = rig.pod_form("warm-up", 0).await?.bare(0..tasks, "w0")?;
    rig.bare.create(pods, 32).await?;
    rig.delete_pods(&format!("{INSTALLATION}={BARE}")).await?;
    burst(rig, "warm-up", tasks, 100).await?;
    clear(rig, "warm-up", tasks).await
}

pub(super) async fn run(rig: &Rig, plan: &Plan, progress: &Progress) -> Result<Creates> {
    let mut creates = Creates::default();
    for round in 1..=plan.rounds {
        let run = format!("creates-{round}");
        rig.scheduler.new_run(&run, plan.tasks).await?;
        // Each goes first in turn: the one behind finds warmer caches and a larger store.
        if round % 2 == 1 {
            bare_round(rig, plan, &run, &mut creates, progress).await?;
            daemon_round(rig, plan, &run, &mut creates, progress).await?;
        } else {
            daemon_round(rig, plan, &run, &mut creates, progress).await?;
            bare_round(rig, plan, &run, &mut creates, progress).await?;
        }
    }
    Ok(creates)
}

async fn bare_round(
    rig: &Rig,
    plan: &Plan,
    run: &str,
    creates: &mut Creates,
    progress: &Progress,
) -> Result<()> {
    let form = rig.pod_form(run, 0).await?;
    for (nth, in_flight) in plan.in_flight.iter().copied().enumerate() {
        let count = if in_flight == 1 { plan.tasks.div_ceil(ALONE_DIVISOR) } else { plan.tasks };
        let pods = form.bare(0..count, &format!("b{}", nth % 10))?;
        let before = rig.cpu()?;
        let round = rig.bare.create(pods, in_flight).await?;
        let cpu = rig.cpu()?.since(&before, count);
        let found = rig.pods().await?;
        if found != count {
            bail!("{found} pods are there after {count} bare creates");
        }
        let rate = round.per_second();
        progress.say(&format!("{run}: bare, {in_flight} in flight: {rate:.0} creates/s"));
        creates.bare.entry(in_flight).or_default().push(round);
        creates.bare_cpu.push(cpu);
        rig.delete_pods(&format!("{INSTALLATION}={BARE}")).await?;
    }
    Ok(())
}

async fn daemon_round(
    rig: &Rig,
    plan: &Plan,
    run: &str,
    creates: &mut Creates,
    progress: &Progress,
) -> Result<()> {
    let burst = burst(rig, run, plan.tasks, plan.batch).await?;
    let Standing { p50, p99, creating, .. } = burst.standing;
    progress.say(&format!(
        "{run}: Windlass: {:.0} creates/s, queued to created p50 {:.0} ms, p99 {:.0} ms",
        plan.tasks as f64 / creating,
        p50 * 1e3,
        p99 * 1e3
    ));
    creates.daemon.push(burst);
    clear(rig, run, plan.tasks).await
}

/// Queues all tasks of a run and waits until each has its pod.
async fn burst(rig: &Rig, run: &str, tasks: usize, batch: usize) -> Result<Burst> {
    let before = rig.cpu()?;
    rig.scheduler.queue_all(run, tasks, batch).await?;
    wait_for_pods(rig, run, tasks).await?;
    let cpu = rig.cpu()?.since(&before, tasks);
    let standing = check_pods(rig, run, tasks).await?;
    Ok(Burst { tasks, standing, cpu })
}

/// Until so many launches of the run have their pod.
pub(super) async fn wait_for_pods(rig: &Rig, run: &str, tasks: usize) -> Result<()> {
    rig.until("each task has its pod", async || Ok(rig.scheduler.created(run).await? >= tasks)).await
}

/// Each task of the run has one launch and one pod, and there is no other pod.
pub(super) async fn check_pods(rig: &Rig, run: &str, tasks: usize) -> Result<Standing> {
    let (standing, pods) = (rig.scheduler.standing(run).await?, rig.pods().await?);
    if pods != tasks || standing.launches != tasks || standing.again > 0 {
        bail!("{tasks} tasks have {pods} pods and these launches: {standing:?}");
    }
    Ok(standing)
}

/// Takes the tasks back: the daemon removes their pods and closes their launches.
pub(super) async fn clear(rig: &Rig, run: &str, tasks: usize) -> Result<()> {
    rig.scheduler.take_back(run).await?;
    rig.until("the launches of the round are closed", async || {
        rig.scheduler.deliver().await?;
        Ok(rig.scheduler.done(run).await? == tasks)
    })
    .await?;
    let (outcomes, pods) = (rig.scheduler.outcomes(run).await?, rig.pods().await?);
    if outcomes != BTreeMap::from([("withdrawn".to_owned(), tasks)]) || pods != 0 {
        bail!("{tasks} tasks were taken back; their outcomes are {outcomes:?} and {pods} pods are left");
    }
    Ok(())
}
