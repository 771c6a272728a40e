//! Where the database is: the connection string as Airflow takes it (`[database] sql_alchemy_conn`).
//!
//! It is read as SQLAlchemy 1.4 reads it, not as a browser reads a URL: a password may hold `/`, `?` and `#` unescaped.
//! What the string leaves open comes from where libpq takes it (`PGHOST`, `PGSSLMODE`, `~/.pgpass`, ...), because
//! that is where Airflow's own driver gets it.

mod parts;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use self::parts::Parts;
use crate::login::{NoPassword, Passwords};

/// Where Airflow's metadata database is and how to get in.
#[derive(Clone)]
pub struct DatabaseConfig {
    options: PgConnectOptions,
    address: String,
    user: String,
    airflow_schema: Option<String>,
    connect_timeout: Duration,
    /// `sslrootcert` of the string.
    root_certificate: Option<PathBuf>,
    passwords: Option<Arc<dyn Passwords>>,
}

/// A connection string that cannot be used. Never holds the password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is nothing in it.
    #[error("the connection string is empty")]
    Empty,
    /// It has no `scheme://`.
    #[error("the connection string does not begin with a scheme such as `postgresql+psycopg2://`")]
    NoScheme,
    /// Another database, or a driver nobody has heard of.
    #[error("Windlass does not support `{0}://`: it works with PostgreSQL alone")]
    Scheme(String),
    /// Not a number up to 65535.
    #[error("the connection string's port is `{0}`, which is no TCP port")]
    Port(String),
    /// What stands for the host holds an `@`: the password's own was not escaped. Not repeated: it is part of it.
    #[error("the connection string has more than one `@`")]
    TwoAts,
    /// `host=a,b`.
    #[error("the connection string names several hosts (`{0}`), and Windlass connects to one")]
    SeveralHosts(String),
    /// A query option with a value that it cannot have.
    #[error("the connection string's option {option} is `{value}`; possible: {possible}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        possible: &'static str,
    },
    /// A query option that changes what a connection means and that is not supported.
    #[error("the connection string's option `{0}` is not supported")]
    UnknownOption(String),
    /// A percent escape that is no UTF-8.
    #[error("the connection string's {0} is not UTF-8 after percent-decoding")]
    NotUtf8(&'static str),
}

impl UrlError {
    /// What the operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty | Self::NoScheme => {
                "set [database] sql_alchemy_conn (AIRFLOW__DATABASE__SQL_ALCHEMY_CONN) to \
                 postgresql+psycopg2://USER:PASSWORD@HOST:5432/DATABASE"
                    .into()
            }
            Self::Scheme(scheme) if scheme.starts_with("sqlite") => {
                "SQLite is for trying Airflow out: move its metadata to PostgreSQL 14 or newer".into()
            }
            Self::Scheme(_) => "use postgresql+psycopg2://, postgresql+psycopg://, postgresql+asyncpg://, \
                                postgresql:// or postgres://"
                .into(),
            Self::Port(_) | Self::TwoAts => {
                "a `:`, `@` or `/` in the password is written %3A, %40, %2F".into()
            }
            Self::SeveralHosts(_) => "name the primary's address (on RDS: the writer's endpoint)".into(),
            Self::Option { .. } => "correct it, or leave it out for the default".into(),
            Self::UnknownOption(_) => "leave it out of Windlass's connection string".into(),
            Self::NotUtf8(_) => "percent-encode the UTF-8 bytes of each character".into(),
        }
    }
}

const SCHEMES: [&str; 6] = [
    "postgresql",
    "postgres",
    "postgresql+psycopg2",
    "postgresql+psycopg",
    "postgresql+asyncpg",
    "postgres+psycopg2",
];

impl DatabaseConfig {
    /// Reads `[database] sql_alchemy_conn`.
    pub fn parse(sql_alchemy_conn: &str) -> Result<Self, UrlError> {
        let text = sql_alchemy_conn.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        if !SCHEMES.contains(&scheme) {
            // What stands before `://` may be half a password, if the scheme was forgotten.
            let plain = scheme.len() <= 40 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
            return Err(if plain { UrlError::Scheme(scheme.to_owned()) } else { UrlError::NoScheme });
        }
        Parts::split(rest)?.into_config()
    }

    /// With `[database] sql_alchemy_schema`: the schema of Airflow's tables, if it is not found by the search_path.
    #[must_use]
    pub fn with_airflow_schema(mut self, schema: Option<String>) -> Self {
        self.airflow_schema = schema.filter(|s| !s.is_empty());
        self
    }

    /// With a password of its own for each login, such as a token of RDS, in the place of the string's.
    #[must_use]
    pub fn with_passwords(mut self, passwords: Arc<dyn Passwords>) -> Self {
        self.passwords = Some(passwords);
        self
    }

    /// Host as the string names it.
    pub fn host(&self) -> &str {
        self.options.get_host()
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.options.get_port()
    }

    /// Whether nothing is sent unencrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(
            self.options.get_ssl_mode(),
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
        )
    }

    /// Host, port and database, for people.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The database role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `[database] sql_alchemy_schema`.
    pub fn airflow_schema(&self) -> Option<&str> {
        self.airflow_schema.as_deref()
    }

    /// For opening a connection.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// `sslrootcert` of the string.
    pub(crate) fn root_certificate(&self) -> Option<&std::path::Path> {
        self.root_certificate.as_deref()
    }

    /// Whether each login has a password of its own.
    pub(crate) fn has_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// For connections whose password is not known yet, or does not change.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// For opening a connection now. No statement is ever kept by name: behind a pooler in transaction mode the next
    /// transaction has another connection, which does not know it.
    pub(crate) async fn options_now(&self) -> Result<PgConnectOptions, NoPassword> {
        let Some(passwords) = &self.passwords else { return Ok(self.options.clone()) };
        let made = tokio::time::timeout(self.connect_timeout, passwords.password(self)).await;
        let late = || NoPassword {
            why: format!("none came within {} s", self.connect_timeout.as_secs()),
            hint: "see the network of the pod: credentials come from AWS's STS or the node's agent".into(),
        };
        Ok(self.options.clone().password(&made.map_err(|_| late())??))
    }
}

impl fmt::Display for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@{}", self.user, self.address)
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseConfig({self}, password [redacted])")
    }
}

#[cfg(test)]
mod tests;
