//! A real Airflow runs a DAG with its own LocalExecutor: the lab's parts fit together, without Windlass.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use windlass_lab::airflow::{Airflow, Component, Options};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::Series;

const DAG: &str = "
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1))
def lab():
    @task
    def add(n, **context):
        print('the configured word is', context['dag_run'].conf['word'])
        return n + 1

    add.expand(n=[1, 2])

lab()
";

#[tokio::test]
async fn a_run_triggered_by_hand_succeeds_and_its_traces_are_read() -> Result<()> {
    let postgres = Postgres::start(16)?;
    let dags = Folder::new("dags")?;
    fs::write(dags.join("lab.py"), DAG)?;
    let mut airflow = Airflow::prepare(Options {
        series: Series::default(),
        database_url: postgres.url(&postgres.create_database("airflow", None)?),
        dags_folder: dags.path().to_owned(),
        executor: "LocalExecutor".to_owned(),
        env: vec![("AIRFLOW__CORE__PARALLELISM".to_owned(), "2".to_owned())],
    })
    .await?;
    assert_eq!(airflow.load_dags().await?, ["lab"]);
    airflow.start(Component::Scheduler).await?;

    airflow.trigger("lab", "first", json!({"word": "windlass"})).await?;
    assert_eq!(airflow.wait_run("lab", "first", Duration::from_secs(120)).await?, "success");
    let tasks = airflow.tasks("lab", "first").await?;
    assert_eq!(tasks.iter().map(|row| row.map_index).collect::<Vec<_>>(), [0, 1]);
    assert!(tasks.iter().all(|row| row.is("success") && row.queued_dttm < row.end_date), "{tasks:?}");
    let events = airflow.log_rows("lab", "first").await?;
    assert!(events.iter().any(|row| row.event == "success"), "{events:?}");

    // What a user does in the UI.
    let error = airflow.trigger("lab", "first", json!({})).await.expect_err("the run exists");
    assert!(format!("{error:#}").contains("DagRunAlreadyExists"), "{error:#}");
    airflow.mark("lab", "first", "add", "failed").await?;
    assert!(airflow.tasks("lab", "first").await?.iter().all(|row| row.is("failed")));
    assert_eq!(airflow.clear("lab", "first", &["add"]).await?, 2);
    assert_eq!(airflow.wait_run("lab", "first", Duration::from_secs(120)).await?, "success");

    let pid = airflow.process(Component::Scheduler)?.pid();
    airflow.kill(Component::Scheduler);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}
