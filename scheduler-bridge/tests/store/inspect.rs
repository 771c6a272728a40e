//! What the doctor and `explain` read, and the one thing that the doctor writes.

use std::time::Duration;

use scheduler_bridge::LookLimits;
use sqlx::AssertSqlSafe;
use windlass_core::doctor::{Limits, Waits, Whose, whose, why};
use windlass_core::ids::{Attempt, LaunchId, PodUid, Queueing};
use windlass_core::outcome::{Outcome, Reason};
use windlass_core::store::{LaunchChange, StoredStage};
use windlass_core::task::TaskState;
use windlass_core::time::UtcMicros;

use crate::support::{Lab, QUEUED, SCHEDULER, key, on_both_versions, queueing};

on_both_versions!(
    a_look_reads_term_schedulers_and_handovers,
    open_launches_come_with_their_rows,
    queued_tasks_without_a_launch_are_found_whosever_they_are,
    running_tasks_without_a_worker_come_with_their_launch,
    lists_are_bounded_and_say_so,
    launches_and_tasks_are_found_by_id_and_key,
    a_story_has_all_rows_of_one_key,
    only_outcomes_that_nobody_waits_for_are_marked_as_delivered,
    a_look_reads_no_table_of_airflow_as_a_whole,
);

const LIMITS: LookLimits = LookLimits {
    rows: 100,
    unlaunched: Duration::from_secs(30),
    worker_dead: Duration::from_secs(10),
    scheduler_dead: Duration::from_secs(30),
};

async fn a_look_reads_term_schedulers_and_handovers(lab: Lab) -> anyhow::Result<()> {
    let never = lab.store.look(LIMITS).await?;
    assert_eq!((never.term.epoch, never.term.holder.as_deref()), (0, None));
    assert_eq!((never.handovers, never.oldest_handover), (0, None));
    let epoch = lab.lead("uid/windlass").await?;
    lab.sql(
        "INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES
             (8, 'SchedulerJob', 'running', now()), (9, 'SchedulerJob', 'running', now() - interval '1 hour'),
             (10, 'SchedulerJob', 'success', now()), (11, 'LocalTaskJob', 'running', now());
         DELETE FROM job WHERE id = 7;
         INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, command, made_at)
             VALUES ('d', 't', 'r', -1, 1, 7, '{}', now() - interval '40 s'), ('d', 'u', 'r', -1, 1, 7, '{}', now())",
    )
    .await?;
    let facts = lab.store.look(LIMITS).await?;
    assert_eq!((facts.term.epoch, facts.term.holder.as_deref()), (epoch.0, Some("uid/windlass")));
    assert!(facts.term.is_live(facts.now));
    assert_eq!(facts.handovers, 2);
    let waits = facts.now.ms_since(facts.oldest_handover.unwrap());
    assert!((40_000..70_000).contains(&waits), "{waits}");
    let registered: Vec<_> = facts.schedulers.iter().map(|s| (s.job_id, s.job.is_some())).collect();
    assert_eq!(registered, [(SCHEDULER, false)], "its job is gone");
    let unregistered: Vec<i64> = facts.unregistered.iter().map(|job| job.id).collect();
    assert_eq!(unregistered, [8], "alive, a scheduler, and not registered");
    Ok(())
}

async fn open_launches_come_with_their_rows(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    for task in ["runs", "gone", "done", "waits"] {
        lab.launched(epoch, &queueing(task)).await?;
    }
    let of = |task: &str| LaunchId::of(&lab.installation, &queueing(task));
    let uid = PodUid("u".into());
    lab.saved(epoch, &of("runs"), &[LaunchChange::Running { attempt: Attempt::FIRST, uid }]).await;
    let settle = LaunchChange::Settle { outcome: Outcome::failure(Reason::OomKilled, "out of memory") };
    lab.saved(epoch, &of("done"), &[settle, LaunchChange::Close]).await;
    lab.sql(
        "INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES (101, 'LocalTaskJob', 'running', now());
         UPDATE task_instance SET state = 'running', hostname = 'pod-a', job_id = 101 WHERE task_id = 'runs';
         DELETE FROM task_instance WHERE task_id = 'gone';
         UPDATE windlass.launch SET delivered_at = now() WHERE task_id = 'done'",
    )
    .await?;
    let facts = lab.store.look(LIMITS).await?;
    let find =
        |task: &str| facts.open.iter().find(|open| open.launch.row.queueing == queueing(task)).unwrap();
    assert_eq!(facts.open.len(), 3, "what is done is not looked at");
    let runs = find("runs");
    assert_eq!((runs.launch.row.stage, runs.launch.epoch), (StoredStage::Running, epoch.0));
    assert!(runs.launch.running_at.is_some() && runs.launch.created_at.is_some());
    let row = runs.task.as_ref().unwrap();
    assert!(row.is_of(&queueing("runs")) && row.is_live() && !row.run_is_over());
    assert_eq!((row.state.clone(), row.hostname.as_deref()), (TaskState::Running, Some("pod-a")));
    assert_eq!(row.worker.as_ref().map(|job| (job.id, job.kind.as_str())), Some((101, "LocalTaskJob")));
    assert!(row.worker.as_ref().unwrap().alive(facts.now, 10_000));
    assert_eq!(row.queued_by_job.as_ref().map(|job| job.id), Some(SCHEDULER));
    assert_eq!(find("gone").task, None);
    assert_eq!(find("waits").launch.row.stage, StoredStage::Claimed);
    assert_eq!((facts.unlaunched.len(), facts.dead.len(), facts.cut.len()), (0, 0, 0));
    Ok(())
}

