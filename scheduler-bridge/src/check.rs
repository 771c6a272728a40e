//! What must hold before the daemon works: a primary, an Airflow that is known, a schema of the right version, and every
//! privilege that a later statement needs.

use std::fmt;

use sqlx::Row;
use windlass_migrations::{newest, postgres};

use crate::airflow::revision;
use crate::error::BridgeError;
use crate::store::Store;
use crate::transaction::{Access, REPLICA, Transaction, airflow_statement, statement};

/// What a good check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Airflow's Alembic revision.
    pub airflow_revision: String,
    /// The releases of Airflow that have it.
    pub airflow_releases: &'static str,
    /// Newest applied migration of the schema `windlass`.
    pub schema_version: i64,
    /// PostgreSQL's version as `server_version` says it.
    pub postgres_version: String,
    /// The role that we are.
    pub role: String,
    /// Commits that a failover loses are noticed.
    pub tells_timeline: bool,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Airflow {} (schema {}) on PostgreSQL {}, as role `{}`; own schema {}",
            self.airflow_releases,
            self.airflow_revision,
            self.postgres_version,
            self.role,
            self.schema_version
        )?;
        if self.tells_timeline {
            Ok(())
        } else {
            f.write_str("; it has no WAL to tell whether a failover lost commits")
        }
    }
}

/// From the catalogue, which everybody may read, whatever the grants. $1: Airflow's schema, empty: by search_path.
const SERVER: &str = "
    SELECT {replica} AS replica, current_setting('server_version') AS version, current_user::text AS role,
        EXISTS (
            SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = 'alembic_version'
                AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
        ) AS has_airflow,
        EXISTS (
            SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = 'schema_migrations' AND n.nspname = 'windlass'
        ) AS has_windlass";

const APPLIED: &str = "SELECT coalesce(max(version), 0) FROM windlass.schema_migrations WHERE success";

struct Server {
    replica: bool,
    version: String,
    role: String,
    has_airflow: bool,
    has_windlass: bool,
}

impl Store {
    /// Looks at everything that the work stands on; the first thing that is wrong is the error.
    pub async fn check(&self) -> Result<Checked, BridgeError> {
        let (checked, faults) = self.diagnose().await?;
        faults.into_iter().next().map_or(Ok(checked), Err)
    }

    /// As [`Store::check`], but goes on after a fault where it can, and tells all of them. What could not be read is
    /// empty. The error is that nothing can be asked.
    pub async fn diagnose(&self) -> Result<(Checked, Vec<BridgeError>), BridgeError> {
        let mut tx = self.begin(Access::Look, "be checked").await?;
        let mut faults = Vec::new();
        let mut checked = self.check_in(&mut tx, &mut faults).await?;
        tx.commit().await?;
        if !faults.iter().any(|fault| matches!(fault, BridgeError::ReadOnly { .. })) {
            checked.tells_timeline = self.learn_timeline().await?;
        }
        Ok((checked, faults))
    }

    async fn check_in(
        &self,
        tx: &mut Transaction,
        faults: &mut Vec<BridgeError>,
    ) -> Result<Checked, BridgeError> {
        let schema = self.config().airflow_schema().unwrap_or_default().to_owned();
        let rows = tx.rows(airflow_statement(SERVER.replace("{replica}", REPLICA)).bind(schema)).await?;
        let row = rows.first().ok_or_else(|| tx.decoding(sqlx::Error::RowNotFound))?;
        let server = server_of(row).map_err(|e| tx.decoding(e))?;
        let role = server.role;
        if server.replica {
            faults.push(BridgeError::ReadOnly { address: self.config().address().to_owned() });
        }
        let missing = self.missing_grants(tx, &role).await?;
        let lacks =
            |table: &str| missing.iter().any(|grant| grant.contains(table) || grant.contains("USAGE"));
        let mut checked = Checked {
            airflow_revision: String::new(),
            airflow_releases: "",
            schema_version: 0,
            postgres_version: server.version,
            role: role.clone(),
            tells_timeline: false,
        };
        let no_airflow = || BridgeError::NoAirflow { place: self.airflow_place() };
        if !server.has_airflow {
            faults.push(no_airflow());
        } else if !lacks("alembic_version") {
            checked.airflow_revision = self.airflow_revision(tx).await?;
            match revision::releases(&checked.airflow_revision) {
                Some(releases) => checked.airflow_releases = releases,
                None if checked.airflow_revision.is_empty() => faults.push(no_airflow()),
                None => faults.push(BridgeError::UnknownRevision {
                    found: checked.airflow_revision.clone(),
                    known: revision::known(),
                }),
            }
        }
        if !server.has_windlass {
            faults.push(BridgeError::SchemaMissing);
        } else if !lacks("schema_migrations") {
            checked.schema_version = tx.scalar(statement(APPLIED)).await?;
            faults.extend(version_fits(checked.schema_version, newest(&postgres())).err());
        }
        if !missing.is_empty() {
            faults.push(BridgeError::MissingGrants { role, grants: missing });
        }
        Ok(checked)
    }

    /// Empty: there is no head.
    async fn airflow_revision(&self, tx: &mut Transaction) -> Result<String, BridgeError> {
        let mut heads: Vec<String> = Vec::new();
        for row in tx.rows(airflow_statement(self.airflow_sql(revision::READ))).await? {
            heads.push(row.try_get(0).map_err(|e| tx.decoding(e))?);
        }
        Ok(heads.join("+"))
    }

    fn airflow_place(&self) -> String {
        let config = self.config();
        match config.airflow_schema() {
            Some(schema) => format!("schema `{schema}` of {}", config.address()),
            None => format!("the search_path of {}", config.address()),
        }
    }
}

/// Whether this binary can work on that version of the schema.
pub(crate) fn version_fits(found: i64, known: i64) -> Result<(), BridgeError> {
    match found {
        0 => Err(BridgeError::SchemaMissing),
        found if found < known => Err(BridgeError::SchemaOlder { found, needed: known }),
        found if found > known => Err(BridgeError::SchemaNewer { found, known }),
        _ => Ok(()),
    }
}

fn server_of(row: &sqlx::postgres::PgRow) -> Result<Server, sqlx::Error> {
    Ok(Server {
        replica: row.try_get("replica")?,
        version: row.try_get("version")?,
        role: row.try_get("role")?,
        has_airflow: row.try_get("has_airflow")?,
        has_windlass: row.try_get("has_windlass")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_must_be_of_the_very_version() {
        assert!(version_fits(3, 3).is_ok());
        assert!(matches!(version_fits(0, 3), Err(BridgeError::SchemaMissing)));
        assert!(matches!(version_fits(2, 3), Err(BridgeError::SchemaOlder { found: 2, needed: 3 })));
        assert!(matches!(version_fits(4, 3), Err(BridgeError::SchemaNewer { found: 4, known: 3 })));
    }
}
