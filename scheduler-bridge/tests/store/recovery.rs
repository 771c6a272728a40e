//! A failover that lost commits: noticed by the timeline of the WAL, mended from the pods.

use std::sync::Arc;

use anyhow::Context;
use scheduler_bridge::ClaimBatch;
use windlass_core::ids::{Attempt, Epoch, PodUid};
use windlass_core::store::{PodLaunch, SaveAnswer, StoredStage, TermAnswer};

use crate::support::{Lab, SCHEDULER, queueing};

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_ends_the_term_and_lost_launches_are_made_again_from_their_pods() -> anyhow::Result<()> {
    let mut lab = Lab::alone(16).await?;
    let store = lab.store.clone();
    let before = lab.lead("a").await?;
    let kept = lab.launched(before, &queueing("kept")).await?;
    let behind = lab.launched(before, &queueing("behind")).await?;
    let lost = lab.launched(before, &queueing("lost")).await?;
    let claim = lab.claim_of(&queueing("lost"));
    // The commits of the claim and of the term itself.
    lab.sql("DELETE FROM windlass.launch WHERE task_id = 'lost'; UPDATE windlass.term SET epoch = 0, holder = NULL")
        .await?;
    let server = Arc::get_mut(&mut lab.server).context("the server is shared")?;
    tokio::task::block_in_place(|| server.postgres.fail_over())?;

    assert_eq!(store.renew_term("a", before, 60_000).await, TermAnswer::Released, "it is not known any more");
    let TermAnswer::HeldAfterLoss { epoch } = store.acquire_term("b", 60_000).await else {
        anyhow::bail!("the failover was not noticed");
    };
    // The lost leader was told the epoch that would come next.
    assert!(epoch > Epoch(before.0 + 100), "{epoch:?}");
    let late = lab.claim_of(&queueing("kept"));
    assert_eq!(store.claim(before, std::slice::from_ref(&late)).await?, ClaimBatch::Fenced);

    let pod = PodLaunch {
        launch: lost.clone(),
        queueing: claim.queueing,
        attempt: Attempt(2),
        pod: claim.pod,
        uid: PodUid("u-2".into()),
        scheduler_job_id: SCHEDULER,
    };
    let older = PodLaunch { attempt: Attempt(1), uid: PodUid("u-1".into()), ..pod.clone() };
    let known =
        PodLaunch { launch: kept.clone(), queueing: queueing("kept"), attempt: Attempt(1), ..pod.clone() };
    // Its second attempt was lost, and is there (seed 94929 of the simulator).
    let ahead = PodLaunch { launch: behind.clone(), queueing: queueing("behind"), ..pod.clone() };
    // A restart before it is done finds it still to be done.
    assert!(matches!(store.acquire_term("b", 60_000).await, TermAnswer::HeldAfterLoss { .. }));
    let TermAnswer::HeldAfterLoss { epoch } = store.acquire_term("b", 60_000).await else {
        anyhow::bail!("it counts as mended");
    };
    for made in [2, 0] {
        let pods = [older.clone(), pod.clone(), known.clone(), ahead.clone()];
        let (count, rows) = store.recover(epoch, &pods).await?;
        assert_eq!((count, rows.len()), (made, 3));
        for launch in [&lost, &behind] {
            let row = rows.iter().find(|row| row.launch == *launch).context("it was not made")?;
            let expected = (StoredStage::Created, Attempt(2), &pod.pod, &Some(pod.uid.clone()));
            assert_eq!((row.stage, row.attempt, &row.pod, &row.uid), expected);
        }
        let row = rows.iter().find(|row| row.launch == kept).context("it is gone")?;
        assert_eq!((row.stage, row.attempt), (StoredStage::Claimed, Attempt::FIRST), "the row knows more");
    }
    assert_eq!(store.acquire_term("b", 60_000).await, TermAnswer::Held { epoch: Epoch(epoch.0 + 1) });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_nothing_ends_the_term_too() -> anyhow::Result<()> {
    let mut lab = Lab::alone(18).await?;
    let store = lab.store.clone();
    let before = lab.lead("a").await?;
    let server = Arc::get_mut(&mut lab.server).context("the server is shared")?;
    tokio::task::block_in_place(|| server.postgres.fail_over())?;
    // The row of the term is as it was: a decision of before must not be written all the same (seed 79352 of the
    // simulator: a task that seemed deleted was there again, and its launch was recorded as withdrawn).
    assert_eq!(store.claim(before, &[lab.claim_of(&queueing("a"))]).await?, ClaimBatch::Fenced);
    assert_eq!(store.save(before, &[]).await, SaveAnswer::Fenced);
    assert_eq!(store.renew_term("a", before, 60_000).await, TermAnswer::Released);
    let again = store.acquire_term("a", 60_000).await;
    assert!(matches!(again, TermAnswer::HeldAfterLoss { .. }), "{again:?}");
    Ok(())
}
