//! End to end: a real Airflow runs its tasks through Windlass, on a real kube-apiserver, in real processes.
//!
//! It is Airflow 2.11, or what `WINDLASS_TEST_AIRFLOW` names; `cargo xtask test airflow` runs this file with 2.11 and
//! then with 2.10.
//! All tests share one deployment. Most share it at the same time; those that stop parts of it have it for themselves.

#[path = "airflow/hooks.rs"]
mod hooks;
#[path = "airflow/logs.rs"]
mod logs;
#[path = "airflow/other_runs.rs"]
mod other_runs;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::RwLock;
use windlass_lab::airflow::Component;
use windlass_lab::prepare::Series;
use windlass_suite::{Setup, Stack, kill_container, processes_of};

/// A run of a few tasks, on two busy cores.
const RUN: Duration = Duration::from_secs(180);
/// From a worker's death to its new state in Airflow: the promise.
const DEATH: Duration = Duration::from_secs(5);

struct Shared {
    runtime: Runtime,
    stack: RwLock<Stack>,
    /// Bodies of one DAG run of `many`.
    many: usize,
}

#[expect(clippy::expect_used, reason = "without a deployment no test can run")]
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let series = Series::of_environment().expect("a series of Airflow");
    let stack = runtime.block_on(Stack::start(Setup::suite(series))).expect("the deployment starts");
    Shared { runtime, stack: RwLock::new(stack), many: Setup::many(series) }
});

/// Beside other tests.
fn beside(test: impl AsyncFnOnce(&Stack) -> Result<()>) -> Result<()> {
    SHARED.runtime.block_on(async { test(&*SHARED.stack.read().await).await })
}

/// With the whole deployment for itself.
fn alone(test: impl AsyncFnOnce(&mut Stack) -> Result<()>) -> Result<()> {
    SHARED.runtime.block_on(async { test(&mut *SHARED.stack.write().await).await })
}

/// Every launch of a run is over and delivered, and no pod that should be gone is left.
async fn nothing_is_left(stack: &Stack, dag: &str, run: &str, tasks: &[&str]) -> Result<()> {
    for task in tasks {
        stack
            .until(
                &format!("the end of all launches of {task} in {run}"),
                Duration::from_secs(60),
                async || {
                    let launches = stack.launches(dag, run, task).await?;
                    Ok(launches
                        .iter()
                        .all(|launch| launch.stage == "closed" && launch.delivered)
                        .then_some(()))
                },
            )
            .await?;
        for launch in stack.launches(dag, run, task).await? {
            let kept = launch.outcome.as_deref() == Some("failure");
            let pod = stack.pods().get_opt(&launch.pod_name).await?;
            ensure!(
                kept || pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()),
                "left over: {launch:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_chain_succeeds_and_leaves_nothing() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("chain").await?;
        ensure!(stack.airflow.wait_run("chain", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["first -1 1", "second -1 1"]);
        nothing_is_left(stack, "chain", &run, &["first", "second"]).await
    })
}

#[test]
fn failures_are_retried_and_call_back_once() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("failing").await?;
        ensure!(stack.airflow.wait_run("failing", &run, RUN).await? == "failed");
        let mut bodies = stack.bodies(&run);
        bodies.sort();
        assert_eq!(bodies, ["fails -1 1", "fails -1 2", "fails_once -1 1", "fails_once -1 2"]);
        let callbacks: Vec<String> =
            stack.file("callbacks").lines().filter(|line| line.contains(&run)).map(str::to_owned).collect();
        assert_eq!(callbacks, [format!("retry fails {run} 1"), format!("failure fails {run} 2")]);
        let launch = stack.launch(("failing", &run, "fails"), 1, |launch| launch.stage == "closed").await?;
        assert_eq!(
            (launch.outcome.as_deref(), launch.reason.as_deref()),
            (Some("failure"), Some("TaskFailed"))
        );
        nothing_is_left(stack, "failing", &run, &["fails", "fails_once"]).await
    })
}

