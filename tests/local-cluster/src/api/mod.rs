//! An embedded Kubernetes API for pods, in memory.
//!
//! It follows kube-apiserver 1.37 wherever Windlass, kube-rs or `kubectl get/describe/logs/delete` can see it; the
//! conformance suite (`tests/suite`) sends the same requests to both. Left out: RBAC, CRDs, apply patches,
//! protobuf, exec and port-forward, LimitRanges, webhooks, PodDisruptionBudgets, the garbage collector.

mod delete;
mod discovery;
mod faults;
mod identity;
mod list;
mod log;
mod namespace;
mod patch;
mod pod;
mod quota;
mod request;
mod resource;
mod route;
mod selector;
mod server;
mod status;
mod store;
mod table;
mod validate;
mod watch;
mod write;

pub use faults::{Fault, FaultRule};
pub use server::{ApiOptions, ApiServer, StartError};

/// Everything that a request needs.
struct Api {
    options: ApiOptions,
    /// `127.0.0.1:PORT`.
    address: String,
    store: store::Store,
    faults: faults::Faults,
}
