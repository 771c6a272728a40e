//! The failures, how each is provoked, and what Airflow then shows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_lab::airflow::LogRow;
use windlass_suite::{Launch, Stack};

use crate::DAG;
use crate::written;

/// From the trigger to the row in Airflow's log table, on two busy cores.
const WITHIN: Duration = Duration::from_secs(90);
/// The longest `info` of an event that Airflow 2.11's scheduler survives for every state.
const INFO_MAX: usize = 250;
/// Pods of a launch that are lost before the task began, until it fails ([kubernetes_executor]
/// pod_launch_failure_retries: one more).
const ATTEMPTS: i32 = 2;

/// One failure.
pub(crate) struct Case {
    /// The task that it is done to.
    task: &'static str,
    /// For the page.
    happened: &'static str,
    how: How,
}

/// Who does it.
enum How {
    /// The API server, or kube-scheduler: what the pod asks for is enough.
    ByItself,
    /// A node does not start the pod: the test writes this status, as its kubelet does.
    Waits(fn() -> Value),
    /// Each pod that the launch makes ends before the worker in it has begun the task; deleted after that, or not.
    EndsBefore(fn() -> Value, Deleted),
    /// The process kubelet ends the container under the running task, on this annotation.
    Fault(&'static str),
    /// The node goes away under the running task.
    NodeGoes,
}

/// What is done to a pod that has ended.
#[derive(PartialEq)]
enum Deleted {
    Yes,
    No,
}

/// In the order of the page.
pub(crate) const CASES: [Case; 13] = [
    Case {
        task: "image_pull_back_off",
        happened: "ImagePullBackOff, until `launch.pending-timeout-seconds` is over",
        how: How::Waits(written::image_pull_back_off),
    },
    Case { task: "err_image_pull", happened: "ErrImagePull", how: How::Waits(written::err_image_pull) },
    Case {
        task: "container_config",
        happened: "CreateContainerConfigError: the Secret of a variable is not there",
        how: How::Waits(written::container_config),
    },
    Case { task: "oom_running", happened: "OOMKilled while the task ran", how: How::Fault("oom") },
    Case {
        task: "oom_before",
        happened: "OOMKilled before the task began, twice",
        how: How::EndsBefore(written::oom_killed, Deleted::No),
    },
    Case { task: "evicted_running", happened: "Evicted while the task ran", how: How::Fault("evict") },
    Case {
        task: "evicted_before",
        happened: "Evicted before the task began, twice",
        how: How::EndsBefore(written::evicted, Deleted::No),
    },
    Case { task: "node_lost_running", happened: "Node lost while the task ran", how: How::NodeGoes },
    Case {
        task: "node_lost_before",
        happened: "Node lost before the task began, twice",
        how: How::EndsBefore(written::node_lost, Deleted::Yes),
    },
    Case {
        task: "service_account",
        happened: "Forbidden: the service account is not there",
        how: How::ByItself,
    },
    Case {
        task: "invalid_spec",
        happened: "Invalid pod spec: a `pod_override` with a request over the limit",
        how: How::ByItself,
    },
    Case {
        task: "unschedulable",
        happened: "Unschedulable, until `launch.pending-timeout-seconds` is over",
        how: How::ByItself,
    },
    Case {
        task: "identity_denied",
        happened: "A `pod_override` asks for the service account of another team, and an identity rule keeps to its own",
        how: How::ByItself,
    },
];

/// What the author reads, with POD for the name of the pod.
pub(crate) struct Told {
    pub(crate) happened: &'static str,
    pub(crate) code: String,
    pub(crate) sentence: String,
    pub(crate) to_do: String,
}

impl Case {
    /// Provokes it and waits for what Airflow says.
    pub(crate) async fn play(&self, stack: &Stack, run: &str) -> Result<Told> {
        let key = (DAG, run, self.task);
        match self.how {
            How::ByItself => {}
            How::Waits(status) => {
                let launch = stack.launch(key, 0, |launch| launch.stage == "created").await?;
                take(stack, &launch.pod_name).await?;
                write(stack, &launch.pod_name, &status()).await?;
                let given_up = stack.launch(key, 0, |launch| launch.outcome.is_some()).await?;
                confirm_delete(stack, &given_up.pod_name).await?;
            }
            How::EndsBefore(status, ref deleted) => {
                for attempt in 1..=ATTEMPTS {
                    let made = |launch: &Launch| launch.attempt == attempt && launch.stage == "created";
                    let pod = stack.launch(key, 0, made).await?.pod_name;
                    take(stack, &pod).await?;
                    write(stack, &pod, &status()).await?;
                    if *deleted == Deleted::Yes {
                        delete(stack, &pod).await?;
                    }
                }
            }
            How::Fault(fault) => {
                let pod = running(stack, key).await?;
                let annotation = json!({ "local-cluster.windlass.dev/fault": fault });
                let patch = Patch::Merge(json!({ "metadata": { "annotations": annotation } }));
                stack.pods().patch(&pod, &PatchParams::default(), &patch).await?;
            }
            How::NodeGoes => {
                let pod = running(stack, key).await?;
                write(stack, &pod, &written::node_lost()).await?;
                delete(stack, &pod).await?;
            }
        }
        self.read(stack, run).await
    }

