//! Keys as columns: a batch goes to the database as arrays, one per column, in one statement whatever its size.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use windlass_core::ids::{LaunchId, Queueing, TaskKey};

use crate::timestamp::Timestamp;

type Statement = Query<'static, Postgres, PgArguments>;

/// Queueings, to be bound as $1 to $6: dag_id, task_id, run_id, map_index, try_number, queued_dttm.
#[derive(Default)]
pub(crate) struct QueueingColumns {
    dag_id: Vec<String>,
    task_id: Vec<String>,
    run_id: Vec<String>,
    map_index: Vec<i32>,
    try_number: Vec<i32>,
    queued_dttm: Vec<Timestamp>,
}

impl QueueingColumns {
    pub(crate) fn of<'a>(queueings: impl Iterator<Item = &'a Queueing>) -> Self {
        let mut columns = Self::default();
        for queueing in queueings {
            columns.dag_id.push(queueing.key.dag_id.clone());
            columns.task_id.push(queueing.key.task_id.clone());
            columns.run_id.push(queueing.key.run_id.clone());
            columns.map_index.push(queueing.key.map_index);
            columns.try_number.push(queueing.try_number);
            columns.queued_dttm.push(Timestamp(queueing.queued_at));
        }
        columns
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dag_id.is_empty()
    }

    pub(crate) fn bind(self, query: Statement) -> Statement {
        query
            .bind(self.dag_id)
            .bind(self.task_id)
            .bind(self.run_id)
            .bind(self.map_index)
            .bind(self.try_number)
            .bind(self.queued_dttm)
    }

    /// The first four columns alone.
    pub(crate) fn bind_task_keys(self, query: Statement) -> Statement {
        query.bind(self.dag_id).bind(self.task_id).bind(self.run_id).bind(self.map_index)
    }
}

/// Launch ids as an array.
pub(crate) fn id_array<'a>(ids: impl Iterator<Item = &'a LaunchId>) -> Vec<String> {
    ids.map(|id| id.as_str().to_owned()).collect()
}

/// The queueing in a row that has the six columns by their names.
pub(crate) fn queueing_of(row: &PgRow) -> Result<Queueing, sqlx::Error> {
    let queued: Timestamp = row.try_get("queued_dttm")?;
    Ok(Queueing { key: key_of(row)?, try_number: row.try_get("try_number")?, queued_at: queued.0 })
}

/// The task key in a row that has its four columns by their names.
pub(crate) fn key_of(row: &PgRow) -> Result<TaskKey, sqlx::Error> {
    Ok(TaskKey {
        dag_id: row.try_get("dag_id")?,
        task_id: row.try_get("task_id")?,
        run_id: row.try_get("run_id")?,
        map_index: row.try_get("map_index")?,
    })
}