#[test]
fn every_mapped_task_runs_once() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("mapped").await?;
        ensure!(stack.airflow.wait_run("mapped", &run, RUN).await? == "success");
        let mut bodies = stack.bodies(&run);
        bodies.sort();
        assert_eq!(bodies, (0..5).map(|index| format!("one {index} 1")).collect::<Vec<_>>());
        nothing_is_left(stack, "mapped", &run, &["one"]).await
    })
}

#[test]
fn a_deferred_task_comes_back_as_a_new_queueing_of_the_same_try() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("deferrable").await?;
        ensure!(stack.airflow.wait_run("deferrable", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["defers -1 1"]);
        assert_eq!(stack.file("resumed").lines().filter(|line| *line == format!("{run} 1")).count(), 1);
        assert_eq!(stack.launches("deferrable", &run, "defers").await?.len(), 2);
        nothing_is_left(stack, "deferrable", &run, &["defers"]).await
    })
}

#[test]
fn a_rescheduled_sensor_is_launched_for_each_look() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("rescheduling").await?;
        ensure!(stack.airflow.wait_run("rescheduling", &run, RUN).await? == "success");
        let bodies = stack.bodies(&run);
        assert_eq!(bodies, ["looks -1 1", "looks -1 1", "looks -1 1"]);
        assert_eq!(stack.launches("rescheduling", &run, "looks").await?.len(), 3);
        nothing_is_left(stack, "rescheduling", &run, &["looks"]).await
    })
}

#[test]
fn a_pod_override_reaches_the_task() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("overridden").await?;
        ensure!(stack.airflow.wait_run("overridden", &run, RUN).await? == "success");
        nothing_is_left(stack, "overridden", &run, &["reads"]).await
    })
}

#[test]
fn killed_workers_are_failed_or_retried_at_once_with_the_reason() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("blocking").await?;
        let tasks = ["blocks", "blocks_with_a_retry", "blocks_with_a_callback"];
        let mut killed = BTreeMap::new();
        for task in tasks {
            stack.body_began(&run, &format!("{task} -1 1")).await?;
            let launch =
                stack.launch(("blocking", &run, task), 0, |launch| launch.stage == "running").await?;
            ensure!(kill_container(&launch.pod_name) > 0, "no process of {}", launch.pod_name);
            killed.insert(task, Instant::now());
            if task != "blocks_with_a_callback" {
                let left = |row: &windlass_lab::airflow::TaskRow| !row.is("running");
                stack.airflow.wait_task(("blocking", &run, task, -1), DEATH, left).await?;
            }
        }
        // With a callback it takes the DAG processor's next pass of the file.
        let failed = |row: &windlass_lab::airflow::TaskRow| row.is("failed");
        let pass = Duration::from_secs(60);
        stack.airflow.wait_task(("blocking", &run, "blocks_with_a_callback", -1), pass, failed).await?;
        ensure!(stack.airflow.wait_run("blocking", &run, RUN).await? == "failed");
        let mut bodies = stack.bodies(&run);
        bodies.sort();
        let expected = [
            "blocks -1 1",
            "blocks_with_a_callback -1 1",
            "blocks_with_a_retry -1 1",
            "blocks_with_a_retry -1 2",
        ];
        assert_eq!(bodies, expected);
        let called = stack.file("callbacks");
        assert_eq!(
            called.lines().filter(|line| line.contains(&format!("blocks_with_a_callback {run}"))).count(),
            1
        );
        let log = stack.airflow.log_rows("blocking", &run).await?;
        for task in tasks {
            let told = |row: &&windlass_lab::airflow::LogRow| {
                row.task_id == task && row.extra.as_deref().is_some_and(|extra| extra.contains("Killed"))
            };
            ensure!(log.iter().any(|row| told(&row)), "no reason for {task} in the log table: {log:?}");
        }
        nothing_is_left(stack, "blocking", &run, &tasks).await
    })
}

