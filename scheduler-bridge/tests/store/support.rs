//! One server per version for all tests, a database per test: Airflow's tables, Windlass's schema, the shipped grants.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result};
use scheduler_bridge::{
    BridgeError, ClaimBatch, DatabaseConfig, MigrateOptions, Store, StoreSettings, migrate,
};
use sqlx::PgPool;
use windlass_core::ids::{Attempt, Epoch, InstallationId, LaunchId, PodRef, Queueing, TaskKey};
use windlass_core::store::{Claim, ClaimAnswer, LaunchChange, LaunchUpdate, SaveAnswer, TermAnswer};
use windlass_core::time::UtcMicros;
use windlass_lab::postgres::Postgres;

/// 2026-11-24T02:40:17.123456Z
pub(crate) const QUEUED: i64 = 1_795_488_017_123_456;

/// The SchedulerJob that is registered in every test database.
pub(crate) const SCHEDULER: i64 = 7;

const AIRFLOW_TABLES: &str = include_str!("../../../tests/fixtures/airflow/2.11.sql");
const GRANTS: &str = include_str!("../../../deploy/sql/grants.sql");

/// Runs each function as a test on both versions.
macro_rules! on_both_versions {
    ($($test:ident),* $(,)?) => {
        mod on_16 { $(#[tokio::test] async fn $test() -> anyhow::Result<()> {
            super::$test($crate::support::Lab::new(16).await?).await
        })* }
        mod on_18 { $(#[tokio::test] async fn $test() -> anyhow::Result<()> {
            super::$test($crate::support::Lab::new(18).await?).await
        })* }
    };
}
pub(crate) use on_both_versions;

struct Shared {
    version: u32,
    server: Weak<Server>,
}

/// The last test that uses a server stops it.
static SERVERS: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    template: String,
}

fn server(version: u32) -> Result<Arc<Server>> {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = servers.iter().find(|s| s.version == version).and_then(|s| s.server.upgrade()) {
        return Ok(running);
    }
    let server = Arc::new(start_server(version)?);
    servers.retain(|s| s.version != version);
    servers.push(Shared { version, server: Arc::downgrade(&server) });
    Ok(server)
}

fn start_server(version: u32) -> Result<Server> {
    let postgres = Postgres::start(version)?;
    postgres.psql("postgres", "CREATE ROLE airflow LOGIN; CREATE ROLE windlass LOGIN;", &[])?;
    let template = postgres.create_database("template", None)?;
    postgres.psql(&template, &format!("SET ROLE airflow; {AIRFLOW_TABLES}"), &[]).or_else(|_| {
        // Since PostgreSQL 15 only the owner may create in `public`.
        postgres.psql(
            &template,
            &format!("GRANT CREATE ON SCHEMA public TO airflow; SET ROLE airflow; {AIRFLOW_TABLES}"),
            &[],
        )
    })?;
    Ok(Server { postgres, template })
}

/// A database of one test.
pub(crate) struct Lab {
    pub(crate) server: Arc<Server>,
    pub(crate) database: String,
    /// As the role `windlass`.
    pub(crate) store: Store,
    /// As the superuser.
    pub(crate) admin: PgPool,
    pub(crate) installation: InstallationId,
}

impl Lab {
    /// With the schema migrated, the grants given and the scheduler registered.
    pub(crate) async fn new(version: u32) -> Result<Self> {
        let (server, database) = Self::airflow_only(version).await?;
        Self::with_schema(server, database).await
    }

    /// On a server of its own, where nobody else's transaction keeps old rows alive.
    pub(crate) async fn alone(version: u32) -> Result<Self> {
        let start = move || {
            let server = start_server(version)?;
            let database = server.postgres.create_database("test", Some(&server.template))?;
            anyhow::Ok((Arc::new(server), database))
        };
        let (server, database) = tokio::task::spawn_blocking(start).await??;
        Self::with_schema(server, database).await
    }

    async fn with_schema(server: Arc<Server>, database: String) -> Result<Self> {
        let admin_config = DatabaseConfig::parse(&server.postgres.url(&database))?;
        migrate(&admin_config, MigrateOptions::default(), &mut |_| {}).await?;
        server.postgres.psql(&database, GRANTS, &[])?;
        let store = store_at(&server.postgres.url_as("windlass", &database)).await?;
        let admin = PgPool::connect(&server.postgres.url(&database)).await?;
        let installation = store.installation().await?;
        let lab = Self { server, database, store, admin, installation };
        lab.register(SCHEDULER, &["windlass", "windlass_airflow.WindlassExecutor"], true).await?;
        Ok(lab)
    }

    /// Airflow's tables alone.
    pub(crate) async fn airflow_only(version: u32) -> Result<(Arc<Server>, String)> {
        tokio::task::spawn_blocking(move || {
            let server = server(version)?;
            let database = server.postgres.create_database("test", Some(&server.template))?;
            Ok((server, database))
        })
        .await?
    }