async fn queued_tasks_without_a_launch_are_found_whosever_they_are(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    lab.launched(epoch, &queueing("launched")).await?;
    for task in ["ours", "celery", "stranger", "fresh", "running"] {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(
        "UPDATE task_instance SET executor = 'celery' WHERE task_id = 'celery';
         UPDATE task_instance SET queued_by_job_id = 99 WHERE task_id = 'stranger';
         UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'fresh';
         UPDATE task_instance SET state = 'running' WHERE task_id = 'running'",
    )
    .await?;
    let facts = lab.store.look(LIMITS).await?;
    let found: Vec<(&str, Whose)> =
        facts.unlaunched.iter().map(|t| (t.key.task_id.as_str(), whose(t, &facts.schedulers))).collect();
    assert_eq!(
        found,
        [
            ("ours", Whose::Ours),
            ("stranger", Whose::Unregistered { job: 99 }),
            ("celery", Whose::Other { executor: "celery".into() }),
        ],
        "what may be ours comes first"
    );
    Ok(())
}

async fn running_tasks_without_a_worker_come_with_their_launch(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    for task in ["beats", "silent", "ended", "no_job"] {
        lab.launched(epoch, &queueing(task)).await?;
    }
    lab.queue(&queueing("no_launch")).await?;
    lab.queue(&queueing("elsewhere")).await?;
    lab.sql(
        "INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES
             (101, 'LocalTaskJob', 'running', now()), (102, 'LocalTaskJob', 'running', now() - interval '20 s'),
             (103, 'LocalTaskJob', 'failed', now());
         UPDATE task_instance SET state = 'running', job_id = CASE task_id
             WHEN 'beats' THEN 101 WHEN 'silent' THEN 102 WHEN 'ended' THEN 103 END;
         UPDATE task_instance SET state = 'restarting' WHERE task_id = 'silent';
         UPDATE task_instance SET queued_by_job_id = 99 WHERE task_id = 'elsewhere'",
    )
    .await?;
    let facts = lab.store.look(LIMITS).await?;
    let found: Vec<(&str, bool)> =
        facts.dead.iter().map(|d| (d.task.key.task_id.as_str(), d.launch.is_some())).collect();
    assert_eq!(found, [("ended", true), ("no_job", true), ("no_launch", false), ("silent", true)]);
    let silent = facts.dead.iter().find(|d| d.task.key.task_id == "silent").unwrap();
    assert_eq!(silent.task.state, TaskState::Restarting);
    assert_eq!(silent.launch.as_ref().unwrap().row.queueing, queueing("silent"));
    Ok(())
}

async fn lists_are_bounded_and_say_so(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    for task in ["a", "b", "c"] {
        lab.launched(epoch, &queueing(task)).await?;
        lab.queue(&queueing(&format!("waits_{task}"))).await?;
    }
    let facts = lab.store.look(LookLimits { rows: 2, ..LIMITS }).await?;
    assert_eq!((facts.open.len(), facts.unlaunched.len()), (2, 2));
    assert_eq!(facts.cut, ["open launches", "queued task instances"]);
    Ok(())
}

async fn launches_and_tasks_are_found_by_id_and_key(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let launched = lab.launched(epoch, &queueing("there")).await?;
    let unknown: LaunchId = "a".repeat(26).parse()?;
    let found = lab.store.launches_by_id(&[unknown, launched.clone()]).await?;
    assert_eq!(found.iter().map(|l| l.row.launch.clone()).collect::<Vec<_>>(), [launched]);
    let tasks = lab.store.tasks_by_key(&[key("there"), key("not_there")]).await?;
    assert_eq!(tasks.iter().map(|t| t.key.clone()).collect::<Vec<_>>(), [key("there")]);
    assert!(lab.store.launches_by_id(&[]).await?.is_empty() && lab.store.tasks_by_key(&[]).await?.is_empty());
    Ok(())
}

async fn a_story_has_all_rows_of_one_key(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let first = lab.launched(epoch, &queueing("load")).await?;
    let settle = LaunchChange::Settle { outcome: Outcome::withdrawn("queued again") };
    lab.saved(epoch, &first, &[settle, LaunchChange::Close]).await;
    lab.sql("DELETE FROM task_instance").await?;
    let again = Queueing { queued_at: UtcMicros(QUEUED + 60_000_000), ..queueing("load") };
    let second = lab.launched(epoch, &again).await?;
    let urgent = lab.launched(epoch, &queueing("urgent")).await?;
    lab.sql(
        "UPDATE windlass.launch SET priority_weight = 5 WHERE task_id = 'urgent';
         INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, command)
             VALUES ('etl', 'load', 'manual__1', -1, 1, 7, '{}')",
    )
    .await?;
    let tell = |task| {
        let (store, installation) = (&lab.store, lab.installation.clone());
        let limits = Limits::default();
        async move { store.story(&key(task), installation, limits).await }
    };
    let story = tell("load").await?;
    let ids: Vec<&LaunchId> = story.launches.iter().map(|launch| &launch.row.launch).collect();
    assert_eq!(ids, [&second, &first], "newest first");
    assert_eq!(story.current().map(|launch| &launch.row.launch), Some(&second));
    assert_eq!(story.ahead, 1, "the more urgent one");
    assert!(story.handed_over.is_some());
    assert_eq!(story.task.as_ref().and_then(|task| task.queueing()), Some(again));
    assert_eq!((story.facts.database.term.epoch, story.facts.database.schedulers.len()), (epoch.0, 1));
    assert_eq!(tell("urgent").await?.ahead, 0, "{urgent}");
    let nobody = tell("nobody").await?;
    assert_eq!((nobody.task.is_none(), nobody.launches.len()), (true, 0));
    assert_eq!(why(&nobody).code, Waits::NoSuchTask);
    Ok(())
}