#[test]
fn a_graceful_delete_is_handled_once_by_the_worker_itself() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("single").await?;
        stack.body_began(&run, "blocks -1 1").await?;
        let launch = stack.launch(("single", &run, "blocks"), 0, |launch| launch.stage == "running").await?;
        stack.pods().delete(&launch.pod_name, &DeleteParams::default()).await?;
        stack.body_began(&run, "blocks -1 2").await?;
        stack.go(&run)?;
        ensure!(stack.airflow.wait_run("single", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["blocks -1 1", "blocks -1 2"]);
        nothing_is_left(stack, "single", &run, &["blocks"]).await
    })
}

#[test]
fn a_second_pod_of_a_running_try_is_ignored() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("single").await?;
        stack.body_began(&run, "blocks -1 1").await?;
        let launch = stack.launch(("single", &run, "blocks"), 0, |launch| launch.stage == "running").await?;
        let mut copy: Pod = stack.pods().get(&launch.pod_name).await?;
        let name = format!("copy-of-{run}");
        copy.metadata = kube::api::ObjectMeta {
            name: Some(name.clone()),
            labels: copy.metadata.labels,
            annotations: copy.metadata.annotations,
            ..Default::default()
        };
        copy.spec.as_mut().context("no spec")?.node_name = None;
        copy.status = None;
        stack.pods().create(&PostParams::default(), &copy).await?;
        let ended =
            |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
        stack
            .until("the second pod's end", Duration::from_secs(90), async || {
                Ok(stack.pods().get_opt(&name).await?.filter(ended).map(|_| ()))
            })
            .await?;
        let row = stack.airflow.task("single", &run, "blocks", -1).await?.context("no row")?;
        ensure!(row.is("running") && row.hostname == launch.pod_name, "{row:?}");
        stack.go(&run)?;
        ensure!(stack.airflow.wait_run("single", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["blocks -1 1"]);
        stack.pods().delete(&name, &DeleteParams::default()).await?;
        nothing_is_left(stack, "single", &run, &["blocks"]).await
    })
}

/// Binds a pending pod by hand, as the scheduler that it waits for would.
async fn bind(stack: &Stack, pod: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "suite"},
    });
    stack
        .pods()
        .create_subresource::<_, serde_json::Value>("binding", pod, &PostParams::default(), &binding)
        .await?;
    Ok(())
}

#[test]
fn a_pod_deleted_while_pending_is_launched_again_without_burning_a_try() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("pending").await?;
        let task = ("pending", run.as_str(), "waits");
        let first = stack.launch(task, 0, |launch| launch.stage == "created").await?;
        stack.pods().delete(&first.pod_name, &DeleteParams::default()).await?;
        let second = stack.launch(task, 0, |launch| launch.attempt == 2 && launch.stage == "created").await?;
        ensure!(second.pod_name != first.pod_name);
        bind(stack, &second.pod_name).await?;
        ensure!(stack.airflow.wait_run("pending", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["waits -1 1"]);
        nothing_is_left(stack, "pending", &run, &["waits"]).await
    })
}

#[test]
fn a_task_cleared_while_queued_loses_its_pod() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("pending").await?;
        let task = ("pending", run.as_str(), "waits");
        let first = stack.launch(task, 0, |launch| launch.stage == "created").await?;
        stack.airflow.clear("pending", &run, &["waits"]).await?;
        let withdrawn = stack.launch(task, 0, |launch| launch.stage == "closed").await?;
        assert_eq!(withdrawn.outcome.as_deref(), Some("withdrawn"));
        ensure!(stack.pods().get_opt(&first.pod_name).await?.is_none(), "its pod is left");
        let second = stack.launch(task, 1, |launch| launch.stage == "created").await?;
        bind(stack, &second.pod_name).await?;
        ensure!(stack.airflow.wait_run("pending", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run).len(), 1);
        nothing_is_left(stack, "pending", &run, &["waits"]).await
    })
}

#[test]
fn a_task_marked_failed_while_running_stays_failed() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("single").await?;
        stack.body_began(&run, "blocks -1 1").await?;
        stack.airflow.mark("single", &run, "blocks", "failed").await?;
        let launch = stack.launch(("single", &run, "blocks"), 0, |launch| launch.stage == "closed").await?;
        let row = stack.airflow.task("single", &run, "blocks", -1).await?.context("no row")?;
        ensure!(row.is("failed"), "{row:?} {launch:?}");
        ensure!(processes_of(&launch.pod_name).is_empty());
        assert_eq!(stack.bodies(&run), ["blocks -1 1"]);
        nothing_is_left(stack, "single", &run, &["blocks"]).await
    })
}

