//! A namespace without room: its task is held, not failed. Its author reads of it after `task_queued_timeout`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use windlass_lab::airflow::Component;
use windlass_suite::Stack;

use crate::DAG;
use crate::cases::{of, of_task};

/// Where the task's pod is to go.
pub(crate) const NAMESPACE: &str = "team";
const TASK: &str = "quota";
const WITHIN: Duration = Duration::from_secs(90);

/// What is said of a held task, with POD for the name of its pod and RUN for its run.
pub(crate) struct Held {
    /// `windlass explain`.
    pub(crate) explained: String,
    /// A line of the scheduler's log.
    pub(crate) logged: String,
    /// Events in the Audit Log, in their order.
    pub(crate) events: Vec<(String, String)>,
}

/// A ResourceQuota for one pod, which is there.
pub(crate) async fn fill(stack: &Stack) -> Result<()> {
    let quotas: Api<ResourceQuota> = Api::namespaced(stack.plane.client(), NAMESPACE);
    let quota = json!({ "metadata": { "name": "pods" }, "spec": { "hard": { "pods": "1" } } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    // Before its controller has looked once, the quota refuses all pods with other words.
    stack
        .until("the quota is counted", WITHIN, async || {
            let status = quotas.get("pods").await?.status.unwrap_or_default();
            Ok(status.used.is_some_and(|used| used.contains_key("pods")).then_some(()))
        })
        .await?;
    let pods: Api<Pod> = Api::namespaced(stack.plane.client(), NAMESPACE);
    let other = json!({
        "metadata": { "name": "of-somebody-else" },
        "spec": { "schedulerName": "the-test", "containers": [{ "name": "base", "image": "busybox" }] },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
    Ok(())
}

/// Reads all that is said until Airflow takes the task back.
pub(crate) async fn hold(stack: &Stack, run: &str) -> Result<Held> {
    let launch = stack.launch((DAG, run, TASK), 0, |launch| launch.stage == "claimed").await?;
    let explained = stack
        .until("the explanation of the quota", WITHIN, async || {
            let told = stack.windlass(&["explain", DAG, TASK, run, "--output", "json"]).await?;
            let told: Value = serde_json::from_str(&told).context("the JSON of `windlass explain`")?;
            let what = told["why"]["what"].as_str().context("no answer")?.to_owned();
            Ok((told["why"]["code"] == "quota").then_some(what))
        })
        .await?;
    let stays = "has been queued for long, and stays: ";
    let logged = stack
        .until("the line in the scheduler's log", WITHIN, async || {
            let log = fs::read_to_string(stack.airflow.log(Component::Scheduler))?;
            let of_task = |line: &&str| line.contains(stays) && line.contains(&format!("task_id='{TASK}'"));
            Ok(log
                .lines()
                .find(of_task)
                .and_then(|line| line.split_once(stays))
                .map(|(_, why)| why.to_owned()))
        })
        .await?;
    let names = ["windlass withdrawn", "stuck in queued reschedule"];
    let events = stack
        .until("the events of a task that was taken back", WITHIN, async || {
            let rows = of_task(stack.airflow.log_rows(DAG, run).await?, TASK);
            let found = names.map(|name| of(&rows, name).map(|text| (name.to_owned(), text.to_owned())));
            Ok(found.into_iter().collect::<Option<Vec<_>>>())
        })
        .await?;
    // The dry run of an explanation has a name of its own.
    let dry_run = format!("windlass-try-{}", launch.launch_id);
    let placed =
        |text: String| text.replace(&launch.pod_name, "POD").replace(&dry_run, "POD").replace(run, "RUN");
    Ok(Held {
        explained: placed(explained),
        logged: placed(logged),
        events: events.into_iter().map(|(event, text)| (event, placed(text))).collect(),
    })
}
