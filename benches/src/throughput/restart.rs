//! The daemon dies while many pods live: how long until a task queued meanwhile has its pod, when the same daemon comes
//! back, and when another one takes over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, watcher};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::arguments::Plan;
use super::creates;
use super::progress::Progress;
use crate::meter::{self, Memory};
use crate::metrics::Metrics;
use crate::pods::LeanPod;
use crate::rig::{NAMESPACE, Rig, WITHIN};

const LIVE: &str = "live";
/// The pods outlive the benchmark.
const LIFE: Duration = Duration::from_secs(86_400);
/// Launches in memory whose pod is known to run.
const RUNNING: &str = "windlass_launches{stage=\"running\"}";

/// The same daemon again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    /// From the start of the process to the moment when the API server had the new task's pod.
    pub(super) first_pod: f64,
    /// Of the new process until then.
    pub(super) cpu_ms: f64,
    pub(super) memory: Memory,
    /// From the start of the process until it knew of each live pod that it runs; metrics tell it once a second.
    pub(super) all_known: f64,
    /// Then.
    pub(super) memory_after: Memory,
}

#[derive(Debug)]
pub(super) struct Restarts {
    pub(super) live: usize,
    pub(super) rounds: Vec<Restart>,
    /// From the end of the leader to the first pod by the standby, in seconds.
    pub(super) takeovers: Vec<f64>,
}

/// The live pods stay: this section is the last one.
pub(super) async fn run(rig: &mut Rig, plan: &Plan, progress: &Progress) -> Result<Restarts> {
    let kubelet = rig.start_kubelet(LIFE).await?;
    bring_to_life(rig, plan, progress).await?;
    let (mut rounds, mut takeovers) = (Vec::new(), Vec::new());
    for round in 1..=plan.restarts {
        rounds.push(restart(rig, plan.live_pods, round, progress).await?);
    }
    for round in 1..=plan.restarts {
        takeovers.push(take_over(rig, plan.live_pods + plan.restarts, round, progress).await?);
    }
    kubelet.must_run()?;
    let standing = rig.scheduler.standing(LIVE).await?;
    let (outcomes, pods) = (rig.scheduler.outcomes(LIVE).await?, rig.pods().await?);
    let expected = plan.live_pods + 2 * plan.restarts;
    if pods != expected || standing.launches != plan.live_pods || standing.again > 0 || !outcomes.is_empty() {
        bail!(
            "{expected} pods should live; there are {pods}, with outcomes {outcomes:?} and launches {standing:?}"
        );
    }
    Ok(Restarts { live: plan.live_pods, rounds, takeovers })
}

/// Tasks whose pods run and whose rows say so.
async fn bring_to_life(rig: &Rig, plan: &Plan, progress: &Progress) -> Result<()> {
    let live = plan.live_pods;
    rig.scheduler.new_run(LIVE, live).await?;
    rig.scheduler.queue_all(LIVE, live, plan.batch).await?;
    creates::wait_for_pods(rig, LIVE, live).await?;
    creates::check_pods(rig, LIVE, live).await?;
    rig.scheduler.begin_all(LIVE).await?;
    until_known(rig, live).await?;
    progress.say(&format!("{live} pods run"));
    Ok(())
}

async fn until_known(rig: &Rig, live: usize) -> Result<()> {
    rig.until("the daemon knows that all live pods run", async || {
        // It may not listen yet.
        Ok(Metrics::read(rig.daemon.port()).await.is_ok_and(|metrics| metrics.get(RUNNING) >= live as f64))
    })
    .await
}

async fn restart(rig: &mut Rig, live: usize, round: usize, progress: &Progress) -> Result<Restart> {
    let run = format!("restart-{round}");
    let lookout = Lookout::open(rig, &run).await?;
    rig.daemon.process().kill();
    rig.scheduler.queue(&run, 0..1).await?;
    let spawned = rig.start_daemon_again().await?;
    let first_pod = lookout.first_pod(rig).await?.duration_since(spawned).as_secs_f64();
    let pid = rig.daemon.process().pid();
    let (cpu_ms, memory) = (meter::cpu_ms(pid)?, meter::memory(pid)?);
    until_known(rig, live + round).await?;
    let (all_known, memory_after) = (spawned.elapsed().as_secs_f64(), meter::memory(pid)?);
    one_launch(rig, &run).await?;
    progress.say(&format!(
        "{run}: first pod after {first_pod:.2} s ({cpu_ms:.0} ms CPU, {:.0} MiB at most); all pods known after \
         {all_known:.1} s ({:.0} MiB at most)",
        memory.peak_mib, memory_after.peak_mib
    ));
    Ok(Restart { first_pod, cpu_ms, memory, all_known, memory_after })
}

/// `live`: pods that the standby is to know in the end, before those of these rounds.
async fn take_over(rig: &mut Rig, live: usize, round: usize, progress: &Progress) -> Result<f64> {
    let run = format!("takeover-{round}");
    let standby = rig.start_standby(&format!("standby-{round}")).await?;
    let lookout = Lookout::open(rig, &run).await?;
    let killed = Instant::now();
    rig.daemon.process().kill();
    rig.daemon = standby;
    rig.scheduler.queue(&run, 0..1).await?;
    let first_pod = lookout.first_pod(rig).await?.duration_since(killed).as_secs_f64();
    until_known(rig, live + round).await?;
    one_launch(rig, &run).await?;
    progress.say(&format!("{run}: first pod by the standby {first_pod:.2} s after the leader's end"));
    Ok(first_pod)
}

async fn one_launch(rig: &Rig, run: &str) -> Result<()> {
    let standing = rig.scheduler.standing(run).await?;
    if standing.launches != 1 || standing.again > 0 {
        bail!("the one task of {run} has these launches: {standing:?}");
    }
    Ok(())
}

/// A watch of one run's pods, open before its only task is queued.
struct Lookout(JoinHandle<Result<Instant>>);

impl Lookout {
    /// Makes the run as well: its task is scheduled and not queued.
    async fn open(rig: &Rig, run: &str) -> Result<Self> {
        rig.scheduler.new_run(run, 1).await?;
        let api: Api<LeanPod> = Api::namespaced(rig.plane.client(), NAMESPACE);
        let of_run = watcher::Config::default().labels(&format!("run_id={run}"));
        let mut events = Box::pin(watcher(api, of_run));
        // The list: empty. What follows is watched from there without a gap.
        while !matches!(events.next().await, Some(Ok(watcher::Event::InitDone)) | None) {}
        Ok(Self(tokio::spawn(async move {
            while let Some(event) = events.next().await {
                // After an error kube's watcher goes on where it was.
                if let Ok(watcher::Event::Apply(_) | watcher::Event::InitApply(_)) = event {
                    return Ok(Instant::now());
                }
            }
            bail!("the watch of the new task's pod has ended")
        })))
    }

    async fn first_pod(self, rig: &Rig) -> Result<Instant> {
        let seen = timeout(WITHIN, self.0).await.with_context(|| {
            let log = rig.daemon.process().log_tail(20);
            format!("no pod of the new task after {WITHIN:?}; the daemon's log ends:\n{log}")
        })?;
        seen?
    }
}