#[test]
fn an_executor_config_that_is_no_pod_fails_its_task_alone() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("bad").await?;
        ensure!(stack.airflow.wait_run("bad", &run, RUN).await? == "failed");
        assert_eq!(stack.bodies(&run), ["well -1 1"]);
        let log = stack.airflow.log_rows("bad", &run).await?;
        let told = |extra: &str| extra.contains("ExecutorConfigInvalid") && extra.contains("pod_override");
        let seen = log.iter().any(|row| row.task_id == "no_pod" && row.extra.as_deref().is_some_and(told));
        ensure!(seen, "the reason is not in Airflow's log table: {log:?}");
        nothing_is_left(stack, "bad", &run, &["no_pod", "well"]).await
    })
}

#[test]
fn a_new_scheduler_adopts_what_runs() -> Result<()> {
    alone(async |stack| {
        let run = stack.trigger("single").await?;
        stack.body_began(&run, "blocks -1 1").await?;
        let before = stack.airflow.task("single", &run, "blocks", -1).await?.context("no row")?;
        stack.airflow.kill(Component::Scheduler);
        stack.airflow.start(Component::Scheduler).await?;
        let adopted = |row: &windlass_lab::airflow::TaskRow| row.queued_by_job_id != before.queued_by_job_id;
        stack.airflow.wait_task(("single", &run, "blocks", -1), RUN, adopted).await?;
        stack.go(&run)?;
        ensure!(stack.airflow.wait_run("single", &run, RUN).await? == "success");
        assert_eq!(stack.bodies(&run), ["blocks -1 1"]);
        nothing_is_left(stack, "single", &run, &["blocks"]).await
    })
}

#[test]
fn a_standby_goes_on_when_the_leader_is_killed() -> Result<()> {
    alone(async |stack| {
        stack.start_daemon(1).await?;
        let (holder, epoch) = stack.term().await?;
        ensure!(holder.starts_with("suite-0"), "{holder} leads");
        stack.kill_daemon(0).await;
        let killed = Instant::now();
        stack.until("a new term", DEATH, async || Ok((stack.term().await?.1 > epoch).then_some(()))).await?;
        let took = killed.elapsed();
        ensure!(stack.term().await?.0.starts_with("suite-1"), "the standby leads after {took:?}");
        let run = stack.trigger("chain").await?;
        ensure!(stack.airflow.wait_run("chain", &run, RUN).await? == "success");
        // A clean stop hands over at once.
        stack.start_daemon(0).await?;
        let (_, epoch) = stack.term().await?;
        stack.stop_daemon(1).await;
        let second = Duration::from_secs(1);
        stack
            .until("a hand-over", second, async || Ok((stack.term().await?.1 > epoch).then_some(())))
            .await?;
        ensure!(stack.term().await?.0.starts_with("suite-0"));
        Ok(())
    })
}

#[test]
fn a_daemon_killed_amid_hundreds_of_tasks_loses_and_doubles_none() -> Result<()> {
    alone(async |stack| {
        let run = stack.trigger("many").await?;
        for share in [1, 3, 5] {
            let wanted = SHARED.many * share / 8;
            stack
                .until(
                    "some bodies",
                    RUN * 2,
                    async || Ok((stack.bodies(&run).len() >= wanted).then_some(())),
                )
                .await?;
            stack.kill_daemon(0).await;
            stack.start_daemon(0).await?;
        }
        ensure!(stack.airflow.wait_run("many", &run, RUN * 5).await? == "success");
        let mut bodies = stack.bodies(&run);
        bodies.sort();
        let mut expected: Vec<String> = (0..SHARED.many).map(|index| format!("counts {index} 1")).collect();
        expected.sort();
        assert_eq!(bodies, expected);
        nothing_is_left(stack, "many", &run, &["counts"]).await
    })
}
