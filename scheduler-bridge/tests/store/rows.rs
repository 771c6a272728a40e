use std::time::Duration;

use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid, Queueing};
use windlass_core::outcome::{Outcome, Reason};
use windlass_core::store::LaunchChange;
use windlass_core::task::{TaskRow, TaskState, TaskView};
use windlass_core::time::UtcMicros;

use crate::support::{Lab, QUEUED, SCHEDULER, on_both_versions, queueing};

on_both_versions!(
    a_reread_tells_state_host_and_heartbeat,
    withdrawn_launches_are_found_before_they_start,
    a_spec_is_read_only_while_the_queueing_stands,
    a_pod_is_noted_where_nobody_else_is_writing,
    the_status_counts_what_there_is,
    a_mapped_task_of_a_subdag_renders_with_its_parents_file,
);

async fn a_reread_tells_state_host_and_heartbeat(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut asked: Vec<(LaunchId, Queueing)> = Vec::new();
    for task in ["queued", "alive", "silent", "ended", "cleared", "gone"] {
        asked.push((lab.launched(epoch, &queueing(task)).await?, queueing(task)));
    }
    lab.sql(
        "INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES
             (101, 'LocalTaskJob', 'running', now() - interval '8 s'),
             (102, 'LocalTaskJob', 'running', now() - interval '12 s'),
             (103, 'LocalTaskJob', 'failed', now());
         UPDATE task_instance SET state = 'running', hostname = 'pod-a', job_id = CASE task_id
             WHEN 'alive' THEN 101 WHEN 'silent' THEN 102 WHEN 'ended' THEN 103 END
             WHERE task_id IN ('alive', 'silent', 'ended');
         UPDATE task_instance SET state = NULL, queued_dttm = NULL, try_number = NULL, hostname = ''
             WHERE task_id = 'cleared';
         UPDATE windlass.launch SET withdrawn_at = now() WHERE task_id = 'cleared';
         DELETE FROM task_instance WHERE task_id = 'gone'",
    )
    .await?;
    let mut views = lab.store.read_tasks(&asked).await?;
    views.sort_by_key(|view| asked.iter().position(|(launch, _)| *launch == view.launch));
    let row = |state, alive| TaskRow {
        state,
        try_number: 1,
        queued_at: Some(UtcMicros(QUEUED)),
        hostname: Some("pod-a".into()),
        worker_alive: alive,
    };
    let rows: Vec<Option<TaskRow>> = views.iter().map(|view| view.row.clone()).collect();
    assert_eq!(rows[0], Some(TaskRow { hostname: None, ..row(TaskState::Queued, None) }));
    assert_eq!(rows[1], Some(row(TaskState::Running, Some(true))));
    assert_eq!(rows[2], Some(row(TaskState::Running, Some(false))), "over two heartbeats of 5 s late");
    assert_eq!(rows[3], Some(row(TaskState::Running, Some(false))));
    let cleared = TaskRow {
        state: TaskState::None,
        try_number: 0,
        queued_at: None,
        hostname: None,
        worker_alive: None,
    };
    assert_eq!(rows[4], Some(cleared));
    assert_eq!(rows[5], None);
    assert_eq!(
        views.iter().map(|v| v.withdrawn).collect::<Vec<_>>(),
        [false, false, false, false, true, false]
    );
    assert!(lab.store.read_tasks(&[]).await?.is_empty());
    Ok(())
}

async fn withdrawn_launches_are_found_before_they_start(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut launches = std::collections::BTreeMap::new();
    let tasks = [
        "stays",
        "begun",
        "elsewhere",
        "cleared",
        "requeued",
        "next_try",
        "deleted",
        "revoked",
        "too_late",
        "settled",
    ];
    for task in tasks {
        launches.insert(lab.launched(epoch, &queueing(task)).await?, task);
    }
    let of = |task: &str| launches.iter().find(|(_, t)| **t == task).map(|(id, _)| id.clone()).unwrap();
    let uid = PodUid("u".into());
    for task in ["begun", "cleared"] {
        let created = LaunchChange::Created { attempt: Attempt::FIRST, uid: uid.clone() };
        lab.saved(epoch, &of(task), &[created]).await;
    }
    lab.saved(epoch, &of("too_late"), &[LaunchChange::Running { attempt: Attempt::FIRST, uid }]).await;
    lab.saved(epoch, &of("settled"), &[LaunchChange::Settle { outcome: Outcome::success("done") }]).await;
    lab.sql(
        "UPDATE task_instance SET state = 'running' WHERE task_id IN ('begun', 'elsewhere');
         UPDATE task_instance SET state = NULL WHERE task_id IN ('cleared', 'too_late');
         UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'requeued';
         UPDATE task_instance SET try_number = 2 WHERE task_id = 'next_try';
         UPDATE task_instance SET state = 'success' WHERE task_id = 'settled';
         DELETE FROM task_instance WHERE task_id = 'deleted';
         UPDATE windlass.launch SET withdrawn_at = now() WHERE task_id = 'revoked'",
    )
    .await?;
    let views = lab.store.find_withdrawn(100).await?;
    let mut found: Vec<&str> = views.iter().map(|view| launches[&view.launch]).collect();
    found.sort_unstable();
    assert_eq!(found, ["cleared", "deleted", "elsewhere", "next_try", "requeued", "revoked"]);
    let revoked = views.iter().find(|view| view.launch == of("revoked")).unwrap();
    assert!(
        matches!(revoked, TaskView { withdrawn: true, row: Some(row), .. } if row.is_of(&queueing("revoked")))
    );
    assert_eq!(lab.store.find_withdrawn(2).await?.len(), 2);
    Ok(())
}

