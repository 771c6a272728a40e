use std::time::Duration;

use scheduler_bridge::{BridgeError, ClaimBatch};
use windlass_core::ids::Epoch;
use windlass_core::store::{SaveAnswer, TermAnswer};

use crate::support::{Lab, on_both_versions, queueing};

on_both_versions!(
    one_holder_at_a_time,
    a_release_frees_the_term_at_once,
    a_restarted_holder_goes_on_with_the_next_epoch,
    an_expired_term_is_taken_and_the_old_one_writes_nothing,
    a_new_term_waits_for_a_write_of_the_old_one_and_a_renewal_does_not,
);

async fn one_holder_at_a_time(lab: Lab) -> anyhow::Result<()> {
    let store = &lab.store;
    let held = store.acquire_term("a", 60_000).await;
    assert_eq!(held, TermAnswer::Held { epoch: Epoch(1) });
    assert_eq!(store.acquire_term("b", 60_000).await, TermAnswer::HeldByOther { holder: "a".into() });
    assert_eq!(store.renew_term("a", Epoch(1), 60_000).await, TermAnswer::Held { epoch: Epoch(1) });
    assert_eq!(store.renew_term("b", Epoch(1), 60_000).await, TermAnswer::HeldByOther { holder: "a".into() });
    Ok(())
}

async fn a_release_frees_the_term_at_once(lab: Lab) -> anyhow::Result<()> {
    let store = &lab.store;
    let epoch = lab.lead("a").await?;
    assert_eq!(store.release_term("b", epoch).await, TermAnswer::Released, "not b's to give up");
    assert_eq!(store.acquire_term("b", 60_000).await, TermAnswer::HeldByOther { holder: "a".into() });
    assert_eq!(store.release_term("a", epoch).await, TermAnswer::Released);
    assert_eq!(store.renew_term("a", epoch, 60_000).await, TermAnswer::Released, "given up is given up");
    assert_eq!(store.acquire_term("b", 60_000).await, TermAnswer::Held { epoch: Epoch(2) });
    Ok(())
}

async fn a_restarted_holder_goes_on_with_the_next_epoch(lab: Lab) -> anyhow::Result<()> {
    let before = lab.lead("a").await?;
    assert_eq!(lab.store.acquire_term("a", 60_000).await, TermAnswer::Held { epoch: Epoch(before.0 + 1) });
    assert_eq!(
        lab.store.renew_term("a", before, 60_000).await,
        TermAnswer::Released,
        "the process before the restart"
    );
    Ok(())
}

async fn an_expired_term_is_taken_and_the_old_one_writes_nothing(lab: Lab) -> anyhow::Result<()> {
    let old = lab.lead("a").await?;
    lab.queue(&queueing("late")).await?;
    lab.sql("UPDATE windlass.term SET expires_at = clock_timestamp() - interval '1 ms'").await?;
    assert_eq!(
        lab.store.renew_term("a", old, 0).await,
        TermAnswer::Held { epoch: old },
        "expired, and nobody took it: nobody else has written"
    );
    assert_eq!(lab.store.acquire_term("b", 60_000).await, TermAnswer::Held { epoch: Epoch(old.0 + 1) });

    let claim = lab.claim_of(&queueing("late"));
    assert_eq!(lab.store.claim(old, std::slice::from_ref(&claim)).await?, ClaimBatch::Fenced);
    assert_eq!(lab.store.save(old, &[]).await, SaveAnswer::Fenced);
    let loaded = lab.store.load(old).await;
    assert!(matches!(loaded, Err(BridgeError::Fenced { epoch }) if epoch == old), "{loaded:?}");
    let purged = lab.store.purge(old, Duration::ZERO, 10).await;
    assert!(matches!(purged, Err(BridgeError::Fenced { .. })), "{purged:?}");
    assert_eq!(lab.number("SELECT count(*) FROM windlass.launch").await?, 0);
    Ok(())
}

/// The fence is a lock, not a comparison: without it the old term's transaction could commit after the new one began.
async fn a_new_term_waits_for_a_write_of_the_old_one_and_a_renewal_does_not(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut writing = lab.admin.begin().await?;
    sqlx::query("SELECT 1 FROM windlass.term WHERE epoch = $1 FOR KEY SHARE")
        .bind(epoch.0)
        .execute(&mut *writing)
        .await?;

    assert_eq!(lab.store.renew_term("a", epoch, 0).await, TermAnswer::Held { epoch });
    let blocked = lab.store.acquire_term("b", 60_000).await;
    let TermAnswer::Failed { error } = &blocked else { anyhow::bail!("{blocked:?}") };
    assert!(error.contains("acquire the term") && error.contains("lock timeout"), "{error}");

    writing.commit().await?;
    assert_eq!(lab.store.acquire_term("b", 60_000).await, TermAnswer::Held { epoch: Epoch(epoch.0 + 1) });
    Ok(())
}
