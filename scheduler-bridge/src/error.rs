//! What can go wrong between Windlass and Airflow's database, in words for the operator.

use std::time::Duration;

use windlass_core::ids::Epoch;

use crate::config::{DatabaseConfig, UrlError};
use crate::login::NoPassword;
use crate::tls::TlsFault;

/// A call to the database that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The connection string is not one that PostgreSQL understands.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody answers there.
    #[error("cannot connect to PostgreSQL at {address}")]
    Connect {
        /// Host, port and database; no password.
        address: String,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// Somebody answers, and TLS does not come about.
    #[error("cannot connect to PostgreSQL at {address} with TLS: {what}")]
    Tls {
        /// Host, port and database; no password.
        address: String,
        /// In words of the connection string.
        what: TlsFault,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// There is no password for a login, such as a token of RDS.
    #[error("there is no password for user `{user}` of PostgreSQL at {address}")]
    NoPassword {
        /// Host, port and database; no password.
        address: String,
        /// As in the connection string.
        user: String,
        /// The cause.
        #[source]
        source: NoPassword,
    },
    /// SQLSTATE class 28.
    #[error("PostgreSQL at {address} does not let user `{user}` in")]
    AuthenticationFailed {
        /// Host, port and database; no password.
        address: String,
        /// As in the connection string.
        user: String,
        /// The server's words.
        #[source]
        source: sqlx::Error,
    },
    /// SQLSTATE 3D000.
    #[error("PostgreSQL at {address} has no such database")]
    NoSuchDatabase {
        /// Host, port and database; no password.
        address: String,
        /// The server's words.
        #[source]
        source: sqlx::Error,
    },
    /// The server answers, and writes nothing: a standby, or `default_transaction_read_only`.
    #[error(
        "PostgreSQL at {address} is a read-only replica: Windlass writes its launches to the primary alone"
    )]
    ReadOnly {
        /// Host, port and database; no password.
        address: String,
    },
    /// There is no `alembic_version`, or it is empty.
    #[error("there are no Airflow tables in {place}")]
    NoAirflow {
        /// The schema that was looked at, for people.
        place: String,
    },
    /// Airflow's schema is of a version that this Windlass does not know.
    #[error("Airflow's database schema has revision `{found}`; this Windlass knows {known}")]
    UnknownRevision {
        /// `alembic_version.version_num`.
        found: String,
        /// The known ones with their Airflow versions.
        known: String,
    },
    /// `windlass migrate` has never run here.
    #[error("the database has no schema `windlass`, or an empty one")]
    SchemaMissing,
    /// It has run, from an older binary.
    #[error("the schema `windlass` has version {found}; this binary needs version {needed}")]
    SchemaOlder {
        /// Newest applied migration.
        found: i64,
        /// Newest migration in this binary.
        needed: i64,
    },
    /// A newer binary has migrated it.
    #[error("the schema `windlass` has version {found}; this binary knows versions up to {known}")]
    SchemaNewer {
        /// Newest applied migration.
        found: i64,
        /// Newest migration in this binary.
        known: i64,
    },
    /// Found by `Store::check`.
    #[error("database role `{role}` lacks {}: {}", plural(.grants.len(), "privilege"), .grants.join(" "))]
    MissingGrants {
        /// The role that we connect as.
        role: String,
        /// Statements that mend it.
        grants: Vec<String>,
    },
    /// SQLSTATE 42501 in the middle of the work.
    #[error("the database does not allow this role to {what}")]
    Denied {
        /// Which call.
        what: &'static str,
        /// The server's words: they name the table.
        #[source]
        source: sqlx::Error,
    },
    /// Term `epoch` is over: nothing was written.
    #[error("term {} is over: another Windlass leads, and nothing was written", .epoch.0)]
    Fenced {
        /// Ours that was.
        epoch: Epoch,
    },
    /// No answer in time. Whether it was done is not known.
    #[error("the database did not {what} within {} ms", .after.as_millis())]
    TimedOut {
        /// Which call.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// Anything else that the database or the connection says.
    #[error("the database failed to {what}")]
    Query {
        /// Which call.
        what: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// A row that no Windlass wrote.
    #[error("{table} holds a value that Windlass never writes: {column} = `{value}`")]
    ForeignValue {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// `migrate` over a pooler.
    #[error(
        "{address} is a connection pooler in transaction mode, and `windlass migrate` needs PostgreSQL itself"
    )]
    Pooler {
        /// Host, port and database; no password.
        address: String,
    },
    /// Another `migrate` is at work for longer than we wait.
    #[error("another `windlass migrate` has held the lock for over {} s", .waited.as_secs())]
    MigrationLocked {
        /// How long we waited.
        waited: Duration,
    },
    /// A migration did not run.
    #[error("{step} failed")]
    Migration {
        /// Which.
        step: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BridgeError {
    /// Stable code: label of the error metric and anchor of the reference page.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url(_) => "wrong_connection_string",
            Self::Connect { .. } => "cannot_connect",
            Self::Tls { .. } => "tls_failed",
            Self::NoPassword { .. } => "no_password",
            Self::AuthenticationFailed { .. } => "authentication_failed",
            Self::NoSuchDatabase { .. } => "no_such_database",
            Self::ReadOnly { .. } => "read_only",
            Self::NoAirflow { .. } => "no_airflow",
            Self::UnknownRevision { .. } => "unknown_airflow_revision",
            Self::SchemaMissing => "schema_missing",
            Self::SchemaOlder { .. } => "schema_older",
            Self::SchemaNewer { .. } => "schema_newer",
            Self::MissingGrants { .. } | Self::Denied { .. } => "missing_grant",
            Self::Fenced { .. } => "fenced",
            Self::TimedOut { .. } => "timed_out",
            Self::Query { .. } => "query_failed",
            Self::ForeignValue { .. } => "foreign_value",
            Self::Pooler { .. } => "pooler",
            Self::MigrationLocked { .. } => "migration_locked",
            Self::Migration { .. } => "migration_failed",
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url(error) => return Some(error.hint()),
            Self::Connect { .. } => {
                "check host, port and network policy of [database] sql_alchemy_conn. The daemon keeps trying"
            }
            Self::Tls { what, .. } => what.hint(),
            Self::NoPassword { source, .. } => return Some(source.hint.clone()),
            // The end of PostgreSQL's sentence where only `hostssl` rules fit (on RDS: rds.force_ssl).
            Self::AuthenticationFailed { source, .. } if said(source).ends_with("no encryption") => {
                "the server lets nobody in without TLS: set sslmode=verify-full and sslrootcert in [database] \
                 sql_alchemy_conn"
            }
            // RDS's words for a token that it does not take, and for a password in its place.
            Self::AuthenticationFailed { source, .. } if said(source).starts_with("PAM ") => {
                "on RDS such a user logs in with IAM tokens: set database.auth = \"rds-iam\", allow the daemon's role \
                 rds-db:connect for this user, grant the user rds_iam, and name the database by its own endpoint \
                 (docs/DATABASE.md)"
            }
            Self::AuthenticationFailed { .. } => {
                "check user and password of [database] sql_alchemy_conn (or its _CMD or _SECRET form) and pg_hba.conf"
            }
            Self::NoSuchDatabase { .. } => {
                "check the database's name at the end of [database] sql_alchemy_conn"
            }
            Self::ReadOnly { .. } => {
                "point [database] sql_alchemy_conn at the primary (on RDS: the writer's endpoint)"
            }
            Self::NoAirflow { .. } => {
                "run `airflow db migrate` first; if Airflow has its own schema, set [database] sql_alchemy_schema"
            }
            Self::UnknownRevision { .. } => "use a Windlass release that lists your Airflow version",
            Self::SchemaMissing | Self::SchemaOlder { .. } => {
                "run `windlass migrate`, then deploy/sql/grants.sql"
            }
            Self::SchemaNewer { .. } => {
                "use the Windlass release that ran `windlass migrate`, or a newer one"
            }
            Self::MissingGrants { .. } => {
                "run these statements as the tables' owner, or the whole of deploy/sql/grants.sql"
            }
            Self::Denied { .. } => {
                "run deploy/sql/grants.sql as the tables' owner; `windlass doctor` lists what lacks"
            }
            Self::Fenced { .. } => "nothing to do: `windlass status` shows who leads",
            Self::TimedOut { .. } => {
                "it is asked again; see the database's load and locks (pg_stat_activity)"
            }
            Self::Query { .. } => "it is asked again; the cause is in the database's own log too",
            Self::ForeignValue { .. } => {
                "restore the row, or delete it: the schema `windlass` is written by Windlass"
            }
            Self::Pooler { .. } => "give `windlass migrate` the address of PostgreSQL itself",
            Self::MigrationLocked { .. } => {
                "see who holds it: SELECT pid, query FROM pg_locks JOIN pg_stat_activity USING (pid) \
                 WHERE locktype = 'advisory'"
            }
            Self::Migration { .. } => {
                "mend the cause and run `windlass migrate` again: what was applied is kept"
            }
        };
        Some(hint.to_owned())
    }

    /// Whether the database did not let us in: wrong password, unknown role, no rule for us.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::AuthenticationFailed { .. })
    }

    /// Whether waiting can mend it without a person: the daemon then waits and asks again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::NoPassword { .. }
            | Self::ReadOnly { .. }
            | Self::TimedOut { .. }
            | Self::Query { .. }
            | Self::MigrationLocked { .. } => true,
            Self::Url(_)
            | Self::AuthenticationFailed { .. }
            | Self::NoSuchDatabase { .. }
            | Self::NoAirflow { .. }
            | Self::UnknownRevision { .. }
            | Self::SchemaMissing
            | Self::SchemaOlder { .. }
            | Self::SchemaNewer { .. }
            | Self::MissingGrants { .. }
            | Self::Denied { .. }
            | Self::Fenced { .. }
            | Self::ForeignValue { .. }
            | Self::Pooler { .. }
            | Self::Migration { .. } => false,
        }
    }

    /// With its causes, for a log line or an answer that is text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // The server's message alone: sqlx adds a line number, which is one of PostgreSQL's own source code.
            let server = error.downcast_ref::<sqlx::Error>().and_then(|e| e.as_database_error());
            let words = server.map_or_else(|| error.to_string(), |e| e.message().to_owned());
            // sqlx repeats the cause in its own message.
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = if server.is_some() { None } else { error.source() };
        }
        text
    }

    /// From a failed call on an open connection.
    pub(crate) fn of_query(what: &'static str, address: &str, source: sqlx::Error) -> Self {
        match source.as_database_error().and_then(|e| e.code()).as_deref() {
            Some("42501") => Self::Denied { what, source },
            Some("25006") => Self::ReadOnly { address: address.to_owned() },
            _ => Self::Query { what, source },
        }
    }

    /// Of a login that nothing can be said in.
    pub(crate) fn no_password(to: &DatabaseConfig, source: NoPassword) -> Self {
        Self::NoPassword { address: to.address().to_owned(), user: to.user().to_owned(), source }
    }

    /// From a connection that could not be opened.
    pub(crate) fn of_connect(to: &DatabaseConfig, source: sqlx::Error) -> Self {
        let (address, user) = (to.address().to_owned(), to.user().to_owned());
        if let Some(what) = TlsFault::of(&source, to.root_certificate()) {
            return Self::Tls { address, what, source };
        }
        let code = source.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned());
        match code.as_deref() {
            Some(code) if code.starts_with("28") => Self::AuthenticationFailed { address, user, source },
            Some("3D000") => Self::NoSuchDatabase { address, source },
            _ => Self::Connect { address, source },
        }
    }
}

/// The server's words.
fn said(source: &sqlx::Error) -> &str {
    source.as_database_error().map(|error| error.message()).unwrap_or_default()
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("a {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_grant_is_told_with_the_statement_that_mends_it() {
        let grants = vec!["GRANT SELECT (state) ON public.job TO windlass;".to_owned()];
        let error = BridgeError::MissingGrants { role: "windlass".into(), grants };
        assert_eq!(
            error.to_string(),
            "database role `windlass` lacks a privilege: GRANT SELECT (state) ON public.job TO windlass;"
        );
        assert_eq!((error.kind(), error.is_transient()), ("missing_grant", false));
    }

    #[test]
    fn a_newer_schema_is_told_with_both_versions() {
        let error = BridgeError::SchemaNewer { found: 7, known: 1 };
        assert_eq!(
            error.to_string(),
            "the schema `windlass` has version 7; this binary knows versions up to 1"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("newer")));
    }

    #[test]
    fn the_chain_says_nothing_twice() {
        let source = sqlx::Error::PoolTimedOut;
        let error = BridgeError::Query { what: "read task instances", source };
        assert_eq!(
            error.chain(),
            "the database failed to read task instances: pool timed out while waiting for an open connection"
        );
    }
}
