//! `windlass status`: how things stand, from the database alone.

use std::time::Duration;

use scheduler_bridge::Status;
use windlass_core::store::StoredStage;

use crate::cli::{Failure, Form, print};
use crate::config::Config;
use crate::login;
use crate::show::table;

/// Failures shown.
const FAILURES: u32 = 10;
/// Clears the screen and goes to its top (ECMA-48).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Shows it once, or every so often until interrupted.
pub async fn status(config: &Config, form: Form, every: Option<Duration>) -> Result<(), Failure> {
    let store = login::open(config).await?;
    store.check().await?;
    let installation = store.installation().await?;
    let address = store.config().to_string();
    loop {
        let status = store.status(FAILURES).await?;
        match form {
            Form::Json => print(&format!("{}\n", json(&status, &installation.0)?))?,
            Form::Text => {
                let clear = if every.is_some() { CLEAR } else { "" };
                let head = format!("installation {} at {address}\n", installation.0);
                print(&format!("{clear}{head}{}", text(&status)))?;
            }
        }
        let Some(every) = every else { break };
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    store.close().await;
    Ok(())
}

/// One line, so that --watch gives a stream of documents.
fn json(status: &Status, installation: &str) -> Result<String, Failure> {
    let failed = |error: serde_json::Error| Failure::other(format!("the status cannot be written: {error}"));
    let mut document = serde_json::to_value(status).map_err(failed)?;
    if let Some(object) = document.as_object_mut() {
        object.insert("installation".into(), installation.into());
    }
    Ok(document.to_string())
}

fn text(status: &Status) -> String {
    let mut text = format!("leader       {}\n", leader(status));
    text.push_str(&format!(
        "queued       {} without a launch, {} handed over\n",
        status.queued, status.handovers
    ));
    // In the order in which a launch passes them.
    let stages = StoredStage::ALL.into_iter().map(StoredStage::as_str);
    let stages: Vec<_> =
        stages.filter_map(|stage| Some(format!("{} {stage}", status.launches.get(stage)?))).collect();
    text.push_str(&format!("launches     {}\n", stages.join(", ")));
    text.push_str(&format!("undelivered  {}\n", status.undelivered));
    text.push_str("\nschedulers\n");
    if status.schedulers.is_empty() {
        text.push_str("  none has registered: set [core] executor = windlass_airflow.WindlassExecutor and restart them\n");
    } else {
        text.push_str(&indented(&schedulers(status)));
    }
    text.push_str("\nrecent failures\n");
    if status.failures.is_empty() {
        text.push_str("  none\n");
    } else {
        text.push_str(&indented(&failures(status)));
    }
    text
}

fn leader(status: &Status) -> String {
    let term = &status.term;
    match (&term.holder, term.expires_in_ms) {
        (Some(holder), Some(ms)) if ms >= 0 => {
            format!("{holder} (term {}, for another {})", term.epoch, ago(ms))
        }
        (Some(holder), Some(ms)) => {
            format!("none: term {} of {holder} expired {} ago; is a daemon running?", term.epoch, ago(-ms))
        }
        _ if term.epoch == 0 => "none yet: no daemon has ever led here".to_owned(),
        _ => format!("none: term {} was handed over; is a daemon running?", term.epoch),
    }
}

fn schedulers(status: &Status) -> String {
    let mut rows = vec![["JOB", "HOST", "AIRFLOW", "PLUGIN", "SEEN", "EXECUTOR"].map(str::to_owned)];
    for scheduler in &status.schedulers {
        let default = if scheduler.is_default { " (default)" } else { "" };
        let hook = if scheduler.has_pod_mutation_hook { "; has a pod_mutation_hook" } else { "" };
        rows.push([
            scheduler.job_id.to_string(),
            scheduler.hostname.clone(),
            scheduler.airflow_version.clone(),
            scheduler.plugin_version.clone(),
            format!("{} ago", ago(scheduler.seen_ms_ago)),
            format!("{}{default}{hook}", scheduler.executor_names.join(", ")),
        ]);
    }
    table(&rows)
}

fn failures(status: &Status) -> String {
    let mut rows = vec![["AT", "TASK", "REASON", "POD", "MESSAGE"].map(str::to_owned)];
    for failure in &status.failures {
        rows.push([
            failure.at.clone(),
            format!("{} try {}", failure.queueing.key, failure.queueing.try_number),
            failure.reason.clone(),
            failure.pod.clone(),
            failure.message.replace('\n', " "),
        ]);
    }
    table(&rows)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn ago(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scheduler_bridge::{Failure as Failed, SchedulerStatus, TermStatus};
    use windlass_core::ids::{Queueing, TaskKey};
    use windlass_core::time::UtcMicros;

    use super::*;

    fn a_status() -> Status {
        let key = TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "r1".into(), map_index: 3 };
        Status {
            queued: 7,
            handovers: 2,
            launches: BTreeMap::from([("claimed", 1), ("created", 2), ("closed", 0), ("running", 40)]),
            undelivered: 3,
            term: TermStatus { epoch: 5, holder: Some("9f1c/windlass".into()), expires_in_ms: Some(3_200) },
            schedulers: vec![SchedulerStatus {
                job_id: 38,
                hostname: "scheduler-0".into(),
                airflow_version: "2.11.2".into(),
                plugin_version: "0.1.0".into(),
                executor_names: vec!["WindlassExecutor".into()],
                is_default: true,
                has_pod_mutation_hook: true,
                seen_ms_ago: 900,
            }],
            failures: vec![Failed {
                queueing: Queueing { key, try_number: 2, queued_at: UtcMicros(0) },
                reason: "OomKilled".into(),
                message: "container `base` was killed\nfor its memory limit".into(),
                pod: "etl/etl-load-abcdefgh".into(),
                at: "2026-01-01T00:00:00.000000Z".into(),
            }],
        }
    }

    #[test]
    fn it_says_who_leads_what_waits_and_what_failed() {
        insta::assert_snapshot!(text(&a_status()), @r"
        leader       9f1c/windlass (term 5, for another 3.2 s)
        queued       7 without a launch, 2 handed over
        launches     1 claimed, 2 created, 40 running, 0 closed
        undelivered  3

        schedulers
          JOB  HOST         AIRFLOW  PLUGIN  SEEN        EXECUTOR
          38   scheduler-0  2.11.2   0.1.0   900 ms ago  WindlassExecutor (default); has a pod_mutation_hook

        recent failures
          AT                           TASK                   REASON     POD                    MESSAGE
          2026-01-01T00:00:00.000000Z  etl.load r1 [3] try 2  OomKilled  etl/etl-load-abcdefgh  container `base` was killed for its memory limit
        ");
        let mut status = a_status();
        status.term.expires_in_ms = Some(-150_000);
        assert_eq!(leader(&status), "none: term 5 of 9f1c/windlass expired 2 min ago; is a daemon running?");
    }

    #[test]
    fn json_is_one_line_with_the_installation() {
        let line = json(&a_status(), "6f1c0f8e").unwrap();
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!((&document["installation"], &document["queued"]), (&"6f1c0f8e".into(), &7.into()));
    }
}
