use std::sync::Arc;

use scheduler_bridge::{BridgeError, DatabaseConfig, MigrateOptions, MigrateProgress, migrate};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Lab, Server, newest};

macro_rules! on_both_versions_without_schema {
    ($($test:ident),* $(,)?) => {
        mod on_16 { $(#[tokio::test] async fn $test() -> anyhow::Result<()> { super::$test(super::Bare::new(16).await?).await })* }
        mod on_18 { $(#[tokio::test] async fn $test() -> anyhow::Result<()> { super::$test(super::Bare::new(18).await?).await })* }
    };
}

on_both_versions_without_schema!(
    a_dry_run_names_what_is_pending_and_changes_nothing,
    two_at_once_are_safe,
    a_newer_schema_is_refused_with_both_versions,
    an_edited_migration_is_noticed,
    a_role_that_may_not_create_the_schema_is_told_what_to_run,
    an_invalid_index_is_dropped,
);

/// Airflow's tables alone.
struct Bare {
    server: Arc<Server>,
    database: String,
    admin: PgPool,
    config: DatabaseConfig,
}

impl Bare {
    async fn new(version: u32) -> anyhow::Result<Self> {
        let (server, database) = Lab::airflow_only(version).await?;
        let url = server.postgres.url(&database);
        Ok(Self {
            admin: PgPool::connect(&url).await?,
            config: DatabaseConfig::parse(&url)?,
            server,
            database,
        })
    }

    async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.admin).await?;
        Ok(())
    }

    async fn count(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.admin).await?)
    }
}

async fn a_dry_run_names_what_is_pending_and_changes_nothing(bare: Bare) -> anyhow::Result<()> {
    let dry = MigrateOptions { dry_run: true, ..MigrateOptions::default() };
    let report = migrate(&bare.config, dry, &mut |_| {}).await?;
    assert_eq!((report.from, report.to), (0, newest()));
    assert_eq!(report.migrations[0].name, "0001_launch");
    assert!(report.migrations[0].sql.contains("CREATE TABLE windlass.launch"));
    assert_eq!(bare.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'windlass'").await?, 0);

    let mut told = Vec::new();
    migrate(&bare.config, MigrateOptions::default(), &mut |progress| told.push(progress)).await?;
    assert_eq!(told[0], MigrateProgress::Applies("0001_launch".into()));
    assert_eq!(told.len() as i64, newest(), "{told:?}");
    let again = migrate(&bare.config, dry, &mut |_| {}).await?;
    assert_eq!((again.from, again.to, again.migrations.len()), (newest(), newest(), 0));
    Ok(())
}

async fn two_at_once_are_safe(bare: Bare) -> anyhow::Result<()> {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let options = MigrateOptions::default();
    let mut tell_one = |progress| one.push(progress);
    let mut tell_two = |progress| two.push(progress);
    let (first, second) = tokio::join!(
        migrate(&bare.config, options, &mut tell_one),
        migrate(&bare.config, options, &mut tell_two)
    );
    let mut done = [first?.migrations.len() as i64, second?.migrations.len() as i64];
    done.sort_unstable();
    assert_eq!(done, [0, newest()], "one works, the other finds nothing to do: {one:?} {two:?}");
    assert_eq!(bare.count("SELECT count(*) FROM windlass.schema_migrations WHERE success").await?, newest());
    assert_eq!(bare.count("SELECT count(*) FROM windlass.installation").await?, 1);
    Ok(())
}

async fn a_newer_schema_is_refused_with_both_versions(bare: Bare) -> anyhow::Result<()> {
    migrate(&bare.config, MigrateOptions::default(), &mut |_| {}).await?;
    bare.sql(
        "INSERT INTO windlass.schema_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'of tomorrow', true, '', 0)",
    )
    .await?;
    let error = migrate(&bare.config, MigrateOptions::default(), &mut |_| {}).await.unwrap_err();
    let expected =
        format!("the schema `windlass` has version 99; this binary knows versions up to {}", newest());
    assert_eq!(error.to_string(), expected);
    Ok(())
}

async fn an_edited_migration_is_noticed(bare: Bare) -> anyhow::Result<()> {
    migrate(&bare.config, MigrateOptions::default(), &mut |_| {}).await?;
    bare.sql("UPDATE windlass.schema_migrations SET checksum = '\\x00'").await?;
    let error = migrate(&bare.config, MigrateOptions::default(), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), "migration_failed");
    assert!(
        error.chain().contains("migration 1 was previously applied but has been modified"),
        "{}",
        error.chain()
    );
    Ok(())
}

async fn a_role_that_may_not_create_the_schema_is_told_what_to_run(bare: Bare) -> anyhow::Result<()> {
    let config = DatabaseConfig::parse(&bare.server.postgres.url_as("windlass", &bare.database))?;
    let error = migrate(&config, MigrateOptions::default(), &mut |_| {}).await.unwrap_err();
    let BridgeError::MissingGrants { grants, .. } = &error else { anyhow::bail!("{error}") };
    bare.sql(&grants[0]).await?;
    migrate(&config, MigrateOptions::default(), &mut |_| {}).await?;
    Ok(())
}

async fn an_invalid_index_is_dropped(bare: Bare) -> anyhow::Result<()> {
    migrate(&bare.config, MigrateOptions::default(), &mut |_| {}).await?;
    bare.sql(
        "CREATE INDEX broken ON windlass.handover (made_at);
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'windlass.broken'::regclass",
    )
    .await?;
    let mut told = Vec::new();
    migrate(&bare.config, MigrateOptions::default(), &mut |progress| told.push(progress)).await?;
    assert_eq!(told, [MigrateProgress::DropsInvalidIndex("broken".into())]);
    assert_eq!(bare.count("SELECT count(*) FROM pg_class WHERE relname = 'broken'").await?, 0);
    Ok(())
}