    /// The task has failed, and the one row that says why.
    async fn read(&self, stack: &Stack, run: &str) -> Result<Told> {
        let failed = |row: &windlass_lab::airflow::TaskRow| row.is("failed");
        let row = stack.airflow.wait_task((DAG, run, self.task, -1), WITHIN, failed).await?;
        let what = format!("what Airflow says of {}", self.task);
        let never_began = row.start_date.is_none() || row.hostname.is_empty();
        let events = stack
            .until(&what, WITHIN, async || {
                let events = of_task(stack.airflow.log_rows(DAG, run).await?, self.task);
                let complete = of(&events, "windlass failure").is_some()
                    && (!never_began || of(&events, "state mismatch").is_some());
                Ok(complete.then_some(events))
            })
            .await?;
        let told = of(&events, "windlass failure").context("no row")?;
        let launches = stack.launches(DAG, run, self.task).await?;
        ensure!(launches.len() == 1, "one queueing was to fail: {launches:?}");
        ensure!(
            events.iter().filter(|row| row.event == "windlass failure").count() == 1,
            "told twice: {events:?}"
        );
        ensure!(told.contains(&format!("Pod airflow/{}", launches[0].pod_name)), "which pod: {told}");
        if let Some(mismatch) = of(&events, "state mismatch") {
            let (_, info) = mismatch.split_once(" Extra info: ").context("no info")?;
            ensure!(info.chars().count() <= INFO_MAX, "longer than Airflow takes: {info}");
            ensure!(info.get(..100) == told.get(..100), "not what the row says: {info}");
        }
        let told = told.replace(&launches[0].pod_name, "POD");
        let mut lines = told.lines();
        let (code, sentence) = lines.next().and_then(|line| line.split_once(": ")).context("no sentence")?;
        let to_do =
            lines.next().and_then(|line| line.strip_prefix("What to do: ")).context("nothing to do")?;
        Ok(Told {
            happened: self.happened,
            code: code.to_owned(),
            sentence: sentence.trim_end().to_owned(),
            to_do: to_do.to_owned(),
        })
    }
}

/// The rows of one task.
pub(crate) fn of_task(rows: Vec<LogRow>, task: &str) -> Vec<LogRow> {
    rows.into_iter().filter(|row| row.task_id == task).collect()
}

/// The text of the first row with this event.
pub(crate) fn of<'a>(rows: &'a [LogRow], event: &str) -> Option<&'a str> {
    rows.iter().find(|row| row.event == event)?.extra.as_deref()
}

/// The pod in which the task's body has begun, once Windlass has seen that too.
async fn running(stack: &Stack, key: (&str, &str, &str)) -> Result<String> {
    stack.body_began(key.1, &format!("{} -1 1", key.2)).await?;
    Ok(stack.launch(key, 0, |launch| launch.stage == "running").await?.pod_name)
}

/// Binds a pod to a node that only the test knows of.
async fn take(stack: &Stack, pod: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "node-of-the-test" },
    });
    let params = PostParams::default();
    stack.pods().create_subresource::<_, Value>("binding", pod, &params, &binding).await?;
    Ok(())
}

async fn write(stack: &Stack, pod: &str, status: &Value) -> Result<()> {
    let patch = Patch::Strategic(json!({ "status": status }));
    stack.pods().patch_status(pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// At once, as PodGC does.
async fn delete(stack: &Stack, pod: &str) -> Result<()> {
    stack.pods().delete(pod, &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

/// The kubelet's answer to the delete of a pod whose containers don't run: a second one without grace.
async fn confirm_delete(stack: &Stack, pod: &str) -> Result<()> {
    let found = stack
        .until(&format!("the delete of {pod}"), WITHIN, async || {
            let found = stack.pods().get_opt(pod).await?;
            let deleting = found.is_none_or(|found| found.metadata.deletion_timestamp.is_some());
            Ok(deleting.then_some(()))
        })
        .await;
    found?;
    match delete(stack, pod).await {
        Err(error) if error.to_string().contains("not found") => Ok(()),
        done => done,
    }
}
