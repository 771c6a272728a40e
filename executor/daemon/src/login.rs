//! Who we are to the database. Read again when the database refuses us: a rotated password needs no restart.
//!
//! A variable does not change under a process; what it leads to does: the output of a `_CMD`, airflow.cfg, `~/.pgpass`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scheduler_bridge::{DatabaseConfig, Store};
use tokio::time::Instant;
use tracing::warn;

use crate::config::environment::Environment;
use crate::config::fault::{Fault, Faults};
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
}

impl Login {
    /// As it was read at the start.
    pub fn new(lookup: Lookup, env: Environment, database: DatabaseConfig) -> Self {
        Self { lookup, env, current: Mutex::new(database) }
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
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&database);
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
