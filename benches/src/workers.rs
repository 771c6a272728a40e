//! Workers, played in the database for all pods that run: a row becomes `running` when its pod does, and `success`
//! before its pod ends. The same for the daemon's pods and for the bare client's.
//!
//! As a worker does it (local task job, host name, heartbeat), but for many pods in one statement: what is measured is
//! the executor, and 100 Python processes a second do not fit this machine.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, watcher};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::pods::LeanPod;
use crate::rig::NAMESPACE;
use crate::scheduler::{DAG, TASK};

/// Rows are written so often; a pod must run for several of these.
const TICK: Duration = Duration::from_millis(100);
/// How long the fake kubelet lets a pod run. The row must say `success` before: it is what the executor reads at the
/// end. Many ticks, because the machine may be short of CPU.
pub(crate) const RUN: Duration = Duration::from_millis(2_500);

const BEGIN: &str = "
    WITH begun AS (
        SELECT * FROM unnest($1::text[], $2::int4[], $3::text[]) AS b (run_id, map_index, pod)
    ), jobs AS (
        INSERT INTO job (dag_id, job_type, state, start_date, latest_heartbeat, hostname)
        SELECT $4::text, 'LocalTaskJob', 'running', now(), now(), pod FROM begun RETURNING id, hostname
    )
    UPDATE task_instance ti
    SET state = 'running', hostname = b.pod, job_id = j.id, pid = 1, start_date = now(), updated_at = now()
    FROM begun b JOIN jobs j ON j.hostname = b.pod
    WHERE ti.dag_id = $4::text AND ti.task_id = $5 AND ti.run_id = b.run_id AND ti.map_index = b.map_index
        AND ti.state = 'queued'";

const END: &str = "
    WITH ended AS (
        SELECT * FROM unnest($1::text[], $2::int4[], $3::text[]) AS e (run_id, map_index, pod)
    ), rows AS (
        UPDATE task_instance ti SET state = 'success', end_date = now(), updated_at = now()
        FROM ended e
        WHERE ti.dag_id = $4::text AND ti.task_id = $5 AND ti.run_id = e.run_id AND ti.map_index = e.map_index
            AND ti.hostname = e.pod AND ti.state = 'running'
        RETURNING ti.job_id
    )
    UPDATE job SET state = 'success', end_date = now(), latest_heartbeat = now()
    FROM rows WHERE job.id = rows.job_id";

struct Worker {
    run_id: String,
    map_index: i32,
}

/// The running loop.
pub(crate) struct Workers {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Workers {
    pub(crate) fn start(client: kube::Client, pool: PgPool) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(play(client, pool, stop.clone()));
        Self { stop, task }
    }

    /// Ends the loop, and tells what it met.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?.context("the played workers failed")
    }
}

async fn play(client: kube::Client, pool: PgPool, stop: CancellationToken) -> Result<()> {
    let api: Api<LeanPod> = Api::namespaced(client, NAMESPACE);
    let mut events = Box::pin(watcher(api, watcher::Config::default()));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // By pod: those that began since the last tick, and those that began before it.
    let (mut new, mut running) = (BTreeMap::new(), BTreeMap::new());
    let mut known = std::collections::BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(event) = events.next() => match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                    if pod.phase() == "Running" && known.insert(pod.name().to_owned()) {
                        new.insert(pod.name().to_owned(), worker(&pod)?);
                    }
                }
                Ok(watcher::Event::Delete(pod)) => {
                    known.remove(pod.name());
                }
                // kube's watcher goes on by itself.
                Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {}
            },
            _ = ticks.tick() => {
                write(&pool, END, std::mem::take(&mut running)).await.context("end workers")?;
                running = new;
                new = BTreeMap::new();
                write(&pool, BEGIN, running.iter()).await.context("begin workers")?;
            }
        }
    }
}

fn worker(pod: &LeanPod) -> Result<Worker> {
    let run_id = pod.annotation("run_id").with_context(|| format!("pod {} has no run_id", pod.name()))?;
    let map_index = pod.annotation("map_index").and_then(|index| index.parse().ok());
    let map_index = map_index.with_context(|| format!("pod {} has no map_index", pod.name()))?;
    Ok(Worker { run_id: run_id.to_owned(), map_index })
}

async fn write<W: std::borrow::Borrow<Worker>, P: AsRef<str>>(
    pool: &PgPool,
    statement: &'static str,
    workers: impl IntoIterator<Item = (P, W)>,
) -> Result<()> {
    let (mut runs, mut indexes, mut pods) = (Vec::new(), Vec::new(), Vec::new());
    for (pod, worker) in workers {
        let worker = worker.borrow();
        runs.push(worker.run_id.clone());
        indexes.push(worker.map_index);
        pods.push(pod.as_ref().to_owned());
    }
    if !pods.is_empty() {
        let query = sqlx::query(statement).bind(runs).bind(indexes).bind(pods).bind(DAG).bind(TASK);
        query.execute(pool).await?;
    }
    Ok(())
}
