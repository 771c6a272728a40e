//! `windlass doctor`, its repairs, and `windlass explain`: the binary against real PostgreSQL and the embedded API.
//!
//! No daemon runs, and the term is held by nobody who works: what is out of order stays so until it is repaired.

use std::collections::BTreeMap;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sqlx::PgPool;
use windlass_lab::binaries;
use windlass_lab::postgres::Postgres;
use windlass_local_cluster::{ApiOptions, ApiServer, client_config};

const AIRFLOW_TABLES: &str = include_str!("../../fixtures/airflow/2.11.sql");
const GRANTS: &str = include_str!("../../../deploy/sql/grants.sql");

/// A scheduler that lives, a leader with a long term, and four tasks: `taken` has an outcome that nobody waits for,
/// the launches of `unbound` and `ended` are closed and have pods, `runs` is as it should be.
const ROWS: &str = "
    UPDATE windlass.term SET epoch = 3, holder = 'test', expires_at = now() + interval '1 hour';
    INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES
        (7, 'SchedulerJob', 'running', now() + interval '10 min'),
        (101, 'LocalTaskJob', 'running', now() + interval '10 min');
    INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version, seen_at)
        VALUES (7, '{WindlassExecutor}', true, '2.11.2', '0.1.0', now() + interval '10 min');
    INSERT INTO dag_run (dag_id, run_id, execution_date, run_type, state)
        VALUES ('etl', 'r1', now(), 'manual', 'running');
    INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots,
            queued_dttm, queued_by_job_id, job_id, hostname)
        SELECT 'etl', task, 'r1', -1, state, 1, 'default_pool', 1, timestamptz '2026-01-01 00:00:00Z', 7, 101, task
        FROM (VALUES ('taken', 'success'), ('unbound', 'failed'), ('ended', 'failed'), ('runs', 'running'))
            AS t (task, state);
    INSERT INTO windlass.launch (launch_id, dag_id, task_id, run_id, map_index, try_number, queued_dttm,
            scheduler_job_id, priority_weight, epoch, stage, namespace, pod_name, pod_uid, outcome, reason, message,
            created_at, running_at, settled_at, closed_at, delivered_at)
        SELECT rpad(substr(task, 1, 1), 26, substr(task, 1, 1)), 'etl', task, 'r1', -1, 1,
            timestamptz '2026-01-01 00:00:00Z', 7, 1, 3,
            CASE task WHEN 'runs' THEN 'running' ELSE 'closed' END, 'default', task, $1,
            CASE WHEN task <> 'runs' THEN 'failure' END, CASE WHEN task <> 'runs' THEN 'OomKilled' END, 'too much',
            now(), now(), past, past, CASE WHEN task <> 'taken' THEN past END
        FROM (VALUES ('taken'), ('unbound'), ('ended'), ('runs')) AS t (task),
            LATERAL (SELECT CASE WHEN task <> 'runs' THEN now() - interval '5 min' END) AS p (past)";

struct World {
    env: BTreeMap<&'static str, String>,
    pool: PgPool,
    pods: Api<Pod>,
    api: ApiServer,
    _postgres: Postgres,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (postgres, database) = tokio::task::spawn_blocking(|| {
            let postgres = Postgres::start(16)?;
            let database = postgres.create_database("doctor", None)?;
            postgres.psql("postgres", "CREATE ROLE airflow LOGIN; CREATE ROLE windlass LOGIN;", &[])?;
            postgres.psql(&database, AIRFLOW_TABLES, &[])?;
            anyhow::Ok((postgres, database))
        })
        .await??;
        let api = ApiServer::start(ApiOptions::default()).await?;
        let kubeconfig = folder.path().join("kubeconfig");
        api.write_kubeconfig(&kubeconfig)?;
        let mut env = BTreeMap::from([
            ("AIRFLOW_HOME", folder.path().display().to_string()),
            ("AIRFLOW__CORE__EXECUTOR", "windlass_airflow.WindlassExecutor".into()),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", postgres.url(&database)),
            ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False".into()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", kubeconfig.display().to_string()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY", "airflow".into()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", "2.11".into()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE", "True".into()),
        ]);
        ensure!(run(&env, &["migrate"]).await?.status.success());
        postgres.psql(&database, GRANTS, &[])?;
        env.insert("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", postgres.url_as("windlass", &database));
        let pool = PgPool::connect(&postgres.url(&database)).await?;
        let pods = Api::default_namespaced(kube::Client::try_from(client_config(&api).await?)?);
        Ok(Self { env, pool, pods, api, _postgres: postgres, _folder: folder })
    }

    /// Fills the tables; `runs` has the pod of this uid.
    async fn rows(&self, uid: &str) -> Result<()> {
        for sql in ROWS.split(';') {
            let query = sqlx::query(sql);
            let query = if sql.contains("$1") { query.bind(uid) } else { query };
            query.execute(&self.pool).await.context(sql)?;
        }
        Ok(())
    }

    async fn windlass(&self, arguments: &[&str]) -> Result<Output> {
        run(&self.env, arguments).await
    }

    /// Exit code and codes of the findings.
    async fn doctor(&self, more: &[&str]) -> Result<(Option<i32>, Value)> {
        let output = self.windlass(&[&["doctor", "--output", "json"], more].concat()).await?;
        let document =
            serde_json::from_slice(&output.stdout).with_context(|| format!("the output is {output:?}"))?;
        Ok((output.status.code(), document))
    }

    /// A pod of this installation; its uid.
    async fn pod(&self, task: &str, node: Option<&str>, status: Option<Value>) -> Result<String> {
        let id: String = sqlx::query_scalar("SELECT split_part(id::text, '-', 1) FROM windlass.installation")
            .fetch_one(&self.pool)
            .await?;
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": task, "labels": {
                "windlass.dev/launch": task[..1].repeat(26), "windlass.dev/attempt": "1",
                "windlass.dev/installation": id,
            }, "annotations": { "dag_id": "etl", "task_id": task, "run_id": "r1", "try_number": "1" } },
            "spec": { "restartPolicy": "Never", "nodeName": node,
                "containers": [{ "name": "base", "image": "any" }] },
        }))?;
        let made = self.pods.create(&PostParams::default(), &pod).await?;
        if let Some(status) = status {
            let patch = Patch::Merge(json!({ "status": status }));
            self.pods.patch_status(task, &PatchParams::default(), &patch).await?;
        }
        made.metadata.uid.context("a pod has a uid")
    }
}

