use scheduler_bridge::{BridgeError, DatabaseConfig, Store, StoreSettings};
use windlass_core::store::TermAnswer;
use windlass_lab::postgres::Postgres;

use crate::support::{Lab, newest, on_both_versions, store_at};

on_both_versions!(
    the_shipped_grants_are_what_is_needed,
    every_missing_grant_is_named_with_its_statement,
    a_diagnosis_tells_all_faults,
    an_airflow_that_is_not_known_is_refused_by_name,
    a_schema_of_another_version_is_refused_with_both_numbers,
    airflow_may_live_in_a_schema_of_its_own,
    a_wrong_address_user_or_database_is_told_apart,
    a_denied_statement_names_its_table,
    airflow_has_what_the_plugin_does_and_no_more,
    connections_lost_while_idle_are_replaced,
    a_primary_that_becomes_read_only_is_told,
);

async fn the_shipped_grants_are_what_is_needed(lab: Lab) -> anyhow::Result<()> {
    let checked = lab.store.check().await?;
    assert_eq!(checked.airflow_revision, "5f2621c13b39");
    assert_eq!(checked.airflow_releases, "2.10.3 to 2.11.x");
    assert_eq!((checked.schema_version, checked.role.as_str()), (newest(), "windlass"));
    assert!(checked.postgres_version.starts_with(&lab.server.postgres.version().to_string()));
    Ok(())
}

async fn every_missing_grant_is_named_with_its_statement(lab: Lab) -> anyhow::Result<()> {
    lab.sql(
        "REVOKE UPDATE (external_executor_id) ON task_instance FROM windlass;
         REVOKE SELECT (state, id) ON job FROM windlass;
         REVOKE DELETE ON windlass.launch FROM windlass",
    )
    .await?;
    let error = lab.store.check().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "database role `windlass` lacks 3 privileges: GRANT SELECT (id, state) ON public.job TO windlass; \
         GRANT UPDATE (external_executor_id) ON public.task_instance TO windlass; \
         GRANT DELETE ON windlass.launch TO windlass;"
    );
    let BridgeError::MissingGrants { grants, .. } = error else { anyhow::bail!("another error") };
    for grant in grants {
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&lab.admin).await?;
    }
    lab.store.check().await?;

    lab.sql("REVOKE USAGE ON SCHEMA windlass FROM windlass").await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(error.to_string().contains("GRANT USAGE ON SCHEMA windlass TO windlass;"), "{error}");
    lab.sql("REVOKE ALL ON alembic_version FROM windlass").await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(error.to_string().contains("GRANT SELECT (version_num) ON public.alembic_version"), "{error}");
    Ok(())
}

async fn a_diagnosis_tells_all_faults(lab: Lab) -> anyhow::Result<()> {
    let (checked, faults) = lab.store.diagnose().await?;
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(checked, lab.store.check().await?);
    lab.sql(
        "UPDATE alembic_version SET version_num = 'd2f4e1b3c5a7';
         REVOKE DELETE ON windlass.launch FROM windlass;
         INSERT INTO windlass.schema_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'of tomorrow', true, '', 0)",
    )
    .await?;
    let (checked, faults) = lab.store.diagnose().await?;
    let kinds: Vec<&str> = faults.iter().map(BridgeError::kind).collect();
    assert_eq!(kinds, ["unknown_airflow_revision", "schema_newer", "missing_grant"]);
    assert_eq!((checked.airflow_revision.as_str(), checked.schema_version), ("d2f4e1b3c5a7", 99));
    Ok(())
}

async fn an_airflow_that_is_not_known_is_refused_by_name(lab: Lab) -> anyhow::Result<()> {
    lab.sql("UPDATE alembic_version SET version_num = 'd2f4e1b3c5a7'").await?;
    assert_eq!(
        lab.store.check().await.unwrap_err().to_string(),
        "Airflow's database schema has revision `d2f4e1b3c5a7`; this Windlass knows `22ed7efa9da2` (Airflow 2.10.0 to \
         2.10.2) and `5f2621c13b39` (Airflow 2.10.3 to 2.11.x)"
    );
    lab.sql("DELETE FROM alembic_version").await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(matches!(error, BridgeError::NoAirflow { .. }), "{error}");
    lab.sql("DROP TABLE alembic_version").await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(
        error.to_string().starts_with("there are no Airflow tables in the search_path of 127.0.0.1:"),
        "{error}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("airflow db migrate")));
    Ok(())
}

async fn a_schema_of_another_version_is_refused_with_both_numbers(lab: Lab) -> anyhow::Result<()> {
    lab.sql(
        "INSERT INTO windlass.schema_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'of tomorrow', true, '', 0)",
    )
    .await?;
    let error = lab.store.check().await.unwrap_err();
    let expected =
        format!("the schema `windlass` has version 99; this binary knows versions up to {}", newest());
    assert_eq!(error.to_string(), expected);
    lab.sql("DROP SCHEMA windlass CASCADE").await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(matches!(error, BridgeError::SchemaMissing), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("windlass migrate")));
    Ok(())
}