async fn a_spec_is_read_only_while_the_queueing_stands(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut asked = Vec::new();
    for task in ["stands", "adopted", "running", "again"] {
        asked.push((lab.launched(epoch, &queueing(task)).await?, queueing(task)));
    }
    lab.sql(
        "UPDATE task_instance SET queued_by_job_id = 99 WHERE task_id = 'adopted';
         UPDATE task_instance SET state = 'running' WHERE task_id = 'running';
         UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'again'",
    )
    .await?;
    let specs = lab.store.read_specs(&asked).await?;
    let ids: Vec<&LaunchId> = specs.iter().map(|(launch, _)| launch).collect();
    assert_eq!(ids, asked.iter().map(|(launch, _)| launch).collect::<Vec<_>>(), "in the order asked");
    let [(_, Some(stands)), (_, Some(adopted)), (_, None), (_, None)] = &specs[..] else {
        anyhow::bail!("{specs:?}")
    };
    assert_eq!((&stands.queueing, stands.scheduler_job_id), (&queueing("stands"), SCHEDULER));
    assert_eq!(adopted.scheduler_job_id, 99);
    assert_eq!(adopted.airflow_version, "2.11.2", "of the scheduler that was seen last");
    Ok(())
}

async fn a_pod_is_noted_where_nobody_else_is_writing(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    let mut pods = Vec::new();
    for task in ["free", "locked", "done", "again"] {
        lab.launched(epoch, &queueing(task)).await?;
        pods.push((queueing(task), PodRef { namespace: "tasks".into(), name: format!("pod-{task}") }));
    }
    lab.sql(
        "UPDATE task_instance SET state = 'success' WHERE task_id = 'done';
         UPDATE task_instance SET queued_dttm = now() WHERE task_id = 'again'",
    )
    .await?;
    let mut airflow = lab.admin.begin().await?;
    sqlx::query("UPDATE task_instance SET pid = 1 WHERE task_id = 'locked'").execute(&mut *airflow).await?;
    assert_eq!(lab.store.note_pods(&pods).await?, 1);
    airflow.commit().await?;
    assert_eq!(lab.store.note_pods(&pods).await?, 1, "free has it already");
    let noted: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT task_id, external_executor_id FROM task_instance ORDER BY 1")
            .fetch_all(&lab.admin)
            .await?;
    let noted: Vec<(&str, Option<&str>)> =
        noted.iter().map(|(task, pod)| (task.as_str(), pod.as_deref())).collect();
    let expected = [
        ("again", None),
        ("done", None),
        ("free", Some("tasks/pod-free")),
        ("locked", Some("tasks/pod-locked")),
    ];
    assert_eq!(noted, expected);
    Ok(())
}

async fn the_status_counts_what_there_is(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("pod-uid/windlass").await?;
    lab.queue(&queueing("waits")).await?;
    let failed = lab.launched(epoch, &queueing("failed")).await?;
    lab.launched(epoch, &queueing("claimed")).await?;
    let outcome = Outcome::failure(Reason::ImagePull, "the image cannot be pulled");
    lab.saved(epoch, &failed, &[LaunchChange::Settle { outcome }, LaunchChange::Close]).await;
    let status = lab.store.status(5).await?;
    assert_eq!((status.queued, status.handovers, status.undelivered), (1, 0, 1));
    let launches: Vec<(&str, i64)> = status.launches.into_iter().collect();
    assert_eq!(launches, [("claimed", 1), ("closed", 1), ("created", 0), ("running", 0), ("settled", 0)]);
    assert_eq!((status.term.epoch, status.term.holder.as_deref()), (epoch.0, Some("pod-uid/windlass")));
    assert!(status.term.expires_in_ms.is_some_and(|ms| (1..=60_000).contains(&ms)), "{:?}", status.term);
    assert_eq!(status.schedulers.len(), 1);
    assert_eq!(status.schedulers[0].executor_names, ["windlass", "windlass_airflow.WindlassExecutor"]);
    assert!(Duration::from_millis(status.schedulers[0].seen_ms_ago.unsigned_abs()) < Duration::from_secs(60));
    assert_eq!(status.failures.len(), 1);
    let failure = &status.failures[0];
    assert_eq!((failure.reason.as_str(), &failure.queueing), ("ImagePull", &queueing("failed")));
    Ok(())
}

async fn a_mapped_task_of_a_subdag_renders_with_its_parents_file(lab: Lab) -> anyhow::Result<()> {
    let mut mapped = queueing("copy");
    mapped.key.map_index = 4;
    lab.queue(&mapped).await?;
    lab.sql(
        "INSERT INTO dag (dag_id, fileloc, is_subdag, max_active_tasks, max_consecutive_failed_dag_runs,
             has_task_concurrency_limits) VALUES ('parent', '/elsewhere/parent.py', false, 16, 0, false);
         UPDATE dag SET is_subdag = true, root_dag_id = 'parent' WHERE dag_id = 'etl';
         UPDATE task_instance SET state = 'success', queued_dttm = NULL",
    )
    .await?;
    let spec = lab.store.task_for_render("etl", "copy", "manual__1", 4).await?.unwrap();
    assert_eq!(spec.queueing.queued_at, UtcMicros(0), "never queued");
    let end = ["--subdir", "/elsewhere/parent.py", "--map-index", "4"];
    assert!(spec.command.ends_with(&end.map(String::from)), "{:?}", spec.command);
    assert_eq!(lab.store.task_for_render("etl", "copy", "manual__1", 5).await?, None);
    Ok(())
}
