//! What the end-to-end tests share: the whole of a deployment, from PostgreSQL to worker processes, and a daemon alone
//! with what it talks to.
//!
//! Everything is real: PostgreSQL, etcd and kube-apiserver, Airflow's scheduler and triggerer, the daemon as its own
//! service account and database role. The pods are run by the process kubelet.

pub mod daemon;
mod processes;
pub mod setup;
mod stack;

pub use processes::{helpers_of, kill_all, kill_container, processes_of};
pub use stack::{Launch, NAMESPACE, Setup, Stack};
