//! What a DAG author reads in Airflow when Kubernetes keeps a task from its end: each of the failures that users meet
//! most is provoked on a real kube-apiserver, and the rows of Airflow's log table are compared with
//! docs/TASK_FAILURES.md. `WINDLASS_WRITE_PAGES=1` writes that page instead.
//!
//! Admission, quota and kube-scheduler are the real ones. What a kubelet and PodGC do is done by the process kubelet or
//! by the test, which writes through the API server what the sources of Kubernetes write (see `written`).

mod cases;
mod page;
mod quota;
mod written;

use anyhow::Result;
use futures::future::try_join_all;
use windlass_lab::prepare::{Series, workspace};

use windlass_suite::{NAMESPACE, Setup, Stack};

use crate::cases::CASES;

const DAG: &str = "pod_failures";

/// Short ones of Airflow's and Windlass's, each longer than what must pass before it.
const ENV: [(&str, &str); 5] = [
    ("WINDLASS__LAUNCH__PENDING_TIMEOUT_SECONDS", "10"),
    ("AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT", "25"),
    ("AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL", "2"),
    ("AIRFLOW__WINDLASS__HOLD_LIMIT_SECONDS", "30"),
    ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE_NAMESPACE_LIST", "airflow,team"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentences_that_authors_read_are_those_of_the_page() -> Result<()> {
    let mut setup = Setup {
        controllers: true,
        second_namespace: Some(quota::NAMESPACE),
        ..Setup::suite(Series::default())
    };
    setup.env.extend(ENV.map(|(name, value)| (name, value.to_owned())));
    let rules = workspace().join("tests/suite/tests/airflow_failures/windlass.toml");
    setup.env.push(("WINDLASS_CONFIG", rules.display().to_string()));
    let stack = Stack::start(setup).await?;
    stack.plane.create_service_account(NAMESPACE, "finance").await?;
    quota::fill(&stack).await?;
    let run = stack.trigger(DAG).await?;
    let (rows, held) = futures::try_join!(
        try_join_all(CASES.iter().map(|case| case.play(&stack, &run))),
        quota::hold(&stack, &run),
    )?;
    page::compare(&rows, &held)
}
