//! Who we are to the database. Read again when the database refuses us: a rotated password needs no restart.
//!
//! A variable does not change under a process; what it leads to does: the output of a `_CMD`, airflow.cfg, `~/.pgpass`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scheduler_bridge::{DatabaseConfig, Store};
use tokio::time::Instant;
use tracing::warn;
use windlass_aws::{Account, AwsError};

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

/// A token of RDS is good for a login for 15 minutes: the pool's next connection finds one that is younger.
const NEXT_TOKEN: Duration = Duration::from_secs(300);

/// The connection string, and where it came from.
pub struct Login {
    lookup: Lookup,
    env: Environment,
    current: Mutex<DatabaseConfig>,
    /// For RDS tokens in the place of the password.
    account: Option<Account>,
}

/// Opens the database for a command.
///
/// # Errors
/// A connection string that is none, a database that does not answer, no token for it.
pub async fn open(config: &Config) -> Result<Store, Failure> {
    let database = to_log_in(config).await?;
    Ok(Store::connect(database, config.store_settings()).await?)
}

/// Where the database is, with what it takes to log in now.
///
/// # Errors
/// As [`open`], but for the database's own.
pub async fn to_log_in(config: &Config) -> Result<DatabaseConfig, Failure> {
    let account = account_of(&config.own.database).await;
    with_token(config.database()?, account.as_ref()).await.map_err(|error| of_aws(&error))
}

/// The same for `windlass migrate`, which may go there as another user.
///
/// # Errors
/// As [`to_log_in`].
pub async fn to_migrate(config: &Config) -> Result<DatabaseConfig, Failure> {
    let account = account_of(&config.own.database).await;
    with_token(config.migrate_database()?, account.as_ref()).await.map_err(|error| of_aws(&error))
}

/// As a failure of a command.
fn of_aws(error: &AwsError) -> Failure {
    Failure::Other { what: error.to_string(), hint: error.hint().to_owned() }
}

/// None: the database takes a password.
async fn account_of(own: &Database) -> Option<Account> {
    match own.auth {
        DatabaseAuth::Password => None,
        DatabaseAuth::RdsIam => Some(Account::find(Some(&own.region)).await),
    }
}

async fn with_token(database: DatabaseConfig, account: Option<&Account>) -> Result<DatabaseConfig, AwsError> {
    let Some(account) = account else { return Ok(database) };
    let token = account.rds_token(database.host(), database.port(), database.user(), clock::wall()).await?;
    Ok(database.with_password(&token))
}

impl Login {
    /// As it was read at the start.
    pub async fn new(lookup: Lookup, env: Environment, database: DatabaseConfig, own: &Database) -> Self {
        Self { lookup, env, current: Mutex::new(database), account: account_of(own).await }
    }

    /// As last read, with what it takes to log in now.
    ///
    /// # Errors
    /// No token could be made: a sentence with the remedy.
    pub async fn current(&self) -> Result<DatabaseConfig, String> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = |error: AwsError| format!("{error} (hint: {})", error.hint());
        with_token(current, self.account.as_ref()).await.map_err(told)
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
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = database;
        self.current().await
    }

    /// Gives the store what is read after each refusal, and the next token in time. Never ends.
    pub async fn keep(&self, store: &Store) {
        let mut told = (Instant::now(), String::new());
        loop {
            tokio::select! {
                () = store.refused() => {}
                () = tokio::time::sleep(NEXT_TOKEN), if self.account.is_some() => {
                    match self.current().await {
                        Ok(database) => drop(store.log_in_with(database)),
                        // The next refusal tells; until then the one before may still be good.
                        Err(problem) => tracing::debug!("no new token for the database: {problem}"),
                    }
                    continue;
                }
            }
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