async fn only_outcomes_that_nobody_waits_for_are_marked_as_delivered(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let tasks = ["queued", "running", "success", "next_try", "requeued", "gone", "fresh", "open", "locked"];
    let mut launches = Vec::new();
    for task in tasks {
        let launch = lab.launched(epoch, &queueing(task)).await?;
        if task != "open" {
            let outcome = Outcome::failure(Reason::PodDeleted, "gone");
            lab.saved(epoch, &launch, &[LaunchChange::Settle { outcome }]).await;
        }
        launches.push(launch);
    }
    lab.sql(
        "UPDATE windlass.launch SET settled_at = now() - interval '2 min' WHERE task_id NOT IN ('fresh', 'open');
         UPDATE task_instance SET state = 'running' WHERE task_id = 'running';
         UPDATE task_instance SET state = 'success' WHERE task_id IN ('success', 'fresh', 'open', 'locked');
         UPDATE task_instance SET try_number = 2 WHERE task_id = 'next_try';
         UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'requeued';
         DELETE FROM task_instance WHERE task_id = 'gone'",
    )
    .await?;
    let mut plugin = lab.admin.begin().await?;
    sqlx::query("SELECT FROM windlass.launch WHERE task_id = 'locked' FOR UPDATE")
        .execute(&mut *plugin)
        .await?;
    // A fence is not needed: another leader works meanwhile.
    assert_eq!(lab.lead("a").await?.0, epoch.0 + 1);
    let age = Duration::from_secs(60);
    let marked = lab.store.mark_delivered(&launches, age).await?;
    let mut names: Vec<&str> = tasks
        .iter()
        .zip(&launches)
        .filter(|(_, launch)| marked.contains(launch))
        .map(|(task, _)| *task)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["gone", "next_try", "requeued", "success"]);
    plugin.commit().await?;
    assert_eq!(lab.store.mark_delivered(&launches, age).await?.len(), 1, "the one that was locked");
    assert_eq!(lab.number("SELECT count(*) FROM windlass.launch WHERE delivered_at IS NOT NULL").await?, 5);
    Ok(())
}

/// 60,000 past task instances, 300 of them queued, 60 running.
async fn a_look_reads_no_table_of_airflow_as_a_whole(lab: Lab) -> anyhow::Result<()> {
    lab.queue(&queueing("first")).await?;
    lab.sql(
        "INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots, queue,
             priority_weight, queued_dttm, queued_by_job_id, executor_config)
         SELECT 'etl', 'many', 'manual__1', n,
             CASE WHEN n % 200 = 0 THEN 'queued' WHEN n % 1000 = 1 THEN 'running' ELSE 'success' END, 1,
             'default_pool', 1, 'default', 1, now() - n * interval '1 s', 7, '\\x80057d942e'
         FROM generate_series(1, 60000) n;
         INSERT INTO job (id, job_type, state, latest_heartbeat)
             SELECT n, 'LocalTaskJob', 'success', now() FROM generate_series(1000, 61000) n",
    )
    .await?;
    for table in ["task_instance", "job", "windlass.launch"] {
        sqlx::raw_sql(AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(&lab.admin).await?;
    }
    for sql in lab.store.look_sql() {
        let sql = format!("EXPLAIN {}", sql.replace("$1", "20000").replace("$2", "30000"));
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&lab.admin).await?;
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on task_instance") && !plan.contains("Seq Scan on job"), "{plan}");
    }
    Ok(())
}
