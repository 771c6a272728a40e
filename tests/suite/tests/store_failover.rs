//! The database fails over under a running daemon, as on RDS: the old writer comes back as a replica, and the name leads to
//! it until DNS has changed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use windlass_lab::folder::Folder;
use windlass_lab::proxy::Proxy;
use windlass_local_cluster::{ApiOptions, ApiServer};
use windlass_suite::daemon::{Daemon, Database, connection, service_account, until};

/// `{}`, pickled.
const NOTHING: &str = "80057d942e";

fn pods(api: &ApiServer) -> Vec<String> {
    let mut tasks: Vec<String> = api
        .all("pods")
        .iter()
        .map(|pod| pod["metadata"]["labels"]["task_id"].as_str().unwrap_or_default().to_owned())
        .collect();
    tasks.sort();
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_are_queued_through_a_failover_get_their_pod_once() -> Result<()> {
    let folder = Folder::new("store-failover")?;
    let api = ApiServer::start(ApiOptions::default()).await?;
    fs::write(folder.join("token"), api.token())?;
    fs::write(folder.join("ca.crt"), api.authority())?;
    let mut database = Database::ready().await?;
    let replica = tokio::task::block_in_place(|| database.postgres.replica())?;
    let proxy = Proxy::start(database.postgres.port()).await?;
    let mut variables = service_account(&api.url(), folder.path(), "default");
    variables.extend(connection(&format!(
        "postgresql://windlass@127.0.0.1:{}/{}",
        proxy.port(),
        database.name
    )));
    for (name, value) in [("REPOSITORY", "airflow"), ("TAG", "2.11")] {
        variables.insert(format!("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_{name}"), value.into());
    }
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading (term 1)").await?;
    database.queue("before", NOTHING)?;
    until("the first pod", async || Ok((pods(&api) == ["before"]).then_some(()))).await?;
    // Its claim and its pod have reached the replica.
    let seen =
        format!("SELECT count(*) FROM windlass.launch WHERE stage = 'created' AND task_id = '{}'", "before");
    until("the replica to follow", async || {
        Ok((replica.psql(&database.name, &seen, &[])? == "1").then_some(()))
    })
    .await?;

    tokio::task::block_in_place(|| -> Result<()> {
        replica.promote()?;
        database.postgres.come_back_as_replica()
    })?;
    // Airflow has found the new writer already.
    let queued = format!(
        "INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots, queue,
             priority_weight, queued_dttm, queued_by_job_id, hostname, executor_config)
         VALUES ('etl', 'meanwhile', 'r', -1, 'queued', 1, 'default_pool', 1, 'default', 1, now(), 7, '', '\\x{NOTHING}')"
    );
    replica.psql(&database.name, &queued, &[])?;
    let said =
        daemon.ready_says(503, "is a read-only replica: Windlass writes its launches to the primary").await?;
    ensure!(said.starts_with("standby: "), "{said}");
    ensure!(pods(&api) == ["before"], "{:?}", pods(&api));

    let changed = Instant::now();
    proxy.lead_to(replica.port());
    daemon.ready_says(200, "leading (term 10").await?;
    until("the second pod", async || Ok((pods(&api) == ["before", "meanwhile"]).then_some(()))).await?;
    ensure!(changed.elapsed() < Duration::from_secs(30), "{:?}", changed.elapsed());
    let launches = "SELECT string_agg(task_id || ' ' || attempt, ', ' ORDER BY task_id) FROM windlass.launch";
    let launches = replica.psql(&database.name, launches, &[])?;
    ensure!(launches == "before 1, meanwhile 1", "{launches}");
    ensure!(database.sql("SELECT count(*) FROM windlass.launch")? == "1", "the old writer was written to");
    daemon.log_says("is a read-only replica").await?;
    Ok(())
}
