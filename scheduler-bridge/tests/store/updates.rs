use std::time::Duration;

use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid};
use windlass_core::outcome::{Outcome, OutcomeKind, Reason};
use windlass_core::store::{LaunchChange, LaunchUpdate, SaveAnswer, StoredStage};

use crate::support::{Lab, on_both_versions, queueing};

on_both_versions!(
    a_launch_goes_through_its_stages,
    a_guard_that_does_not_hold_is_answered_with_the_row,
    a_second_attempt_forgets_the_first_pod,
    several_changes_of_one_launch_are_applied_in_their_order,
    load_takes_over_what_is_not_closed,
    only_what_is_done_with_and_old_is_deleted,
);

fn uid(text: &str) -> PodUid {
    PodUid(text.into())
}

fn created(pod: &str) -> LaunchChange {
    LaunchChange::Created { attempt: Attempt::FIRST, uid: uid(pod) }
}

fn running(pod: &str) -> LaunchChange {
    LaunchChange::Running { attempt: Attempt::FIRST, uid: uid(pod) }
}

fn settle(outcome: Outcome) -> LaunchChange {
    LaunchChange::Settle { outcome }
}

async fn a_launch_goes_through_its_stages(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let launch = lab.launched(epoch, &queueing("t")).await?;
    let outcome =
        Outcome::failure(Reason::OomKilled, "the container's memory\0limit").with_exit_code(Some(137));
    for change in [created("u1"), running("u1"), settle(outcome), LaunchChange::Close] {
        lab.saved(epoch, &launch, &[change]).await;
    }
    let rows = lab.store.find_launches(std::slice::from_ref(&launch)).await?;
    let stored = rows[0].outcome.clone().unwrap();
    assert_eq!(stored.message, "the container's memory\u{fffd}limit", "text has no NUL");
    assert_eq!(
        (stored.kind, stored.reason, stored.exit_code),
        (OutcomeKind::Failure, Some(Reason::OomKilled), Some(137))
    );
    assert_eq!((rows[0].stage, rows[0].uid.clone()), (StoredStage::Closed, Some(uid("u1"))));
    let whole =
        "SELECT count(*) FROM windlass.launch WHERE claimed_at <= created_at AND created_at <= running_at
        AND running_at <= settled_at AND settled_at <= closed_at AND NOT done";
    assert_eq!(lab.number(whole).await?, 1);
    lab.sql("UPDATE windlass.launch SET delivered_at = now()").await?;
    assert_eq!(lab.number("SELECT count(*) FROM windlass.launch WHERE done").await?, 1);
    Ok(())
}

async fn a_guard_that_does_not_hold_is_answered_with_the_row(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let launch = lab.launched(epoch, &queueing("t")).await?;
    lab.saved(epoch, &launch, &[created("u1"), running("u1"), settle(Outcome::success("done"))]).await;

    let unknown: LaunchId = "a".repeat(26).parse()?;
    let later = LaunchChange::Relaunch { attempt: Attempt(2), pod: pod("p2"), why: "lost".into() };
    let updates: Vec<LaunchUpdate> =
        [created("u2"), running("u2"), settle(Outcome::withdrawn("late")), later]
            .into_iter()
            .map(|change| LaunchUpdate { launch: launch.clone(), change })
            .chain([LaunchUpdate { launch: unknown.clone(), change: LaunchChange::Close }])
            .collect();
    let SaveAnswer::Saved { refused } = lab.store.save(epoch, &updates).await else {
        anyhow::bail!("not saved")
    };
    let refused: std::collections::BTreeMap<_, _> = refused.into_iter().collect();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[&unknown], None);
    let row = refused[&launch].clone().unwrap();
    assert_eq!(row.stage, StoredStage::Settled);
    assert_eq!(row.outcome.map(|o| o.kind), Some(OutcomeKind::Success), "an outcome never changes");
    assert_eq!((row.uid, row.attempt), (Some(uid("u1")), Attempt::FIRST));
    Ok(())
}

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "other".into(), name: name.into() }
}

async fn a_second_attempt_forgets_the_first_pod(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let launch = lab.launched(epoch, &queueing("t")).await?;
    let relaunch =
        LaunchChange::Relaunch { attempt: Attempt(2), pod: pod("p2"), why: "the node went away".into() };
    lab.saved(epoch, &launch, &[created("u1"), running("u1"), relaunch.clone()]).await;
    let rows = lab.store.find_launches(std::slice::from_ref(&launch)).await?;
    assert_eq!((rows[0].stage, rows[0].attempt, &rows[0].uid), (StoredStage::Claimed, Attempt(2), &None));
    assert_eq!(rows[0].pod, pod("p2"));
    assert_eq!(
        lab.number("SELECT count(*) FROM windlass.launch WHERE lost = 'the node went away'").await?,
        1
    );

    let stale = [created("u1"), relaunch];
    for change in stale {
        let answer = lab.store.save(epoch, &[LaunchUpdate { launch: launch.clone(), change }]).await;
        assert!(matches!(&answer, SaveAnswer::Saved { refused } if refused.len() == 1), "{answer:?}");
    }
    lab.saved(epoch, &launch, &[LaunchChange::Created { attempt: Attempt(2), uid: uid("u2") }]).await;
    Ok(())
}

async fn several_changes_of_one_launch_are_applied_in_their_order(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let launch = lab.launched(epoch, &queueing("t")).await?;
    let outcome = settle(Outcome::success("done"));
    lab.saved(epoch, &launch, &[created("u1"), running("u1"), outcome, LaunchChange::Close]).await;
    let rows = lab.store.find_launches(&[launch]).await?;
    assert_eq!(rows[0].stage, StoredStage::Closed);
    Ok(())
}

