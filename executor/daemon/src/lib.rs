//! windlass: the daemon. Command line, configuration, metrics, probes, and the driver that executes what the engine
//! decides. Nothing is decided here.
//!
//! `cli` is where it begins; `config` what it is told; `run`, `start`, `login` and `driver` the daemon itself; `pods` makes
//! pods from templates, with the users' `hook`, and compares them with what `surroundings` knows of the cluster; `health`, `metrics`, `logging` what it says of itself; `status`, `doctor`, `explain`, `show`,
//! `render`, `cleanup`, `migrate`, `docs` the other commands.

pub mod chain;
pub mod cleanup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod docs;
pub mod doctor;
pub mod document;
pub mod driver;
pub mod explain;
pub mod health;
pub mod holder;
pub mod hook;
pub mod identity;
pub mod logging;
pub mod login;
pub mod metrics;
pub mod migrate;
pub mod pods;
pub mod render;
pub mod run;
pub mod show;
pub mod start;
pub mod status;
pub mod surroundings;
pub mod yaml;
