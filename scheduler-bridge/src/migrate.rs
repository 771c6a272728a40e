//! `windlass migrate`: a step of its own, over a direct connection, safe when two run at once.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::time::Instant;
use windlass_migrations::{SCHEMA, newest, postgres};

use crate::config::DatabaseConfig;
use crate::error::BridgeError;
use crate::pooler::is_pooled;

/// How to migrate.
#[derive(Clone, Copy, Debug)]
pub struct MigrateOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long to wait for another `windlass migrate`.
    pub lock_wait: Duration,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self { dry_run: false, lock_wait: Duration::from_secs(300) }
    }
}

/// What happens meanwhile, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrateProgress {
    /// Another one is at work; this one waits.
    WaitsForOther,
    /// An index whose build was cut off is dropped; its migration builds it again.
    DropsInvalidIndex(String),
    /// A migration begins.
    Applies(String),
}

/// A migration that is not applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// Its number.
    pub version: i64,
    /// As `0001_launch`.
    pub name: String,
    /// What it runs.
    pub sql: String,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// Version before; 0: no schema.
    pub from: i64,
    /// Version after, or with `dry_run` what it would be.
    pub to: i64,
    /// Applied, or with `dry_run` pending.
    pub migrations: Vec<PendingMigration>,
}

/// Key of the advisory lock, the first 8 bytes of the SHA-256 of "windlass migrate": advisory locks are per database, and
/// Airflow's own keys are small numbers (`DBLocks`).
const LOCK_KEY: i64 = 0x0421_775a_81d3_bb3e;

/// Brings the schema `windlass` up to this binary's version.
pub async fn migrate(
    config: &DatabaseConfig,
    options: MigrateOptions,
    progress: &mut (dyn FnMut(MigrateProgress) + Send),
) -> Result<MigrateReport, BridgeError> {
    let connecting = |source| BridgeError::of_connect(config, source);
    let login = config.options_now().await.map_err(|source| BridgeError::no_password(config, source))?;
    if is_pooled(&login).await.map_err(connecting)? {
        return Err(BridgeError::Pooler { address: config.address().to_owned() });
    }
    let mut connection = login.connect().await.map_err(connecting)?;
    if !options.dry_run {
        lock(&mut connection, options.lock_wait, progress).await?;
    }
    let report = migrate_locked(&mut connection, config, options, progress).await;
    // The lock ends with the connection, also where the unlock would fail.
    let _ = connection.close().await;
    report
}

async fn migrate_locked(
    connection: &mut PgConnection,
    config: &DatabaseConfig,
    options: MigrateOptions,
    progress: &mut (dyn FnMut(MigrateProgress) + Send),
) -> Result<MigrateReport, BridgeError> {
    let migrator = postgres();
    let applied = applied_versions(connection).await?;
    let from = applied.iter().copied().max().unwrap_or(0);
    let known = newest(&migrator);
    if from > known {
        return Err(BridgeError::SchemaNewer { found: from, known });
    }
    let migrations: Vec<PendingMigration> = migrator
        .iter()
        .filter(|m| !applied.contains(&m.version))
        .map(|m| PendingMigration {
            version: m.version,
            name: format!("{:04}_{}", m.version, m.description.replace(' ', "_")),
            sql: m.sql.as_str().to_owned(),
        })
        .collect();
    if options.dry_run {
        return Ok(MigrateReport { from, to: known, migrations });
    }
    make_schema(connection, config).await?;
    drop_invalid_indexes(connection, progress).await?;
    for pending in &migrations {
        progress(MigrateProgress::Applies(pending.name.clone()));
        migrator
            .run_to(pending.version, &mut *connection)
            .await
            .map_err(|source| failed(&pending.name, source))?;
    }
    // Nothing pending: compares the checksums of what was applied with what this binary has.
    migrator
        .run_to(known, &mut *connection)
        .await
        .map_err(|source| failed("comparing applied migrations", source))?;
    Ok(MigrateReport { from, to: known, migrations })
}

fn failed(step: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BridgeError {
    BridgeError::Migration { step: step.to_owned(), source: source.into() }
}

async fn lock(
    connection: &mut PgConnection,
    wait: Duration,
    progress: &mut (dyn FnMut(MigrateProgress) + Send),
) -> Result<(), BridgeError> {
    const POLL: Duration = Duration::from_millis(250);
    let deadline = Instant::now() + wait;
    let mut told = false;
    loop {
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .persistent(false)
            .bind(LOCK_KEY)
            .fetch_one(&mut *connection)
            .await
            .map_err(|source| failed("taking the lock", source))?;
        if taken {
            return Ok(());
        }
        if !told {
            progress(MigrateProgress::WaitsForOther);
            told = true;
        }
        if Instant::now() >= deadline {
            return Err(BridgeError::MigrationLocked { waited: wait });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// None where there is no tracking table yet.
async fn applied_versions(connection: &mut PgConnection) -> Result<Vec<i64>, BridgeError> {
    let reading = |source| failed("reading windlass.schema_migrations", source);
    let exists: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'windlass' AND c.relname = 'schema_migrations')",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(reading)?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM windlass.schema_migrations WHERE success ORDER BY version")
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(reading)
}

/// `CREATE SCHEMA IF NOT EXISTS` asks for CREATE on the database even where the schema exists.
async fn make_schema(connection: &mut PgConnection, config: &DatabaseConfig) -> Result<(), BridgeError> {
    let step = "creating the schema `windlass`";
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
            .persistent(false)
            .bind(SCHEMA)
            .fetch_one(&mut *connection)
            .await
            .map_err(|source| failed(step, source))?;
    if exists {
        return Ok(());
    }
    match connection.execute(sqlx::raw_sql("CREATE SCHEMA windlass")).await {
        Ok(_) => Ok(()),
        Err(source) if source.as_database_error().and_then(|e| e.code()).as_deref() == Some("42501") => {
            let role = config.user();
            Err(BridgeError::MissingGrants {
                role: role.to_owned(),
                grants: vec![format!("CREATE SCHEMA windlass AUTHORIZATION {};", crate::store::quoted(role))],
            })
        }
        Err(source) => Err(failed(step, source)),
    }
}

/// What a `CREATE INDEX CONCURRENTLY` that was cut off leaves behind: it is never used and always written.
async fn drop_invalid_indexes(
    connection: &mut PgConnection,
    progress: &mut (dyn FnMut(MigrateProgress) + Send),
) -> Result<(), BridgeError> {
    let step = "dropping invalid indexes";
    let rows = sqlx::query(
        "SELECT c.relname::text FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'windlass' AND NOT i.indisvalid",
    )
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .map_err(|source| failed(step, source))?;
    for row in rows {
        let index: String = row.try_get(0).map_err(|source| failed(step, source))?;
        progress(MigrateProgress::DropsInvalidIndex(index.clone()));
        let sql = format!("DROP INDEX CONCURRENTLY windlass.{}", crate::store::quoted(&index));
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .map_err(|source| failed(step, source))?;
    }
    Ok(())
}
