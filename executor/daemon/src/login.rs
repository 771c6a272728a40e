//! Who we are to the database. Read again when the database refuses us: a rotated password needs no restart.
//!
//! A variable does not change under a process; what it leads to does: the output of a `_CMD`, airflow.cfg, `~/.pgpass`.
//! With RDS tokens there is nothing to read again but the place: each login has a token of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scheduler_bridge::{DatabaseConfig, NoPassword, PasswordFuture, Passwords, Store};
use tokio::time::Instant;
use tracing::warn;
use windlass_aws::Account;

use crate::cli::Failure;
use crate::clock;
use crate::config::environment::Environment;
use crate::config::fault::{Fault, Faults};
use crate::config::settings::{Database, DatabaseAuth};
use crate::config::{Config, Lookup};

/// Between two reads while the database goes on refusing: a command may ask a service that counts its calls.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Refusals that are no further apart and end alike are told once.
const ONE_STORY: Duration = Duration::from_secs(60);

/// The connection string, and where it came from.
pub struct Login {
    lookup: Lookup,
    env: Environment,
    current: Mutex<DatabaseConfig>,
    tokens: Option<Arc<Tokens>>,
}

/// RDS tokens in the place of passwords.
struct Tokens(Account);

impl Passwords for Tokens {
    fn password<'a>(&'a self, of: &'a DatabaseConfig) -> PasswordFuture<'a> {
        Box::pin(async move {
            let token = self.0.rds_token(of.host(), of.port(), of.user(), clock::wall()).await;
            token.map_err(|error| NoPassword { why: error.to_string(), hint: error.hint().to_owned() })
        })
    }
}

/// Opens the database for a command.
///
/// # Errors
/// A connection string that is none, a database that does not answer, no token for it.
pub async fn open(config: &Config) -> Result<Store, Failure> {
    let database = to_log_in(config).await?;
    Ok(Store::connect(database, config.store_settings()).await?)
}

/// Where the database is, with what it takes to log in.
///
/// # Errors
/// A connection string that is none.
pub async fn to_log_in(config: &Config) -> Result<DatabaseConfig, Failure> {
    Ok(with_tokens(config.database()?, tokens(&config.own.database).await.as_ref()))
}

/// The same for `windlass migrate`, which may go there as another user.
///
/// # Errors
/// As [`to_log_in`].
pub async fn to_migrate(config: &Config) -> Result<DatabaseConfig, Failure> {
    Ok(with_tokens(config.migrate_database()?, tokens(&config.own.database).await.as_ref()))
}

/// None: the database takes a password.
async fn tokens(own: &Database) -> Option<Arc<Tokens>> {
    match own.auth {
        DatabaseAuth::Password => None,
        DatabaseAuth::RdsIam => Some(Arc::new(Tokens(Account::find(Some(&own.region)).await))),
    }
}

fn with_tokens(database: DatabaseConfig, tokens: Option<&Arc<Tokens>>) -> DatabaseConfig {
    match tokens {
        Some(tokens) => database.with_passwords(tokens.clone()),
        None => database,
    }
}

impl Login {
    /// As it was read at the start.
    pub async fn new(lookup: Lookup, env: Environment, database: DatabaseConfig, own: &Database) -> Self {
        let tokens = tokens(own).await;
        let current = Mutex::new(with_tokens(database, tokens.as_ref()));
        Self { lookup, env, current, tokens }
    }

    /// As last read.
    pub fn current(&self) -> DatabaseConfig {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it from where it came from. Anything that keeps it from being read leaves the old one in place.
    pub async fn read_again(&self) -> Result<DatabaseConfig, String> {
        let (lookup, env) = (self.lookup.clone(), self.env.clone());
        // A command may take its time.
        let read = tokio::task::spawn_blocking(move || {
            // Faults of other options are of no account here: they were none at the start.
            let (config, faults) = Config::load(&lookup, env);
            let config = config.ok_or_else(|| in_line(&faults))?;
            config.database().map_err(|Faults(faults)| in_line(&faults))
        });
        let database = read.await.map_err(|error| error.to_string())??;
        let database = with_tokens(database, self.tokens.as_ref());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = database.clone();
        Ok(database)
    }

    /// Gives the store what is read after each refusal. Never ends.
    pub async fn keep(&self, store: &Store) {
        let mut told = (Instant::now(), String::new());
        loop {
            store.refused().await;
            let news = match self.read_again().await {
                Ok(database) => {
                    let (user, place) = (database.user().to_owned(), database.address().to_owned());
                    if store.log_in_with(database) {
                        format!("was read again, for user `{user}`")
                    } else {
                        format!(
                            "leads to {place} now, another database than at the start: it is not used \
                             (hint: restart the daemon to move it there)"
                        )
                    }
                }
                Err(problem) => format!("cannot be read again: {problem}"),
            };
            if told.1 != news || told.0.elapsed() > ONE_STORY {
                warn!("the database refused a login: [database] sql_alchemy_conn {news}");
            }
            told = (Instant::now(), news);
            tokio::time::sleep(READ_AGAIN).await;
        }
    }
}

fn in_line(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
