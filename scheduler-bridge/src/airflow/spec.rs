//! What to run: a task instance's row as a [`TaskSpec`].

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use windlass_core::identity::rules::folder_of;
use windlass_core::ids::{LaunchId, Queueing};
use windlass_core::pod::{dag_file_argument, worker_command};
use windlass_core::task::{DagFacts, TaskSpec};
use windlass_core::time::UtcMicros;

use super::executor_config;
use crate::error::BridgeError;
use crate::keys::{QueueingColumns, id_array, key_of};
use crate::rows::{launch_id, reading};
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::transaction::{Access, airflow_statement};

/// What [`spec_of`] reads, of `ti` (task_instance) and [`DAG_FILE`]'s tables; what its scheduler registered comes
/// beside them.
pub(super) const SPEC_COLUMNS: &str = "ti.dag_id, ti.task_id, ti.run_id, ti.map_index,
    coalesce(ti.try_number, 0) AS try_number, ti.queued_dttm, coalesce(ti.queue, 'default') AS queue, ti.pool,
    coalesce(ti.priority_weight, 1) AS priority_weight, coalesce(ti.queued_by_job_id, 0)::int8 AS scheduler_job_id,
    ti.executor_config, coalesce(ti.operator, '') AS operator,
    CASE WHEN d.is_subdag THEN root.fileloc ELSE d.fileloc END AS fileloc, coalesce(d.owners, '') AS owners,
    ARRAY(SELECT t.name FROM {airflow}dag_tag t WHERE t.dag_id = ti.dag_id ORDER BY t.name)::text[] AS tags";

/// `TaskInstance._command_as_list` takes the file of the DAG, for a SubDAG (2.x still has them) that of its parent.
pub(super) const DAG_FILE: &str = "
    LEFT JOIN {airflow}dag d ON d.dag_id = ti.dag_id
    LEFT JOIN {airflow}dag root ON d.is_subdag AND root.dag_id = d.root_dag_id";

/// What the scheduler of the row registered; if it never did (it is being adopted), what the last one that did.
const REGISTERED: &str = "coalesce(s.airflow_version, latest.airflow_version, '') AS airflow_version,
    coalesce(s.has_pod_mutation_hook, latest.has_pod_mutation_hook, false) AS has_pod_mutation_hook";

const SCHEDULER: &str = "
    LEFT JOIN windlass.scheduler s ON s.job_id = ti.queued_by_job_id
    LEFT JOIN (SELECT airflow_version, has_pod_mutation_hook FROM windlass.scheduler ORDER BY seen_at DESC LIMIT 1)
        AS latest ON s.job_id IS NULL";

const READ: &str = "
    SELECT q.launch_id, l.command AS own_command, {spec}, {registered}
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[], $7::text[])
        AS q (dag_id, task_id, run_id, map_index, try_number, queued_dttm, launch_id)
    JOIN {airflow}task_instance ti
        ON ti.dag_id = q.dag_id AND ti.task_id = q.task_id AND ti.run_id = q.run_id AND ti.map_index = q.map_index
    LEFT JOIN windlass.launch l ON l.launch_id = q.launch_id
    {scheduler}
    {dag_file}
    WHERE ti.state = 'queued' AND ti.try_number = q.try_number AND ti.queued_dttm = q.queued_dttm";

/// Of one run; without one, of the run that was queued last.
const RUN: &str = "
    SELECT {spec}, {registered}
    FROM {airflow}task_instance ti
    {scheduler}
    {dag_file}
    WHERE ti.dag_id = $1 AND ti.run_id = coalesce($2, (
        SELECT run_id FROM {airflow}task_instance WHERE dag_id = $1
        ORDER BY queued_dttm DESC NULLS LAST, run_id DESC LIMIT 1))
    ORDER BY ti.task_id, ti.map_index";

const ANY_STATE: &str = "
    SELECT {spec}, {registered}
    FROM {airflow}task_instance ti
    {scheduler}
    {dag_file}
    WHERE ti.dag_id = $1 AND ti.task_id = $2 AND ti.run_id = $3 AND ti.map_index = $4";

impl Store {
    /// What to run, for each launch whose row is still this queueing in `queued`; None for the others.
    pub async fn read_specs(
        &self,
        launches: &[(LaunchId, Queueing)],
    ) -> Result<Vec<(LaunchId, Option<TaskSpec>)>, BridgeError> {
        let mut tx = self.begin(Access::Read, "read queued task instances").await?;
        let keys = QueueingColumns::of(launches.iter().map(|(_, queueing)| queueing));
        let query = keys
            .bind(airflow_statement(self.spec_sql(READ)))
            .bind(id_array(launches.iter().map(|(launch, _)| launch)));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        let mut specs = std::collections::BTreeMap::new();
        for row in &rows {
            let own: Option<Json<Vec<String>>> = row.try_get("own_command").map_err(reading)?;
            specs.insert(launch_id(row)?, self.spec_of(row, own.map(|own| own.0))?);
        }
        Ok(launches.iter().map(|(launch, _)| (launch.clone(), specs.remove(launch))).collect())
    }

