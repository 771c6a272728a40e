//! What the server sees of our connections: their name, their bounds, their number.

use std::time::Duration;

use anyhow::Context;
use scheduler_bridge::{Store, StoreSettings};
use windlass_core::store::{IntakePass, TermAnswer};

use crate::support::{Lab, on_both_versions, store_at};

on_both_versions!(a_transaction_runs_under_bounds_and_a_name, there_are_no_more_connections_than_allowed,);

async fn a_transaction_runs_under_bounds_and_a_name(lab: Lab) -> anyhow::Result<()> {
    // What holds inside of a transaction of ours, noted by the server.
    lab.sql(
        "CREATE TABLE seen AS SELECT name, setting FROM pg_settings LIMIT 0;
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             INSERT INTO public.seen SELECT name, setting FROM pg_settings
                 WHERE name IN ('application_name', 'statement_timeout', 'lock_timeout',
                     'idle_in_transaction_session_timeout', 'TimeZone');
             RETURN NULL; END $$;
         CREATE TRIGGER note AFTER UPDATE ON windlass.term FOR EACH ROW EXECUTE FUNCTION note();",
    )
    .await?;
    let answer = lab.store.acquire_term("a", 60_000).await;
    assert!(matches!(answer, TermAnswer::Held { .. }), "{answer:?}");
    let seen: Vec<String> =
        sqlx::query_scalar("SELECT name || '=' || setting FROM seen ORDER BY name COLLATE \"C\"")
            .fetch_all(&lab.admin)
            .await?;
    let bounds = [
        "TimeZone=UTC",
        "application_name=windlass",
        "idle_in_transaction_session_timeout=3000",
        "lock_timeout=500",
        "statement_timeout=3000",
    ];
    assert_eq!(seen, bounds);
    Ok(())
}

async fn there_are_no_more_connections_than_allowed(lab: Lab) -> anyhow::Result<()> {
    assert_eq!(StoreSettings::default().max_connections, 5);
    let url = lab.server.postgres.url_as("windlass", &lab.database);
    let store = store_at(&format!("{url}?application_name=counted")).await?;
    let mut wakes = store.wake_listener().await?.context("a direct connection hears")?;
    // Each call waits for a lock, as long as it may.
    let mut locks = lab.admin.begin().await?;
    sqlx::query("LOCK TABLE windlass.term, task_instance").execute(&mut *locks).await?;
    let calls: Vec<_> = (0..4).map(|_| tokio::spawn(ask(store.clone()))).collect();
    let mut most = 0;
    while !calls.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(lab.number(COUNTED).await?);
    }
    locks.rollback().await?;
    assert!((3..=5).contains(&most), "{most}");
    ask(store.clone()).await;
    assert_eq!(lab.number(COUNTED).await?, 5, "and all of them are used");
    lab.sql("NOTIFY windlass_wake").await?;
    tokio::time::timeout(Duration::from_secs(10), wakes.woken()).await??;
    store.close().await;
    Ok(())
}

const COUNTED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'";

async fn ask(store: Store) {
    // Whether they can is not the question.
    let (_, _, _, _) = tokio::join!(
        store.acquire_term("a", 1_000),
        store.intake(IntakePass::Full, 10),
        store.intake(IntakePass::Full, 10),
        store.intake(IntakePass::Full, 10)
    );
}