async fn run(env: &BTreeMap<&'static str, String>, arguments: &[&str]) -> Result<Output> {
    let binary = tokio::task::spawn_blocking(|| binaries::path("windlass")).await??;
    let mut command = tokio::process::Command::new(binary);
    command.env_clear().envs(env).stdin(std::process::Stdio::null()).args(arguments);
    command.output().await.with_context(|| format!("run windlass {arguments:?}"))
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["code"].as_str()).collect()
}

fn terminated() -> Value {
    let state = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    json!({ "phase": "Failed", "containerStatuses": [container(&state)] })
}

fn container(state: &Value) -> Value {
    json!({ "name": "base", "image": "any", "imageID": "", "ready": false, "restartCount": 0, "state": state })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_repairs_what_is_safe_and_leaves_the_rest() -> Result<()> {
    let world = World::start().await?;
    let running = json!({ "phase": "Running", "containerStatuses": [container(&json!({ "running": {} }))] });
    world.pod("unbound", None, None).await?;
    world.pod("ended", Some("node-1"), Some(terminated())).await?;
    let uid = world.pod("runs", Some("node-1"), Some(running)).await?;
    world.rows(&uid).await?;

    let (code, found) = world.doctor(&[]).await?;
    assert_eq!(
        codes(&found),
        ["outcome-already-taken", "pod-of-closed-launch", "pod-left-over"],
        "{found:#}"
    );
    assert_eq!((code, &found["healthy"]), (Some(1), &json!(false)));
    for check in found["checks"].as_array().context("checks")? {
        let expected = if check["name"] == "tasks" { "error" } else { "ok" };
        assert_eq!(check["state"], expected, "{check}");
    }

    let output = world.windlass(&["doctor", "--repair", "--yes"]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (_, repaired) = text.split_once("3 repairs that can be made safely:\n").context("a plan")?;
    let expected = format!(
        "  mark the outcome of launch {0} as delivered
  delete pod default/unbound, which is bound to no node
  delete pod default/ended, which has ended

done: mark the outcome of launch {0} as delivered
done: delete pod default/unbound, which is bound to no node
done: delete pod default/ended, which has ended\n",
        "t".repeat(26)
    );
    assert_eq!(repaired, expected);
    let left: Vec<_> = world.pods.list(&kube::api::ListParams::default()).await?.items;
    let left: Vec<_> = left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    assert_eq!(left.iter().map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(), [Some("runs")]);
    let (code, found) = world.doctor(&[]).await?;
    assert_eq!((code, codes(&found).len()), (Some(0), 0), "{found:#}");
    world.api.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_tells_the_story_from_rows_and_pods() -> Result<()> {
    let world = World::start().await?;
    let uid = world.pod("runs", Some("node-1"), None).await?;
    world.rows(&uid).await?;
    let output = world.windlass(&["explain", "etl", "runs", "r1"]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "  why         it runs on runs, and its worker's heart beats\n",
        "  executor    the default of its scheduler: Windlass\n",
        "  pod now     default/runs (attempt 1): Pending on node node-1, has not started; the uid that is stored\n",
    ] {
        ensure!(text.contains(line), "{line} is not in:\n{text}");
    }
    let output = world.windlass(&["explain", &"e".repeat(26), "--output", "json"]).await?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&document["key"]["task_id"], &document["why"]["code"]), (&json!("ended"), &json!("over")));
    assert_eq!(document["launches"][0]["outcome"]["reason"], "OomKilled");

    // Claimed, and the namespace is full: a dry run of its create tells.
    sqlx::query(
        "UPDATE task_instance SET state = 'queued', hostname = '', job_id = NULL WHERE task_id = 'unbound'",
    )
    .execute(&world.pool)
    .await?;
    sqlx::query(
        "UPDATE windlass.launch SET stage = 'claimed', pod_uid = NULL, outcome = NULL, reason = NULL,
             settled_at = NULL, closed_at = NULL, delivered_at = NULL WHERE task_id = 'unbound'",
    )
    .execute(&world.pool)
    .await?;
    let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> =
        Api::default_namespaced(world.pods.clone().into_client());
    let quota = json!({ "metadata": { "name": "full" }, "spec": { "hard": { "pods": "1" } } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    let output = world.windlass(&["explain", "etl", "unbound", "r1", "-o", "json"]).await?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(document["why"]["code"], "quota", "{document:#}");
    let what = document["why"]["what"].as_str().unwrap_or_default();
    ensure!(what.contains("exceeded quota: full"), "{what}");

    let output = world.windlass(&["explain", "etl", "nobody", "r1"]).await?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(
        error.starts_with("error: there is no task instance etl.nobody r1\n  hint: check the ids"),
        "{error}"
    );
    world.api.stop().await;
    Ok(())
}
