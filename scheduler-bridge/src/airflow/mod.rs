//! Airflow's own tables. Nothing outside of this module names one; they are read with as few columns as the work needs
//! (deploy/sql/grants.sql grants no others), and written in one place, [`note_pods`].
//!
//! The statements say `{airflow}` where Airflow's schema stands; without `[database] sql_alchemy_schema` the search_path
//! finds it, as it does for Airflow.

mod catalogue;
pub mod executor_config;
mod intake;
mod note_pods;
pub(crate) mod revision;
mod spec;
mod tasks;
