//! `--repair`: shows, asks, does. What is safe, and why, is said in `windlass_core::doctor::Repair`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use windlass_cluster::Cluster;
use windlass_core::cluster::DeleteAnswer;
use windlass_core::doctor::{Finding, Limits, Repair, count};
use windlass_core::ids::{LaunchId, PodRef, PodUid};

use super::gather::Seen;
use super::report::Report;
use crate::cli::{Failure, print};
use crate::config::Config;

/// Launches per statement.
const BATCH: usize = 500;

/// What became of one repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mended {
    repair: Repair,
    result: Result<(), String>,
}

impl Mended {
    /// Whether the finding's repair was done.
    pub(super) fn of(&self, finding: &Finding) -> bool {
        self.result.is_ok() && finding.repair.as_ref() == Some(&self.repair)
    }

    /// For the document.
    pub(super) fn json(&self) -> Value {
        json!({"repair": self.repair, "done": self.result.is_ok(), "why": self.result.as_ref().err()})
    }
}

/// Everything that the findings offer, each once.
pub(super) fn plan(report: &Report) -> Vec<Repair> {
    let mut plan: Vec<Repair> = Vec::new();
    for repair in report.findings.iter().filter_map(|finding| finding.repair.as_ref()) {
        if !plan.contains(repair) {
            plan.push(repair.clone());
        }
    }
    plan
}

/// The plan for people.
pub(super) fn shown(plan: &[Repair]) -> String {
    if plan.is_empty() {
        return "\nnothing that --repair could mend\n".to_owned();
    }
    let mut text = format!("\n{} that can be made safely:\n", count(plan.len(), "repair", "repairs"));
    for repair in plan {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {repair}");
    }
    text
}

/// Asks on the terminal.
pub(super) fn agreed() -> Result<bool, Failure> {
    print("\nDo that? [y/N] ")?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Does it, one after the other.
pub(super) async fn mend(seen: &Seen, config: Option<&Config>, plan: Vec<Repair>) -> Vec<Mended> {
    let grace = config.and_then(|config| config.kubernetes.delete_grace_seconds);
    let launches: Vec<LaunchId> = plan.iter().filter_map(launch_of).collect();
    // The age at which the finding counts, compared anew by the database's clock.
    let age = config.map_or_else(Limits::default, Config::doctor_limits).undelivered_ms;
    let delivered = mark(seen, &launches, Duration::from_millis(age)).await;
    let mut done = Vec::new();
    for repair in plan {
        let result = match &repair {
            Repair::DeleteUnboundPod { pod, uid, resource_version }
            | Repair::DeleteEndedPod { pod, uid, resource_version } => match &seen.cluster {
                Some(cluster) => delete(cluster, (pod, uid, resource_version), grace).await,
                None => Err("the API server cannot be asked".into()),
            },
            Repair::MarkDelivered { launch } => match &delivered {
                Ok(delivered) if delivered.contains(launch) => Ok(()),
                Ok(_) => Err("it was delivered meanwhile, or its row is locked; look again".into()),
                Err(error) => Err(error.clone()),
            },
        };
        done.push(Mended { repair, result });
    }
    done
}

fn launch_of(repair: &Repair) -> Option<LaunchId> {
    match repair {
        Repair::MarkDelivered { launch } => Some(launch.clone()),
        Repair::DeleteUnboundPod { .. } | Repair::DeleteEndedPod { .. } => None,
    }
}

async fn mark(seen: &Seen, launches: &[LaunchId], age: Duration) -> Result<BTreeSet<LaunchId>, String> {
    let mut marked = BTreeSet::new();
    let Some(store) = &seen.store else { return Ok(marked) };
    for batch in launches.chunks(BATCH) {
        marked.extend(store.mark_delivered(batch, age).await.map_err(|error| error.chain())?);
    }
    Ok(marked)
}

async fn delete(
    cluster: &Cluster,
    (pod, uid, version): (&PodRef, &PodUid, &str),
    grace: Option<u32>,
) -> Result<(), String> {
    match cluster.delete(pod, uid, Some(version), grace).await {
        DeleteAnswer::Accepted | DeleteAnswer::Gone => Ok(()),
        DeleteAnswer::Moved => {
            Err("it has changed since it was looked at; nothing was deleted, look again".into())
        }
        DeleteAnswer::Failed { error } => Err(error),
    }
}

/// What was done, for people.
pub(super) fn told(done: &[Mended]) -> String {
    let mut text = String::from("\n");
    for mended in done {
        let _ = match &mended.result {
            Ok(()) => writeln!(text, "done: {}", mended.repair),
            Err(why) => writeln!(text, "not done: {}: {why}", mended.repair),
        };
    }
    text
}
