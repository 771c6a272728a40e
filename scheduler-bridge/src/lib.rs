//! scheduler-bridge: everything that touches Airflow's metadata database, and the only shipped crate with SQL.
//!
//! [`Store`] is the door. Each file is one thing that is asked of it:
//!
//! - `airflow/`: Airflow's tables, read by revision: `intake` (new queueings), `tasks` (how rows stand), `spec` (what to
//!   run), `executor_config` (its pickle), `note_pods` (the one write)
//! - `claim`, `rows`, `save`, `log_tail`, `owners`, `retention`: `windlass.launch`
//! - `term`: leadership; every write of a term goes through the fence in `transaction`
//! - `wake`, `status`: for the daemon and its command line; `inspect`: for its doctor
//! - `config`, `login`, `tls`, `check`, `grants`, `migrate`: before any of that
//!
//! All of it works behind a pooler in transaction mode, but [`migrate`], which refuses one.

pub mod airflow;
mod check;
mod claim;
mod config;
mod error;
mod grants;
mod inspect;
mod keys;
mod log_tail;
mod login;
mod migrate;
mod owners;
mod pooler;
mod recovery;
mod retention;
mod rows;
mod save;
mod status;
mod store;
mod term;
mod timestamp;
mod tls;
mod transaction;
mod wake;

pub use check::Checked;
pub use claim::ClaimBatch;
pub use config::{DatabaseConfig, UrlError};
pub use error::BridgeError;
pub use inspect::LookLimits;
pub use login::{NoPassword, PasswordFuture, Passwords};
pub use migrate::{MigrateOptions, MigrateProgress, MigrateReport, PendingMigration, migrate};
pub use owners::Adopted;
pub use retention::Purged;
pub use status::{Failure, SchedulerStatus, Status, TermStatus};
pub use store::{Store, StoreSettings, worker_heartbeat};
pub use tls::TlsFault;
pub use wake::{WAKE_CHANNEL, WakeListener};
