use scheduler_bridge::ClaimBatch;
use windlass_core::ids::{LaunchId, Queueing};
use windlass_core::store::{Claim, ClaimAnswer, StoredStage};
use windlass_core::time::UtcMicros;

use crate::support::{Lab, QUEUED, on_both_versions, queueing};

on_both_versions!(
    a_claim_is_answered_by_what_became_of_it,
    two_overlapping_batches_insert_each_launch_once,
    the_same_try_queued_again_is_another_launch,
);

async fn a_claim_is_answered_by_what_became_of_it(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    for task in ["fresh", "again", "left_queued"] {
        lab.queue(&queueing(task)).await?;
    }
    let claims: Vec<Claim> =
        ["fresh", "again", "left_queued", "gone"].map(|task| lab.claim_of(&queueing(task))).into();
    lab.store.claim(epoch, &claims[1..2]).await?;
    lab.sql("UPDATE task_instance SET state = 'running' WHERE task_id = 'again'").await?;
    lab.sql("UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'left_queued'").await?;

    let ClaimBatch::Answers(answers) = lab.store.claim(epoch, &claims).await? else {
        anyhow::bail!("fenced")
    };
    assert_eq!(answers[0], ClaimAnswer::Claimed(claims[0].launch.clone()));
    let ClaimAnswer::Exists(row) = &answers[1] else { anyhow::bail!("{:?}", answers[1]) };
    assert_eq!((row.stage, &row.launch, &row.pod), (StoredStage::Claimed, &claims[1].launch, &claims[1].pod));
    assert_eq!(answers[2], ClaimAnswer::Withdrawn(claims[2].launch.clone()));
    assert_eq!(answers[3], ClaimAnswer::Withdrawn(claims[3].launch.clone()));
    assert_eq!(lab.store.claim(epoch, &[]).await?, ClaimBatch::Answers(vec![]));
    Ok(())
}

async fn two_overlapping_batches_insert_each_launch_once(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut claims = Vec::new();
    for n in 0..200 {
        let queueing = queueing(&format!("t{n}"));
        lab.queue(&queueing).await?;
        claims.push(lab.claim_of(&queueing));
    }
    let backwards: Vec<Claim> = claims.iter().rev().cloned().collect();
    let (one, two) = tokio::join!(lab.store.claim(epoch, &claims), lab.store.claim(epoch, &backwards));
    let mut claimed: Vec<LaunchId> = Vec::new();
    for batch in [one?, two?] {
        let ClaimBatch::Answers(answers) = batch else { anyhow::bail!("fenced") };
        for answer in answers {
            match answer {
                ClaimAnswer::Claimed(launch) => claimed.push(launch),
                ClaimAnswer::Exists(_) => {}
                ClaimAnswer::Withdrawn(launch) => anyhow::bail!("{launch} is queued"),
            }
        }
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 200);
    assert_eq!(lab.number("SELECT count(*) FROM windlass.launch").await?, 200);
    Ok(())
}

async fn the_same_try_queued_again_is_another_launch(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let first = lab.launched(epoch, &queueing("sensor")).await?;
    let again = Queueing { queued_at: UtcMicros(QUEUED + 1), ..queueing("sensor") };
    lab.sql("UPDATE task_instance SET queued_dttm = queued_dttm + interval '1 microsecond'").await?;
    let claim = lab.claim_of(&again);
    let answers = lab.store.claim(epoch, std::slice::from_ref(&claim)).await?;
    assert_eq!(answers, ClaimBatch::Answers(vec![ClaimAnswer::Claimed(claim.launch.clone())]));
    assert_ne!(first, claim.launch, "one microsecond later");
    let rows = lab.store.find_launches(&[first, claim.launch]).await?;
    let mut times: Vec<i64> = rows.iter().map(|row| row.queueing.queued_at.0).collect();
    times.sort_unstable();
    assert_eq!(times, [QUEUED, QUEUED + 1]);
    Ok(())
}
