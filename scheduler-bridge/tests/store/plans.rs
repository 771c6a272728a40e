use sqlx::AssertSqlSafe;

use crate::support::{Lab, on_both_versions, queueing};

on_both_versions!(no_statement_reads_all_task_instances,);

/// 60,000 past task instances, 300 of them queued: the full pass reads those by their state.
async fn no_statement_reads_all_task_instances(lab: Lab) -> anyhow::Result<()> {
    lab.queue(&queueing("first")).await?;
    lab.sql(
        "INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots, queue,
             priority_weight, queued_dttm, queued_by_job_id, executor_config)
         SELECT 'etl', 'many', 'manual__1', n, CASE WHEN n % 200 = 0 THEN 'queued' ELSE 'success' END, 1,
             'default_pool', 1, 'default', 1, now() - n * interval '1 ms', 7, '\\x80057d942e'
         FROM generate_series(1, 60000) n",
    )
    .await?;
    lab.sql("VACUUM ANALYZE task_instance").await?;
    let sql = format!("EXPLAIN {}", lab.store.full_pass_sql().replace("$1", "500"));
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&lab.admin).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("ti_state"), "{plan}");
    assert!(!plan.contains("Seq Scan on task_instance"), "{plan}");
    Ok(())
}
