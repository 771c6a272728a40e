//! More at once than can be done: what the daemon holds in memory, how its intake slows, and whether other work goes on.
//!
//! Two trials, each with a daemon of its own, so that the peak of its memory is this trial's: plain tasks; and tasks that
//! can't have a pod, most because the quota of their namespace is full, some because the API server refuses what their
//! template says. Beside each a stream of few good tasks, whose wait is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use windlass_lab::daemon;

use super::arguments::Plan;
use super::creates;
use super::progress::Progress;
use crate::meter;
use crate::metrics::Metrics;
use crate::rig::{NAMESPACE, Rig, WORKER_ACCOUNT};
use crate::scheduler::{Form, Standing};

/// Task instances that the flood queues in one turn: as fast as the database takes them.
const FLOOD_TURN: usize = 5_000;
/// Of the tasks that can't have a pod, one in so many is refused; the others wait for quota.
const REFUSED_ONE_IN: usize = 50;
/// The stream: so many tasks in each of so many turns per second.
const STREAM_TURN: usize = 2;
const STREAM_TURNS: usize = 5;
/// In the plain trial the stream goes before the flood; among tasks of one weight who was queued first goes first.
const URGENT: i32 = 10;
/// The daemon finds 500 tasks per second that were taken back: 100 s for the largest flood, more on a busy machine. Speed
/// must not fail the benchmark.
const CLEARED_WITHIN: Duration = Duration::from_secs(900);
/// The namespace whose quota is full.
const FULL: &str = "full";

/// A look at the daemon.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) resident_mib: f64,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
pub(super) struct Trial {
    /// Task instances of the flood.
    pub(super) tasks: usize,
    /// One per second, the first one before anything is queued.
    pub(super) samples: Vec<Sample>,
    pub(super) peak_mib: f64,
    pub(super) stream: Standing,
    /// Of those tasks of the stream that were queued in the second half of the time.
    pub(super) stream_later: Standing,
    /// From the take-back until the last launch was closed.
    pub(super) clearing: f64,
}

impl Trial {
    /// The most that a sum of samples of the metrics came to.
    pub(super) fn most(&self, of: &[&str]) -> f64 {
        let sum = |sample: &Sample| of.iter().map(|name| sample.metrics.get(name)).sum::<f64>();
        self.samples.iter().map(sum).fold(0.0, f64::max)
    }

    /// Four looks in even distances.
    pub(super) fn quarters(&self) -> impl Iterator<Item = &Sample> {
        let last = self.samples.len().saturating_sub(1);
        (1..=4).filter_map(move |quarter| self.samples.get(last * quarter / 4))
    }

    /// What a metric said in the last look.
    pub(super) fn last(&self, of: &str) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.metrics.get(of))
    }

    /// Steps per second of a counter in the second half.
    pub(super) fn later_rate(&self, of: &str) -> f64 {
        let (Some(from), Some(to)) = (self.samples.get(self.samples.len() / 2), self.samples.last()) else {
            return 0.0;
        };
        (to.metrics.get(of) - from.metrics.get(of)) / (to.seconds - from.seconds).max(1e-3)
    }

    /// Most steps of a counter from one look to the next, per second.
    pub(super) fn top_rate(&self, of: &str) -> f64 {
        let rate = |pair: &[Sample]| {
            let [from, to] = pair else { return 0.0 };
            (to.metrics.get(of) - from.metrics.get(of)) / (to.seconds - from.seconds).max(1e-3)
        };
        self.samples.windows(2).map(rate).fold(0.0, f64::max)
    }
}

#[derive(Debug)]
pub(super) struct Overload {
    pub(super) plain: Trial,
    pub(super) bad: Trial,
}

pub(super) async fn run(rig: &mut Rig, plan: &Plan, progress: &Progress) -> Result<Overload> {
    let plain = plain(rig, plan, progress).await?;
    let bad = bad(rig, plan, progress).await?;
    Ok(Overload { plain, bad })
}

