//! The lab: real parts for tests and the demo, on private ports and in private folders, gone when the test is gone.
//!
//! - [`control_plane`]: etcd, kube-apiserver and, if wanted, scheduler and controller-manager
//! - [`postgres`]: PostgreSQL from a wheel; [`pgbouncer`]: a pooler in front of it
//! - [`moto`]: a local AWS
//! - [`airflow`]: scheduler, triggerer, webserver and DAG processor of a real Airflow
//! - [`daemon`]: the daemon with the shipped grants and RBAC
//! - [`proxy`]: TCP that breaks, or leads elsewhere
//! - [`plain_http`]: requests to probes, metrics and etcd
//! - [`process`]: what all of them stand on: a started process that can't be left behind
//!
//! Nothing is downloaded or built here but what is missing in the cache (see `windlass-lab-prepare`).

pub mod airflow;
pub mod binaries;
pub mod control_plane;
pub mod daemon;
pub mod folder;
pub mod moto;
pub mod pgbouncer;
pub mod plain_http;
pub mod ports;
pub mod postgres;
pub mod process;
mod process_tree;
pub mod proxy;
mod system_package;
mod watchdog;

pub use windlass_lab_prepare as prepare;