    /// What would be run for a task instance as it is now, whatever its state (`windlass render pod`). A row that was
    /// never queued counts as queued in 1970.
    pub async fn task_for_render(
        &self,
        dag_id: &str,
        task_id: &str,
        run_id: &str,
        map_index: i32,
    ) -> Result<Option<TaskSpec>, BridgeError> {
        let mut tx = self.begin(Access::Look, "read a task instance").await?;
        let query = airflow_statement(self.spec_sql(ANY_STATE))
            .bind(dag_id.to_owned())
            .bind(task_id.to_owned())
            .bind(run_id.to_owned())
            .bind(map_index);
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.first().map(|row| self.spec_of(row, None)).transpose()
    }

    /// The same for all task instances of a run (`windlass render dag`); without a run, of the one queued last.
    pub async fn run_for_render(
        &self,
        dag_id: &str,
        run_id: Option<&str>,
    ) -> Result<Vec<TaskSpec>, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the task instances of a run").await?;
        let query =
            airflow_statement(self.spec_sql(RUN)).bind(dag_id.to_owned()).bind(run_id.map(str::to_owned));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(|row| self.spec_of(row, None)).collect()
    }

    /// Fills a template in that has `{spec}`, `{registered}`, `{scheduler}` and `{dag_file}`.
    pub(super) fn spec_sql(&self, template: &'static str) -> String {
        let with_dag = template.replace("{dag_file}", &self.airflow_sql(DAG_FILE));
        let filled = with_dag
            .replace("{spec}", SPEC_COLUMNS)
            .replace("{registered}", REGISTERED)
            .replace("{scheduler}", SCHEDULER);
        filled.replace("{airflow}", &self.airflow_sql("{airflow}"))
    }

    /// Reads a row. `command` is the one that Airflow handed over, or that was kept with the launch; otherwise it is
    /// built from the row as Airflow builds it.
    pub(super) fn spec_of(&self, row: &PgRow, command: Option<Vec<String>>) -> Result<TaskSpec, BridgeError> {
        self.decode_spec(row, command).map_err(reading)
    }

    fn decode_spec(&self, row: &PgRow, command: Option<Vec<String>>) -> Result<TaskSpec, sqlx::Error> {
        let key = key_of(row)?;
        let queued: Option<Timestamp> = row.try_get("queued_dttm")?;
        let fileloc: Option<String> = row.try_get("fileloc")?;
        let pickled: Option<Vec<u8>> = row.try_get("executor_config")?;
        let dags_folder = &self.settings().dags_folder;
        let file = fileloc.as_deref().map(|file| dag_file_argument(file, dags_folder));
        let told = worker_command(&key, file.as_deref());
        let own = command.filter(|command| *command != told);
        Ok(TaskSpec {
            queueing: Queueing {
                key,
                try_number: row.try_get("try_number")?,
                queued_at: queued.map_or(UtcMicros(0), |time| time.0),
            },
            queue: row.try_get("queue")?,
            pool: row.try_get("pool")?,
            priority_weight: row.try_get("priority_weight")?,
            scheduler_job_id: row.try_get("scheduler_job_id")?,
            airflow_version: row.try_get("airflow_version")?,
            has_pod_mutation_hook: row.try_get("has_pod_mutation_hook")?,
            operator: row.try_get("operator")?,
            dag: dag_facts(row, fileloc.as_deref(), dags_folder)?,
            command_is_own: own.is_some(),
            branches: None,
            command: own.unwrap_or(told),
            // One task's bad pickle is that task's failure, not the batch's (I8).
            executor_config: executor_config::decode(pickled.as_deref()).map_err(|error| error.to_string()),
        })
    }
}

/// What identity rules look at, from columns `owners` and `tags`.
pub(super) fn dag_facts(
    row: &PgRow,
    fileloc: Option<&str>,
    dags_folder: &str,
) -> Result<DagFacts, sqlx::Error> {
    let owners: String = row.try_get("owners")?;
    Ok(DagFacts {
        tags: row.try_get("tags")?,
        owners: DagFacts::split_owners(&owners),
        folder: fileloc.and_then(|file| folder_of(file, dags_folder)),
    })
}