/// Tasks like any other, only too many.
async fn plain(rig: &mut Rig, plan: &Plan, progress: &Progress) -> Result<Trial> {
    let (run, stream) = ("flood", "stream-beside-flood");
    rig.renew_daemon(&[]).await?;
    rig.scheduler.new_run(run, plan.flood).await?;
    rig.scheduler.new_run_of(stream, stream_tasks(plan), &Form::with_weight(URGENT)).await?;
    let trial = trial(rig, plan, &[(run, plan.flood)], stream, progress).await?;
    only_withdrawn(rig, run).await?;
    Ok(trial)
}

/// Tasks that can't have a pod.
async fn bad(rig: &mut Rig, plan: &Plan, progress: &Progress) -> Result<Trial> {
    let (held, refused, stream) = ("held", "refused", "stream-beside-bad");
    let listed = format!("{NAMESPACE},{FULL}");
    fill_a_namespace(rig).await?;
    rig.renew_daemon(&[
        ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE", "True"),
        ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE_NAMESPACE_LIST", &listed),
    ])
    .await?;
    let refusals = (plan.flood / REFUSED_ONE_IN).max(1);
    let holds = (plan.flood - refusals).max(1);
    let template = rig.template_with("restartPolicy: Never", "restartPolicy: Sometimes")?;
    rig.scheduler.new_run_of(held, holds, &Form::in_namespace(FULL)).await?;
    rig.scheduler.new_run_of(refused, refusals, &Form::with_template(&template)).await?;
    rig.scheduler.new_run(stream, stream_tasks(plan)).await?;
    let trial = trial(rig, plan, &[(held, holds), (refused, refusals)], stream, progress).await?;
    let created = (rig.scheduler.created(held).await?, rig.scheduler.created(refused).await?);
    ensure!(created == (0, 0), "(held, refused) tasks got pods that could not be: {created:?}");
    only_withdrawn(rig, held).await?;
    check_refused(rig, refused).await?;
    Ok(trial)
}

/// All that was taken in failed, and Airflow was told so; the rest was taken back.
async fn check_refused(rig: &Rig, run: &str) -> Result<()> {
    let (mut outcomes, states) = (rig.scheduler.outcomes(run).await?, rig.scheduler.states(run).await?);
    outcomes.remove("withdrawn");
    let failed = states.get("failed").copied().unwrap_or(0);
    let as_expected = outcomes.len() == 1
        && outcomes.iter().all(|(outcome, count)| outcome.starts_with("failure ") && *count == failed);
    ensure!(as_expected, "refused tasks have the states {states:?} and the outcomes {outcomes:?}");
    Ok(())
}

async fn only_withdrawn(rig: &Rig, run: &str) -> Result<()> {
    let (outcomes, standing) = (rig.scheduler.outcomes(run).await?, rig.scheduler.standing(run).await?);
    if outcomes != BTreeMap::from([("withdrawn".to_owned(), standing.launches)]) || standing.again > 0 {
        bail!("{run} was taken back; its outcomes are {outcomes:?} of {standing:?}");
    }
    Ok(())
}