async fn airflow_may_live_in_a_schema_of_its_own(lab: Lab) -> anyhow::Result<()> {
    lab.sql(
        "CREATE SCHEMA \"air Flow\"; ALTER TABLE alembic_version SET SCHEMA \"air Flow\";
         ALTER TABLE dag SET SCHEMA \"air Flow\"; ALTER TABLE dag_tag SET SCHEMA \"air Flow\"; ALTER TABLE dag_run SET SCHEMA \"air Flow\";
         ALTER TABLE job SET SCHEMA \"air Flow\"; ALTER TABLE slot_pool SET SCHEMA \"air Flow\"; ALTER TABLE task_instance SET SCHEMA \"air Flow\"",
    )
    .await?;
    let error = lab.store.check().await.unwrap_err();
    assert!(matches!(error, BridgeError::NoAirflow { .. }), "{error}");
    let grants = include_str!("../../../deploy/sql/grants.sql");
    lab.server.postgres.psql(&lab.database, grants, &[("airflow_schema", "air Flow")])?;
    let config = DatabaseConfig::parse(&lab.server.postgres.url_as("windlass", &lab.database))?;
    let config = config.with_airflow_schema(Some("air Flow".into()));
    let store = Store::connect(config, StoreSettings::default()).await?;
    store.check().await?;
    assert_eq!(store.intake(windlass_core::store::IntakePass::Full, 1).await?, []);
    assert_eq!(store.status(1).await?.queued, 0);
    assert_eq!(store.dags(None).await?, []);
    lab.sql("INSERT INTO \"air Flow\".slot_pool (pool, slots, include_deferred) VALUES ('gpu', 4, false)")
        .await?;
    assert_eq!(store.pools().await?, ["gpu"]);
    assert!(store.find_withdrawn(1).await?.is_empty());
    Ok(())
}

async fn a_wrong_address_user_or_database_is_told_apart(lab: Lab) -> anyhow::Result<()> {
    let port = lab.server.postgres.port();
    let closed = windlass_lab::ports::free()?;
    let cases = [
        (
            format!("postgresql://windlass@127.0.0.1:{port}/nowhere"),
            "no_such_database",
            "has no such database",
        ),
        (
            format!("postgresql://stranger:hunter2@127.0.0.1:{port}/postgres"),
            "authentication_failed",
            "user `stranger`",
        ),
        (format!("postgresql://windlass:hunter2@127.0.0.1:{closed}/x"), "cannot_connect", "cannot connect"),
        (
            format!("postgresql://windlass:hunter2@127.0.0.1:{port}/x?sslmode=require"),
            "tls_failed",
            "server does not support TLS",
        ),
    ];
    for (url, kind, words) in cases {
        let error = store_at(&url).await.unwrap_err().downcast::<BridgeError>()?;
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(error.chain().contains(words), "{}", error.chain());
        assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"));
    }
    Ok(())
}

async fn a_denied_statement_names_its_table(lab: Lab) -> anyhow::Result<()> {
    lab.sql("REVOKE SELECT ON windlass.launch FROM windlass").await?;
    let error = lab.store.find_withdrawn(1).await.unwrap_err();
    assert_eq!(error.kind(), "missing_grant");
    assert!(error.chain().ends_with("permission denied for table launch"), "{}", error.chain());
    assert!(error.hint().is_some_and(|hint| hint.contains("deploy/sql/grants.sql")));
    Ok(())
}

async fn airflow_has_what_the_plugin_does_and_no_more(lab: Lab) -> anyhow::Result<()> {
    let allowed = [
        "INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version)
         VALUES (9, '{w}', true, '2.11.2', '0.1.0') ON CONFLICT (job_id) DO UPDATE SET seen_at = now()",
        "INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, command)
         VALUES ('d', 't', 'r', -1, 1, 9, '{}')",
        "UPDATE windlass.launch SET withdrawn_at = now(), callback_sent_at = now(), delivered_at = now()",
        "SELECT expires_at FROM windlass.term",
        "NOTIFY windlass_wake",
    ];
    let denied = [
        "UPDATE windlass.launch SET stage = 'closed'",
        "INSERT INTO windlass.launch (launch_id) VALUES ('x')",
        "UPDATE windlass.term SET epoch = 99",
        "DELETE FROM windlass.handover",
        "DROP TABLE windlass.term",
    ];
    let as_airflow =
        |sql: &str| lab.server.postgres.psql(&lab.database, &format!("SET ROLE airflow; {sql}"), &[]);
    for sql in allowed {
        as_airflow(sql)?;
    }
    for sql in denied {
        let error = as_airflow(sql).unwrap_err().to_string();
        assert!(error.contains("permission denied") || error.contains("must be owner"), "{sql}: {error}");
    }
    Ok(())
}

async fn connections_lost_while_idle_are_replaced(lab: Lab) -> anyhow::Result<()> {
    let (before, second) = tokio::join!(lab.store.installation(), lab.store.installation());
    let before = before?;
    assert_eq!(before, second?);
    let ended = lab.number(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE usename = 'windlass' AND datname = current_database()",
    );
    assert!(ended.await? >= 1);
    assert_eq!(lab.store.installation().await?, before);
    assert_eq!(lab.lead("a").await?.0, 1);
    Ok(())
}

async fn a_primary_that_becomes_read_only_is_told(lab: Lab) -> anyhow::Result<()> {
    let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = on", lab.database);
    lab.server.postgres.psql("postgres", &sql, &[])?;
    let store = store_at(&lab.server.postgres.url_as("windlass", &lab.database)).await?;
    let answer = store.acquire_term("a", 1000).await;
    let TermAnswer::Failed { error } = &answer else { anyhow::bail!("{answer:?}") };
    assert!(error.contains("is a read-only replica"), "{error}");
    assert_eq!(store.check().await.unwrap_err().kind(), "read_only");
    Ok(())
}

/// A server in recovery, as a replica is: it answers, and writes nothing.
#[tokio::test]
async fn a_replica_is_refused() -> anyhow::Result<()> {
    let replica = tokio::task::spawn_blocking(|| Postgres::start_replica(16)).await??;
    let store = store_at(&replica.url("postgres")).await?;
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), "read_only");
    assert!(error.to_string().contains("is a read-only replica"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("the primary")), "{:?}", error.hint());
    store.close().await;
    Ok(())
}
