use scheduler_bridge::{BridgeError, ClaimBatch, DatabaseConfig, MigrateOptions, migrate};
use windlass_core::ids::{Attempt, PodUid};
use windlass_core::outcome::Outcome;
use windlass_core::store::{IntakePass, LaunchChange, LaunchUpdate, SaveAnswer, TermAnswer};
use windlass_lab::pgbouncer::PgBouncer;

use crate::support::{Lab, queueing, store_at, unless_missing};

async fn pooler(lab: &Lab, pool_size: u32) -> anyhow::Result<Option<PgBouncer>> {
    let server = lab.server.clone();
    unless_missing(move || {
        PgBouncer::available()?;
        Ok(move || PgBouncer::start(&server.postgres, pool_size))
    })
    .await
}

/// The life of a task. With one server connection every transaction follows one of another client on it.
#[tokio::test]
async fn all_of_it_works_through_a_pooler_in_transaction_mode() -> anyhow::Result<()> {
    let lab = Lab::new(16).await?;
    let Some(pooler) = pooler(&lab, 1).await? else { return Ok(()) };
    let url = pooler.url_as("windlass", &lab.database);
    let (store, other) = (store_at(&url).await?, store_at(&url).await?);
    store.check().await?;
    let TermAnswer::Held { epoch } = store.acquire_term("a", 60_000).await else { anyhow::bail!("not held") };
    let mut claims = Vec::new();
    for n in 0..50 {
        let queueing = queueing(&format!("t{n}"));
        lab.queue(&queueing).await?;
        claims.push(lab.claim_of(&queueing));
    }
    // Both at once, again and again: whatever one leaves on the connection meets the other.
    for claim in &claims {
        let batch = std::slice::from_ref(claim);
        let (claimed, found) = tokio::join!(store.claim(epoch, batch), other.intake(IntakePass::Full, 10));
        assert!(matches!(claimed?, ClaimBatch::Answers(_)));
        found?;
    }
    assert_eq!(other.intake(IntakePass::Full, 10).await?, []);
    let updates = |change: LaunchChange| -> Vec<LaunchUpdate> {
        claims.iter().map(|c| LaunchUpdate { launch: c.launch.clone(), change: change.clone() }).collect()
    };
    let created = LaunchChange::Created { attempt: Attempt::FIRST, uid: PodUid("u".into()) };
    let saved = SaveAnswer::Saved { refused: vec![] };
    assert_eq!(store.save(epoch, &updates(created)).await, saved);
    let settle = LaunchChange::Settle { outcome: Outcome::success("done") };
    let settling = updates(settle);
    let (answer, loaded) = tokio::join!(store.save(epoch, &settling), other.load(epoch));
    assert_eq!(answer, saved);
    assert_eq!(loaded?.len(), 50);
    assert_eq!(other.status(5).await?.launches["settled"], 50);
    assert_eq!(other.release_term("a", epoch).await, TermAnswer::Released);

    // The server's own session has nothing of ours: no prepared statement, no setting, no lock.
    let left = "SELECT (SELECT count(*) FROM pg_prepared_statements)::text || ' '
        || current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')";
    let left = lab.server.postgres.psql_at(&url, left, &[])?;
    assert_eq!(left, "0 0 0");
    Ok(())
}

#[tokio::test]
async fn a_pooler_is_noticed_where_it_matters() -> anyhow::Result<()> {
    let lab = Lab::new(16).await?;
    let Some(pooler) = pooler(&lab, 5).await? else { return Ok(()) };
    let url = pooler.url_as("windlass", &lab.database);
    assert!(store_at(&url).await?.wake_listener().await?.is_none(), "poll instead");
    let config = DatabaseConfig::parse(&url)?;
    let error = migrate(&config, MigrateOptions::default(), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, BridgeError::Pooler { .. }), "{error}");
    assert!(error.to_string().contains("is a connection pooler in transaction mode"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_wake_is_heard_on_a_direct_connection() -> anyhow::Result<()> {
    let lab = Lab::new(18).await?;
    let mut wakes = lab.store.wake_listener().await?.expect("a direct connection hears");
    lab.server.postgres.psql(&lab.database, "SET ROLE airflow; NOTIFY windlass_wake", &[])?;
    tokio::time::timeout(std::time::Duration::from_secs(10), wakes.woken()).await??;
    Ok(())
}