/// A namespace that the daemon may use and whose quota is full. The lab has no controller that counts, so what is used is
/// written here; the API server's admission holds to it.
async fn fill_a_namespace(rig: &Rig) -> Result<()> {
    rig.plane.create_namespace(FULL).await?;
    rig.plane.create_service_account(FULL, WORKER_ACCOUNT).await?;
    daemon::give_account(&rig.plane, FULL).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(rig.plane.client(), FULL);
    let quota = json!({ "metadata": { "name": FULL }, "spec": { "hard": { "pods": "1" } } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await.context("make a quota")?;
    let full = json!({ "status": { "hard": { "pods": "1" }, "used": { "pods": "1" } } });
    let patched = quotas.patch_status(FULL, &PatchParams::default(), &Patch::Merge(full)).await;
    patched.context("fill the quota")?;
    Ok(())
}

fn stream_tasks(plan: &Plan) -> usize {
    plan.overload_seconds * STREAM_TURNS * STREAM_TURN
}

/// Floods, streams and looks for the given time; then takes everything back.
async fn trial(
    rig: &Rig,
    plan: &Plan,
    flood: &[(&str, usize)],
    stream: &str,
    progress: &Progress,
) -> Result<Trial> {
    let tasks = flood.iter().map(|(_, tasks)| tasks).sum();
    let runs: Vec<&str> = flood.iter().map(|(run, _)| *run).chain([stream]).collect();
    let began = Instant::now();
    let queueing = async {
        for (run, tasks) in flood {
            rig.scheduler.queue_all(run, *tasks, FLOOD_TURN).await?;
        }
        rig.scheduler.analyze().await?;
        progress.say(&format!("{tasks} tasks ({}) queued in {:.1} s", runs.join(", "), since(began)));
        anyhow::Ok(())
    };
    let ((), samples) = tokio::try_join!(queueing, beside(rig, plan, stream, began, progress))?;
    creates::wait_for_pods(rig, stream, stream_tasks(plan)).await?;
    let standing = rig.scheduler.standing(stream).await?;
    if standing.launches != stream_tasks(plan) || standing.again > 0 {
        bail!("{} tasks of {stream} have these launches: {standing:?}", stream_tasks(plan));
    }
    let stream_later = rig.scheduler.standing_from(stream, stream_tasks(plan) / 2).await?;
    let clearing = Instant::now();
    clear(rig, &runs).await?;
    let clearing = since(clearing);
    let peak_mib = meter::memory(rig.daemon.process().pid())?.peak_mib;
    let Standing { p50, p99, worst, .. } = standing;
    progress.say(&format!(
        "{stream}: queued to created p50 {:.0} ms, p99 {:.0} ms, worst {:.0} ms; {peak_mib:.0} MiB at most; cleared in \
         {clearing:.1} s",
        p50 * 1e3,
        p99 * 1e3,
        worst * 1e3
    ));
    Ok(Trial { tasks, samples, peak_mib, stream: standing, stream_later, clearing })
}

fn since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

/// The stream, the scheduler's answer to failures, and a look each second.
async fn beside(
    rig: &Rig,
    plan: &Plan,
    stream: &str,
    began: Instant,
    progress: &Progress,
) -> Result<Vec<Sample>> {
    let mut samples = vec![look(rig, began).await?];
    let mut turns = interval(Duration::from_secs_f64(1.0 / STREAM_TURNS as f64));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for from in (0..stream_tasks(plan)).step_by(STREAM_TURN) {
        turns.tick().await;
        rig.scheduler.queue(stream, from..from + STREAM_TURN).await?;
        if (from / STREAM_TURN + 1).is_multiple_of(STREAM_TURNS) {
            rig.scheduler.fail().await?;
            rig.scheduler.deliver().await?;
            let sample = look(rig, began).await?;
            if samples.len().is_multiple_of(5) {
                progress.say(&sample.line());
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

async fn look(rig: &Rig, began: Instant) -> Result<Sample> {
    let (metrics, memory) =
        (Metrics::read(rig.daemon.port()).await?, meter::memory(rig.daemon.process().pid())?);
    Ok(Sample { seconds: since(began), resident_mib: memory.now_mib, metrics })
}

impl Sample {
    fn line(&self) -> String {
        let of = |name: &str| self.metrics.get(name);
        format!(
            "after {:.0} s: {} claimed, {} created, {} failed, {} ready, {:.0} MiB",
            self.seconds,
            of("windlass_launches_claimed_total"),
            of("windlass_pods_created_total"),
            of("windlass_outcomes_total{outcome=\"failure\"}"),
            of("windlass_launches_ready"),
            self.resident_mib
        )
    }
}

/// Takes the runs back, until nothing of them is left.
async fn clear(rig: &Rig, runs: &[&str]) -> Result<()> {
    rig.scheduler.fail().await?;
    for run in runs {
        rig.scheduler.take_back(run).await?;
    }
    rig.until_within(CLEARED_WITHIN, "the launches of the flood are closed", async || {
        rig.scheduler.fail().await?;
        rig.scheduler.deliver().await?;
        Ok(rig.scheduler.left(runs).await? == 0)
    })
    .await?;
    let pods = rig.pods().await?;
    ensure!(pods == 0, "all was taken back and {pods} pods are left");
    Ok(())
}