    /// As the plugin does, in Airflow's own role.
    pub(crate) async fn register(&self, job: i64, names: &[&str], is_default: bool) -> Result<()> {
        sqlx::query(
            "WITH job AS (INSERT INTO job (id, job_type, state, latest_heartbeat)
                 VALUES ($1, 'SchedulerJob', 'running', now()))
             INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version)
             VALUES ($1, $2, $3, '2.11.2', '0.1.0')",
        )
        .bind(job)
        .bind(names)
        .bind(is_default)
        .execute(&self.admin)
        .await?;
        Ok(())
    }

    /// A queued task instance of a running DAG run.
    pub(crate) async fn queue(&self, queueing: &Queueing) -> Result<()> {
        let key = &queueing.key;
        sqlx::query(
            "INSERT INTO dag (dag_id, fileloc, owners, is_active, is_subdag, max_active_tasks,
                 max_consecutive_failed_dag_runs, has_task_concurrency_limits)
             VALUES ($1, '/opt/airflow/dags/team/' || $1 || '.py', 'data, ops', true, false, 16, 0, false)
             ON CONFLICT DO NOTHING",
        )
        .bind(&key.dag_id)
        .execute(&self.admin)
        .await?;
        sqlx::query("INSERT INTO dag_tag (dag_id, name) VALUES ($1, 'nightly') ON CONFLICT DO NOTHING")
            .bind(&key.dag_id)
            .execute(&self.admin)
            .await?;
        sqlx::query(
            "INSERT INTO dag_run (dag_id, run_id, execution_date, run_type, state)
             VALUES ($1, $2, clock_timestamp(), 'manual', 'running') ON CONFLICT DO NOTHING",
        )
        .bind(&key.dag_id)
        .bind(&key.run_id)
        .execute(&self.admin)
        .await?;
        sqlx::query(
            "INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots, queue,
                 operator, priority_weight, queued_dttm, queued_by_job_id, executor_config)
             VALUES ($1, $2, $3, $4, 'queued', $5, 'default_pool', 1, 'default', 'BashOperator', 1,
                 timestamptz 'epoch' + $6 * interval '1 microsecond', $7, '\\x80057d942e')",
        )
        .bind(&key.dag_id)
        .bind(&key.task_id)
        .bind(&key.run_id)
        .bind(key.map_index)
        .bind(queueing.try_number)
        .bind(queueing.queued_at.0 as f64)
        .bind(SCHEDULER)
        .execute(&self.admin)
        .await?;
        Ok(())
    }

    /// SQL of the test itself, as the superuser.
    pub(crate) async fn sql(&self, sql: &'static str) -> Result<u64> {
        Ok(sqlx::raw_sql(sql).execute(&self.admin).await.with_context(|| sql)?.rows_affected())
    }

    pub(crate) async fn number(&self, sql: &'static str) -> Result<i64> {
        sqlx::query_scalar(sql).fetch_one(&self.admin).await.with_context(|| sql)
    }

    pub(crate) fn claim_of(&self, queueing: &Queueing) -> Claim {
        let launch = LaunchId::of(&self.installation, queueing);
        let pod =
            PodRef { namespace: "tasks".into(), name: format!("pod-{}", launch.name_suffix(Attempt::FIRST)) };
        Claim {
            launch,
            queueing: queueing.clone(),
            pod,
            scheduler_job_id: SCHEDULER,
            priority_weight: 1,
            command: None,
        }
    }

    pub(crate) async fn lead(&self, holder: &str) -> Result<Epoch> {
        match self.store.acquire_term(holder, 60_000).await {
            TermAnswer::Held { epoch } => Ok(epoch),
            other => anyhow::bail!("{other:?}"),
        }
    }

    /// Queues and claims.
    pub(crate) async fn launched(&self, epoch: Epoch, queueing: &Queueing) -> Result<LaunchId> {
        self.queue(queueing).await?;
        let claim = self.claim_of(queueing);
        let ClaimBatch::Answers(answers) = self.store.claim(epoch, std::slice::from_ref(&claim)).await?
        else {
            anyhow::bail!("fenced");
        };
        assert_eq!(answers, [ClaimAnswer::Claimed(claim.launch.clone())]);
        Ok(claim.launch)
    }

    /// Saves, and nothing is refused.
    pub(crate) async fn saved(&self, epoch: Epoch, launch: &LaunchId, changes: &[LaunchChange]) {
        let updates: Vec<LaunchUpdate> = changes
            .iter()
            .map(|change| LaunchUpdate { launch: launch.clone(), change: change.clone() })
            .collect();
        assert_eq!(self.store.save(epoch, &updates).await, SaveAnswer::Saved { refused: vec![] });
    }
}

/// Short bounds: a test that waits for a lock is to notice soon.
pub(crate) fn settings() -> StoreSettings {
    StoreSettings { lock_timeout: std::time::Duration::from_millis(500), ..StoreSettings::default() }
}

/// A store with [`settings`].
pub(crate) async fn store_at(url: &str) -> Result<Store> {
    Ok(Store::connect(DatabaseConfig::parse(url)?, settings()).await?)
}

/// A server takes up changed rules a moment after it was told to; that is done once `config` is refused, with this error.
pub(crate) async fn until_refused(config: DatabaseConfig) -> Result<BridgeError> {
    for _ in 0..100 {
        match Store::connect(config.clone(), settings()).await {
            Err(error) => return Ok(error),
            Ok(store) => store.close().await,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the server still lets in what its rules do not")
}

pub(crate) fn key(task: &str) -> TaskKey {
    TaskKey { dag_id: "etl".into(), task_id: task.into(), run_id: "manual__1".into(), map_index: -1 }
}

pub(crate) fn queueing(task: &str) -> Queueing {
    Queueing { key: key(task), try_number: 1, queued_at: UtcMicros(QUEUED) }
}

/// Runs `prepare`, which looks for what the test needs, and then what it returns. Where something is missing: None and a
/// line that says so; in CI that is a failure.
pub(crate) async fn unless_missing<T, F>(
    prepare: impl FnOnce() -> Result<F> + Send + 'static,
) -> Result<Option<T>>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T>,
{
    tokio::task::spawn_blocking(move || match prepare() {
        Ok(start) => start().map(Some),
        Err(missing) if std::env::var_os("CI").is_some() => Err(missing),
        Err(missing) => {
            eprintln!("SKIPPED: {missing:#}");
            Ok(None)
        }
    })
    .await?
}

/// Version of the schema that this binary knows.
pub(crate) fn newest() -> i64 {
    windlass_migrations::newest(&windlass_migrations::postgres())
}
