//! The door to the database: one small pool, and what every call needs to know.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::Notify;
use windlass_core::ids::InstallationId;

use crate::config::DatabaseConfig;
use crate::error::BridgeError;
use crate::login::NoPassword;
use crate::transaction::{Access, statement};

/// A server that went away or turned into a replica takes all connections with it. It is not concluded more often than
/// this, so that calls which fail side by side do not send each other's new connections away.
const RENEWED_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// What the bridge has to be told besides the connection string.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Connections in all, at least 3: one is kept for the term, so that a renewal never queues behind other work, and
    /// one hears the plugin's wakes.
    pub max_connections: u32,
    /// A connection that is older is not used again: what changed in the server since (a role's rights, a setting, the
    /// server behind a name) is not noticed only when it ends by itself.
    pub connection_lifetime: Duration,
    /// Bound of a transaction, by our clock and by the database's (`statement_timeout`,
    /// `idle_in_transaction_session_timeout`): below the lease of the term, so that no write outlives its term for long.
    pub call_timeout: Duration,
    /// Bound of a read that looks at all queued or all unstarted rows.
    pub scan_timeout: Duration,
    /// Bound of a wait for somebody else's row lock (`lock_timeout`).
    pub lock_timeout: Duration,
    /// `[core] dags_folder`: DAG files below it are named relative to it in the worker's command.
    pub dags_folder: String,
    /// Between two heartbeats of a LocalTaskJob; see [`worker_heartbeat`].
    pub worker_heartbeat: Duration,
}

impl StoreSettings {
    /// A worker that has not been heard of for so long is dead: two heartbeats and a bit. Airflow's own grace factor for
    /// jobs is 2.1 (`health_check_threshold` in jobs/job.py).
    pub fn worker_dead_after(&self) -> Duration {
        self.worker_heartbeat * 21 / 10
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            max_connections: 5,
            connection_lifetime: Duration::from_secs(600),
            call_timeout: Duration::from_secs(3),
            scan_timeout: Duration::from_secs(12),
            lock_timeout: Duration::from_secs(2),
            dags_folder: "/opt/airflow/dags".into(),
            worker_heartbeat: worker_heartbeat(5.0, 0, 300),
        }
    }
}

/// How often a LocalTaskJob of 2.10 and 2.11 writes `job.latest_heartbeat`. It wakes when its child ends or after the
/// smaller one of its heart rate (`[scheduler] job_heartbeat_sec`) and its limit (`local_task_job_heartbeat_sec`, or
/// `scheduler_zombie_task_threshold` where that is below 1), and then always writes.
pub fn worker_heartbeat(
    job_heartbeat_sec: f64,
    local_task_job_heartbeat_sec: i64,
    zombie_threshold: i64,
) -> Duration {
    let limit =
        if local_task_job_heartbeat_sec < 1 { zombie_threshold } else { local_task_job_heartbeat_sec };
    Duration::from_secs_f64(job_heartbeat_sec.min(limit as f64).max(0.1))
}

/// Windlass's and Airflow's rows. Cheap to clone; all clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    term_pool: PgPool,
    /// Connections that were opened before are not used again.
    renewed: Arc<Renewed>,
    config: RwLock<Arc<DatabaseConfig>>,
    /// Why the last login has the password of the one before.
    no_password: Mutex<Option<NoPassword>>,
    timeline: Timeline,
    /// The database did not let us in.
    refused: Notify,
    settings: StoreSettings,
    /// `"schema".` or nothing: what stands in the place of `{airflow}` in the statements.
    airflow: String,
}

#[derive(Debug)]
struct Renewed(Mutex<Instant>);

impl Renewed {
    fn at(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of the WAL's timeline (`recovery`).
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) known: AtomicBool,
    pub(crate) begun_on: Mutex<String>,
}

impl Store {
    /// Opens the pool and one connection in it. Looks at nothing yet: see [`Store::check`].
    pub async fn connect(config: DatabaseConfig, settings: StoreSettings) -> Result<Self, BridgeError> {
        let renewed = Arc::new(Renewed(Mutex::new(Instant::now())));
        let open = |connections| lazy_pool(&config, &settings, connections, &renewed);
        // Without those for the term and for the wakes.
        let (pool, term_pool) = (open(settings.max_connections.saturating_sub(2).max(1)), open(1));
        let airflow = config.airflow_schema().map(|s| format!("{}.", quoted(s))).unwrap_or_default();
        let store = Self {
            inner: Arc::new(Inner {
                pool,
                term_pool,
                renewed,
                no_password: Mutex::default(),
                config: RwLock::new(Arc::new(config)),
                timeline: Timeline { known: AtomicBool::new(true), begun_on: Mutex::default() },
                refused: Notify::new(),
                settings,
                airflow,
            }),
        };
        store.open_one().await?;
        Ok(store)
    }