async fn load_takes_over_what_is_not_closed(lab: Lab) -> anyhow::Result<()> {
    let old = lab.lead("a").await?;
    let mut open = Vec::new();
    for n in 0..3 {
        open.push(lab.launched(old, &queueing(&format!("open{n}"))).await?);
    }
    lab.saved(old, &open[1], &[created("u1")]).await;
    lab.saved(old, &open[2], &[created("u2"), settle(Outcome::superseded("another"))]).await;
    let closed = lab.launched(old, &queueing("closed")).await?;
    lab.saved(old, &closed, &[settle(Outcome::withdrawn("taken back")), LaunchChange::Close]).await;
    // More than one batch.
    lab.sql(
        "INSERT INTO windlass.launch (launch_id, dag_id, task_id, run_id, map_index, try_number, queued_dttm,
            scheduler_job_id, priority_weight, epoch, stage, namespace, pod_name)
         SELECT rpad(translate(n::text, '0189', 'xyzw'), 26, 'a'), 'many', 't', 'r', n, 1, now(), 7, 1, 1, 'claimed',
            'tasks', 'p' || n
         FROM generate_series(1, 2500) n",
    )
    .await?;

    let new = lab.lead("a").await?;
    let rows = lab.store.load(new).await?;
    assert_eq!(rows.len(), 2503);
    assert!(open.iter().all(|launch| rows.iter().any(|row| row.launch == *launch)));
    assert!(rows.windows(2).all(|pair| pair[0].launch < pair[1].launch), "each once");
    assert_eq!(lab.number("SELECT count(*) FROM windlass.launch WHERE epoch = 2").await?, 2503);
    assert_eq!(lab.store.save(old, &[]).await, SaveAnswer::Fenced);
    Ok(())
}

#[tokio::test]
async fn most_updates_are_hot_on_16() -> anyhow::Result<()> {
    most_updates_are_hot(Lab::alone(16).await?).await
}

#[tokio::test]
async fn most_updates_are_hot_on_18() -> anyhow::Result<()> {
    most_updates_are_hot(Lab::alone(18).await?).await
}

/// Of the six updates of a task only two write indexes: the one that makes it deliverable and the last one.
async fn most_updates_are_hot(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut launches = Vec::new();
    for n in 0..100 {
        launches.push(lab.launched(epoch, &queueing(&format!("t{n}"))).await?);
    }
    let all = |change: LaunchChange| -> Vec<LaunchUpdate> {
        launches
            .iter()
            .map(|launch| LaunchUpdate { launch: launch.clone(), change: change.clone() })
            .collect()
    };
    let saved = SaveAnswer::Saved { refused: vec![] };
    assert_eq!(lab.store.save(epoch, &all(created("u"))).await, saved);
    assert_eq!(lab.store.save(epoch, &all(running("u"))).await, saved);
    let failure = Outcome::failure(Reason::WorkerExited, "exit code 1");
    assert_eq!(lab.store.save(epoch, &all(settle(failure))).await, saved);
    assert_eq!(lab.store.save(epoch, &all(LaunchChange::Close)).await, saved);
    lab.sql("UPDATE windlass.launch SET callback_sent_at = now()").await?;
    lab.sql("UPDATE windlass.launch SET delivered_at = now()").await?;

    // Statistics are sent when a session has been idle for a second, or ends.
    lab.store.close().await;
    let counted =
        "SELECT (SELECT pg_stat_force_next_flush()) IS NULL OR n_tup_upd > 0, n_tup_upd, n_tup_hot_upd
        FROM pg_stat_user_tables WHERE schemaname = 'windlass' AND relname = 'launch'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let (updates, hot) = loop {
        let (_, updates, hot): (bool, i64, i64) = sqlx::query_as(counted).fetch_one(&lab.admin).await?;
        if updates >= 600 || tokio::time::Instant::now() > deadline {
            break (updates, hot);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(updates, 600);
    // Four of six can be. All rows of a page change at once here, and not every page has room left for that.
    assert!(hot >= 320, "{hot} of {updates} updates were HOT");
    Ok(())
}

async fn only_what_is_done_with_and_old_is_deleted(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let closing = [settle(Outcome::success("done")), LaunchChange::Close];
    for task in ["old", "open", "undelivered", "young", "still_running"] {
        let launch = lab.launched(epoch, &queueing(task)).await?;
        if task != "open" {
            lab.saved(epoch, &launch, &closing).await;
        }
    }
    lab.sql("UPDATE task_instance SET state = 'success' WHERE task_id <> 'still_running'").await?;
    lab.sql(
        "UPDATE windlass.launch SET delivered_at = now() WHERE outcome IS NOT NULL AND task_id <> 'undelivered';
         UPDATE windlass.launch SET claimed_at = claimed_at - interval '2 days',
             closed_at = closed_at - CASE task_id WHEN 'young' THEN interval '1 hour' ELSE interval '2 days' END;
         INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version, seen_at)
             VALUES (6, '{windlass}', true, '2.11.2', '0.1.0', now() - interval '2 days');
         INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, command, made_at)
             VALUES ('etl', 'x', 'r', -1, 1, 7, '{}', now() - interval '2 hours')",
    )
    .await?;
    let purged = lab.store.purge(epoch, Duration::from_secs(86_400), 100).await?;
    assert_eq!((purged.launches, purged.schedulers, purged.handovers), (1, 1, 1));
    let left: Vec<String> =
        sqlx::query_scalar("SELECT task_id FROM windlass.launch ORDER BY 1").fetch_all(&lab.admin).await?;
    assert_eq!(left, ["open", "still_running", "undelivered", "young"]);
    assert_eq!(lab.number("SELECT job_id FROM windlass.scheduler").await?, 7);
    Ok(())
}
