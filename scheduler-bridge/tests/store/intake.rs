use windlass_core::store::{Claim, IntakePass};
use windlass_core::task::{DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

use crate::support::{Lab, QUEUED, SCHEDULER, on_both_versions, queueing};

on_both_versions!(
    the_full_pass_finds_what_is_queued_and_ours,
    urgent_first_and_no_more_than_the_limit,
    handed_over_keys_come_with_their_command_and_once,
    a_backfill_runs_the_command_that_it_handed_over,
    an_undecodable_executor_config_comes_as_a_sentence,
    a_claimed_queueing_is_not_found_again,
);

fn names(specs: &[TaskSpec]) -> Vec<&str> {
    specs.iter().map(|spec| spec.queueing.key.task_id.as_str()).collect()
}

/// Of the DAG that `Lab::queue` makes.
fn dag_facts() -> DagFacts {
    DagFacts {
        tags: vec!["nightly".into()],
        owners: vec!["data".into(), "ops".into()],
        folder: Some("team".into()),
    }
}

async fn the_full_pass_finds_what_is_queued_and_ours(lab: Lab) -> anyhow::Result<()> {
    lab.register(8, &["other_name"], false).await?;
    let tasks = [
        "default",
        "by_alias",
        "by_path",
        "other",
        "stranger",
        "running",
        "half",
        "hybrid",
        "named_there",
        "job",
    ];
    for task in tasks {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(
        "UPDATE task_instance SET executor = 'windlass' WHERE task_id = 'by_alias';
         UPDATE task_instance SET executor = 'windlass_airflow.WindlassExecutor' WHERE task_id = 'by_path';
         UPDATE task_instance SET executor = 'LocalExecutor' WHERE task_id = 'other';
         UPDATE task_instance SET queued_by_job_id = 99 WHERE task_id = 'stranger';
         UPDATE task_instance SET queued_by_job_id = NULL WHERE task_id = 'job';
         UPDATE task_instance SET state = 'running' WHERE task_id = 'running';
         UPDATE task_instance SET queued_dttm = NULL WHERE task_id = 'half';
         UPDATE task_instance SET queued_by_job_id = 8 WHERE task_id = 'hybrid';
         UPDATE task_instance SET queued_by_job_id = 8, executor = 'other_name' WHERE task_id = 'named_there';",
    )
    .await?;
    let specs = lab.store.intake(IntakePass::Full, 100).await?;
    assert_eq!(names(&specs), ["by_alias", "by_path", "default", "named_there"]);
    assert_eq!(
        specs[2],
        TaskSpec {
            queueing: queueing("default"),
            queue: "default".into(),
            pool: "default_pool".into(),
            priority_weight: 1,
            scheduler_job_id: SCHEDULER,
            airflow_version: "2.11.2".into(),
            has_pod_mutation_hook: false,
            operator: "BashOperator".into(),
            dag: dag_facts(),
            command_is_own: false,
            branches: None,
            command: [
                "airflow",
                "tasks",
                "run",
                "etl",
                "default",
                "manual__1",
                "--local",
                "--subdir",
                "DAGS_FOLDER/team/etl.py"
            ]
            .map(String::from)
            .to_vec(),
            executor_config: Ok(ExecutorConfig::default()),
        }
    );
    lab.sql("UPDATE dag_run SET run_type = 'backfill'").await?;
    Ok(())
}

/// The command of a backfill has options that are in no row: it comes with the hand-over, whichever pass finds it, and
/// is kept with the launch.
async fn a_backfill_runs_the_command_that_it_handed_over(lab: Lab) -> anyhow::Result<()> {
    for task in ["handed", "on_its_way", "lost"] {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(
        "UPDATE dag_run SET run_type = 'backfill';
         UPDATE task_instance SET queued_dttm = now() WHERE task_id <> 'lost';",
    )
    .await?;
    lab.sql(HAND_OVER).await?;
    lab.sql("DELETE FROM windlass.handover WHERE task_id <> 'handed'").await?;
    let specs = lab.store.intake(IntakePass::Full, 100).await?;
    assert_eq!(names(&specs), ["lost", "handed"]);
    assert!(!specs[0].command_is_own && specs[0].command.starts_with(&["airflow".into(), "tasks".into()]));
    assert!(specs[1].command_is_own);
    assert_eq!(specs[1].command, ["airflow", "by hand", "handed"]);
    assert_eq!(names(&lab.store.intake(IntakePass::Handover, 100).await?), ["handed"]);

    let epoch = lab.lead("a").await?;
    let queueing = &specs[1].queueing;
    let claim = Claim { command: Some(specs[1].command.clone()), ..lab.claim_of(queueing) };
    lab.store.claim(epoch, std::slice::from_ref(&claim)).await?;
    let read = lab.store.read_specs(&[(claim.launch, queueing.clone())]).await?;
    assert_eq!(read[0].1.as_ref(), Some(&specs[1]), "as it was handed over");
    Ok(())
}

async fn urgent_first_and_no_more_than_the_limit(lab: Lab) -> anyhow::Result<()> {
    for task in ["a", "b", "c", "d"] {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(
        "UPDATE task_instance SET priority_weight = 9 WHERE task_id = 'd';
         UPDATE task_instance SET queued_dttm = queued_dttm - interval '1 s' WHERE task_id = 'c';
         UPDATE task_instance SET priority_weight = NULL WHERE task_id = 'a'",
    )
    .await?;
    assert_eq!(names(&lab.store.intake(IntakePass::Full, 3).await?), ["d", "c", "a"]);
    Ok(())
}

const HAND_OVER: &str = "INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, command)
    SELECT dag_id, task_id, run_id, map_index, try_number, queued_by_job_id, ARRAY['airflow', 'by hand', task_id]
    FROM task_instance WHERE state = 'queued'";

async fn handed_over_keys_come_with_their_command_and_once(lab: Lab) -> anyhow::Result<()> {
    for task in ["a", "b", "next_try", "rolled_back"] {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(HAND_OVER).await?;
    lab.sql(HAND_OVER).await?;
    lab.sql(
        "UPDATE task_instance SET try_number = 2 WHERE task_id = 'next_try';
         UPDATE task_instance SET state = 'scheduled' WHERE task_id = 'rolled_back'",
    )
    .await?;
    let specs = lab.store.intake(IntakePass::Handover, 100).await?;
    assert_eq!(names(&specs), ["a", "b"]);
    assert_eq!(specs[0].command, ["airflow", "by hand", "a"]);
    assert_eq!(specs[0].queueing.queued_at, UtcMicros(QUEUED));
    assert_eq!(lab.number("SELECT count(*) FROM windlass.handover").await?, 0);
    assert_eq!(lab.store.intake(IntakePass::Handover, 100).await?, []);

    lab.sql(HAND_OVER).await?;
    assert_eq!(lab.store.intake(IntakePass::Handover, 2).await?.len(), 2, "a bounded batch");
    assert_eq!(lab.number("SELECT count(*) FROM windlass.handover").await?, 1);
    Ok(())
}

async fn an_undecodable_executor_config_comes_as_a_sentence(lab: Lab) -> anyhow::Result<()> {
    for task in ["bad", "good", "none"] {
        lab.queue(&queueing(task)).await?;
    }
    lab.sql(
        "UPDATE task_instance SET executor_config = '\\x8004' WHERE task_id = 'bad';
         UPDATE task_instance SET executor_config = NULL WHERE task_id = 'none'",
    )
    .await?;
    let specs = lab.store.intake(IntakePass::Full, 100).await?;
    assert_eq!(names(&specs), ["bad", "good", "none"]);
    let sentence = specs[0].executor_config.clone().unwrap_err();
    assert!(sentence.contains("executor_config"), "{sentence}");
    assert!(specs[1].executor_config.is_ok() && specs[2].executor_config.is_ok());
    Ok(())
}

async fn a_claimed_queueing_is_not_found_again(lab: Lab) -> anyhow::Result<()> {
    let epoch = lab.lead("a").await?;
    lab.launched(epoch, &queueing("t")).await?;
    lab.sql(HAND_OVER).await?;
    assert_eq!(lab.store.intake(IntakePass::Full, 100).await?, []);
    assert_eq!(lab.store.intake(IntakePass::Handover, 100).await?, []);
    assert_eq!(lab.store.status(5).await?.queued, 0);
    lab.sql("UPDATE task_instance SET queued_dttm = now()").await?;
    assert_eq!(names(&lab.store.intake(IntakePass::Full, 100).await?), ["t"], "queued again");
    assert_eq!(lab.store.status(5).await?.queued, 1);
    Ok(())
}