    /// Opens a connection outside of the pool first: the pool would answer a wrong password with "timed out".
    async fn open_one(&self) -> Result<(), BridgeError> {
        use sqlx::{ConnectOptions, Connection};
        let config = self.config();
        let login = self.login().await?;
        let opening = tokio::time::timeout(config.connect_timeout(), login.connect());
        let source = match opening.await {
            Ok(Ok(connection)) => {
                // Its end says nothing about the database.
                let _ = connection.close().await;
                return Ok(());
            }
            Ok(Err(source)) => source,
            Err(_) => sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        };
        Err(self.of_connect(source))
    }

    /// A failure to connect, and whom it concerns. A login that was refused is noted for [`Store::refused`].
    pub(crate) fn of_connect(&self, source: sqlx::Error) -> BridgeError {
        let config = self.config();
        let error = BridgeError::of_connect(&config, source);
        if error.is_refusal() {
            // An old password was tried because there was no new one.
            if let Some(none) = self.no_password().clone() {
                return BridgeError::no_password(&config, none);
            }
            self.inner.refused.notify_one();
        }
        error
    }

    fn no_password(&self) -> std::sync::MutexGuard<'_, Option<NoPassword>> {
        self.inner.no_password.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one connection that is opened now.
    pub(crate) async fn login(&self) -> Result<PgConnectOptions, BridgeError> {
        let config = self.config();
        config.options_now().await.map_err(|source| BridgeError::no_password(&config, source))
    }

    /// A connection of the pool. Where each login has a password of its own, there is one ready if a connection has to be
    /// opened for it. If none can be had, the last one is tried: a connection that is open needs none.
    pub(crate) async fn acquire(
        &self,
        pool: &PgPool,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, sqlx::Error> {
        let config = self.config();
        if config.has_passwords() {
            let none = match config.options_now().await {
                Ok(options) => {
                    pool.set_connect_options(options);
                    None
                }
                Err(none) => Some(none),
            };
            *self.no_password() = none;
        }
        pool.acquire().await
    }

    /// The server behind the open connections is not the one to work with any more. None of them is used again, and new
    /// ones go to where the host's name leads then.
    pub(crate) fn renew_connections(&self) {
        let mut renewed = self.inner.renewed.at();
        if renewed.elapsed() >= RENEWED_AT_MOST_EVERY {
            *renewed = Instant::now();
        }
    }

    /// Waits until the database refuses a login: the password was rotated, maybe.
    pub async fn refused(&self) {
        self.inner.refused.notified().await;
    }

    /// New connections log in so. Those that are open go on: the database lets them. False, and nothing is changed, if
    /// it leads to another database: its rows are others.
    pub fn log_in_with(&self, config: DatabaseConfig) -> bool {
        if config.address() != self.config().address() {
            return false;
        }
        for pool in [&self.inner.pool, &self.inner.term_pool] {
            pool.set_connect_options(config.options().clone());
        }
        *self.inner.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        true
    }

    /// Identity of this `windlass` schema: part of every launch id.
    pub async fn installation(&self) -> Result<InstallationId, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the installation's id").await?;
        let id: String = tx.scalar(statement("SELECT id::text FROM windlass.installation")).await?;
        tx.commit().await?;
        Ok(InstallationId(id))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.inner.pool.close().await;
        self.inner.term_pool.close().await;
    }

    /// Where we are connected to, and as whom.
    pub fn config(&self) -> Arc<DatabaseConfig> {
        self.inner.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.inner.timeline
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    pub(crate) fn term_pool(&self) -> &PgPool {
        &self.inner.term_pool
    }

    /// The statement with Airflow's tables in their schema.
    pub(crate) fn airflow_sql(&self, template: &'static str) -> String {
        template.replace("{airflow}", &self.inner.airflow)
    }
}

fn lazy_pool(
    config: &DatabaseConfig,
    settings: &StoreSettings,
    connections: u32,
    renewed: &Arc<Renewed>,
) -> PgPool {
    let renewed = renewed.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(config.connect_timeout())
        .max_lifetime(settings.connection_lifetime)
        .idle_timeout(Duration::from_secs(60))
        // The opening statement of every transaction is the test: one round trip less.
        .test_before_acquire(false)
        .before_acquire(move |_, connection| {
            let is_younger = connection.age < renewed.at().elapsed();
            Box::pin(async move { Ok(is_younger) })
        })
        .connect_lazy_with(config.options().clone())
}

/// As an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_beats_as_often_as_the_smaller_setting_says() {
        assert_eq!(worker_heartbeat(5.0, 0, 300), Duration::from_secs(5));
        assert_eq!(worker_heartbeat(5.0, 2, 300), Duration::from_secs(2));
        assert_eq!(worker_heartbeat(30.0, 0, 10), Duration::from_secs(10));
        assert_eq!(worker_heartbeat(0.5, 60, 300), Duration::from_millis(500));
    }

    #[test]
    fn a_schema_name_is_quoted() {
        assert_eq!(quoted("air\"flow"), "\"air\"\"flow\"");
    }
}
