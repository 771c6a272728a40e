//! The privileges that the daemon's role needs, as data: `Store::check` compares them with what the database allows, and
//! a test holds `deploy/sql/grants.sql` to them.

use sqlx::Row;

use crate::error::BridgeError;
use crate::store::{Store, quoted};
use crate::transaction::{Transaction, statement};

/// Whose table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Airflow,
    Windlass,
}

/// One privilege on one table, or on some of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    owner: Owner,
    table: &'static str,
    privilege: &'static str,
    /// Empty: the whole table.
    columns: &'static [&'static str],
}

const fn airflow(table: &'static str, privilege: &'static str, columns: &'static [&'static str]) -> Grant {
    Grant { owner: Owner::Airflow, table, privilege, columns }
}

const fn windlass(table: &'static str, privilege: &'static str) -> Grant {
    Grant { owner: Owner::Windlass, table, privilege, columns: &[] }
}

/// What the statements of this crate use, no more.
const DAEMON: [Grant; 21] = [
    airflow("alembic_version", "SELECT", &["version_num"]),
    airflow("dag", "SELECT", &["dag_id", "fileloc", "is_active", "is_subdag", "owners", "root_dag_id"]),
    airflow("dag_tag", "SELECT", &["dag_id", "name"]),
    airflow("dag_run", "SELECT", &["dag_id", "run_id", "run_type", "state"]),
    airflow("job", "SELECT", &["id", "job_type", "state", "latest_heartbeat"]),
    airflow("slot_pool", "SELECT", &["pool"]),
    airflow("task_instance", "SELECT", TASK_INSTANCE),
    airflow("task_instance", "UPDATE", &["external_executor_id"]),
    windlass("schema_migrations", "SELECT"),
    windlass("installation", "SELECT"),
    windlass("term", "SELECT"),
    windlass("term", "UPDATE"),
    windlass("scheduler", "SELECT"),
    windlass("scheduler", "DELETE"),
    windlass("handover", "SELECT"),
    windlass("handover", "UPDATE"),
    windlass("handover", "DELETE"),
    windlass("launch", "SELECT"),
    windlass("launch", "INSERT"),
    windlass("launch", "UPDATE"),
    windlass("launch", "DELETE"),
];

const TASK_INSTANCE: &[&str] = &[
    "dag_id",
    "task_id",
    "run_id",
    "map_index",
    "state",
    "try_number",
    "hostname",
    "job_id",
    "operator",
    "pool",
    "queue",
    "priority_weight",
    "queued_dttm",
    "queued_by_job_id",
    "executor",
    "executor_config",
    "external_executor_id",
];

/// Tables are looked up in the catalogue, which everybody may read: `to_regclass` fails where USAGE is missing.
/// A table that is not there is not reported: other checks name it.
const MISSING: &str = "
    SELECT g.number, NOT has_schema_privilege(n.oid, 'USAGE') AS no_usage, n.nspname::text
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
        AS g (schema, relation, column_name, privilege, number)
    JOIN pg_catalog.pg_class c ON c.relname = g.relation AND c.relkind IN ('r', 'p', 'v')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        AND CASE WHEN g.schema = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = g.schema END
    WHERE NOT has_schema_privilege(n.oid, 'USAGE') OR NOT CASE
        WHEN g.column_name = '' THEN has_table_privilege(c.oid, g.privilege)
        ELSE has_column_privilege(c.oid, g.column_name, g.privilege)
    END
    ORDER BY g.number";

impl Store {
    /// The statements that give our role what it lacks, in the order of the list.
    pub(crate) async fn missing_grants(
        &self,
        tx: &mut Transaction,
        role: &str,
    ) -> Result<Vec<String>, BridgeError> {
        let config = self.config();
        let airflow_schema = config.airflow_schema().unwrap_or_default();
        let mut asked: Vec<(&Grant, &str)> = Vec::new();
        for grant in &DAEMON {
            if grant.columns.is_empty() {
                asked.push((grant, ""));
            }
            asked.extend(grant.columns.iter().map(|column| (grant, *column)));
        }
        let schema = |grant: &Grant| match grant.owner {
            Owner::Airflow => airflow_schema.to_owned(),
            Owner::Windlass => windlass_migrations::SCHEMA.to_owned(),
        };
        let query = statement(MISSING)
            .bind(asked.iter().map(|(grant, _)| schema(grant)).collect::<Vec<_>>())
            .bind(asked.iter().map(|(grant, _)| grant.table).collect::<Vec<_>>())
            .bind(asked.iter().map(|(_, column)| *column).collect::<Vec<_>>())
            .bind(asked.iter().map(|(grant, _)| grant.privilege).collect::<Vec<_>>());
        let mut missing = Missing::default();
        for row in tx.rows(query).await? {
            let number: i64 = row.try_get(0).map_err(|e| tx.decoding(e))?;
            let no_usage: bool = row.try_get(1).map_err(|e| tx.decoding(e))?;
            let schema: String = row.try_get(2).map_err(|e| tx.decoding(e))?;
            if let Some((grant, column)) = usize::try_from(number - 1).ok().and_then(|i| asked.get(i)) {
                missing.add(grant, column, no_usage, schema);
            }
        }
        Ok(missing.statements(role))
    }
}

/// What lacks, columns of one grant together.
#[derive(Default)]
struct Missing {
    schemas: Vec<String>,
    grants: Vec<(Grant, String, Vec<&'static str>)>,
}

impl Missing {
    fn add(&mut self, grant: &Grant, column: &&'static str, no_usage: bool, schema: String) {
        if no_usage && !self.schemas.contains(&schema) {
            self.schemas.push(schema.clone());
        }
        match self.grants.last_mut() {
            Some((last, _, columns)) if last == grant => columns.push(column),
            _ => self.grants.push((*grant, schema, vec![column])),
        }
    }

    fn statements(&self, role: &str) -> Vec<String> {
        let role = identifier(role);
        let usage =
            self.schemas.iter().map(|s| format!("GRANT USAGE ON SCHEMA {} TO {role};", identifier(s)));
        let tables = self.grants.iter().map(|(grant, schema, columns)| {
            let columns: Vec<&str> = columns.iter().copied().filter(|c| !c.is_empty()).collect();
            let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
            format!("GRANT {}{list} ON {}.{} TO {role};", grant.privilege, identifier(schema), grant.table)
        });
        usage.chain(tables).collect()
    }
}

/// Quoted only where it must be: these statements are read by people.
fn identifier(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_columns_of_one_table_are_one_statement() {
        let mut missing = Missing::default();
        let dag = airflow("dag", "SELECT", &["dag_id", "fileloc"]);
        missing.add(&dag, &"dag_id", true, "public".into());
        missing.add(&dag, &"fileloc", true, "public".into());
        missing.add(&windlass("term", "UPDATE"), &"", false, "windlass".into());
        assert_eq!(
            missing.statements("wind-lass"),
            [
                "GRANT USAGE ON SCHEMA public TO \"wind-lass\";",
                "GRANT SELECT (dag_id, fileloc) ON public.dag TO \"wind-lass\";",
                "GRANT UPDATE ON windlass.term TO \"wind-lass\";",
            ]
        );
    }
}
