//! The DAGs and pools that there are, for who checks identity rules.

use sqlx::Row;
use windlass_core::task::DagFacts;

use super::spec::dag_facts;
use crate::error::BridgeError;
use crate::rows::reading;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

const DAGS: &str = "
    SELECT d.dag_id, d.fileloc, coalesce(d.owners, '') AS owners,
        ARRAY(SELECT t.name FROM {airflow}dag_tag t WHERE t.dag_id = d.dag_id ORDER BY t.name)::text[] AS tags
    FROM {airflow}dag d
    WHERE d.is_active AND ($1::text IS NULL OR d.dag_id = $1)
    ORDER BY d.dag_id";

const POOLS: &str = "SELECT pool FROM {airflow}slot_pool WHERE pool IS NOT NULL ORDER BY pool";

impl Store {
    /// Active DAGs by their ids; or the one of that id.
    pub async fn dags(&self, dag_id: Option<&str>) -> Result<Vec<(String, DagFacts)>, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the DAGs").await?;
        let query = airflow_statement(self.airflow_sql(DAGS)).bind(dag_id.map(str::to_owned));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        let dags_folder = &self.settings().dags_folder;
        let read = |row: &sqlx::postgres::PgRow| {
            let fileloc: Option<String> = row.try_get("fileloc")?;
            Ok((row.try_get("dag_id")?, dag_facts(row, fileloc.as_deref(), dags_folder)?))
        };
        rows.iter().map(|row| read(row).map_err(reading)).collect()
    }

    /// The pools' names.
    pub async fn pools(&self) -> Result<Vec<String>, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the pools").await?;
        let rows = tx.rows(airflow_statement(self.airflow_sql(POOLS))).await?;
        tx.commit().await?;
        rows.iter().map(|row| row.try_get("pool").map_err(reading)).collect()
    }
}
