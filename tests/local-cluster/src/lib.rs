//! A Kubernetes small enough for a laptop: an embedded API for pods, and a kubelet that runs pods as local processes.
//!
//! - [`ApiServer`]: the API, in memory, with faults on demand.
//! - [`Kubelet`]: runs the pods of its node from any API server, the embedded one or a real kube-apiserver.
//! - [`LocalCluster`]: both in one process.
//!
//! Both behave like the real parts where Windlass and kubectl can see it. Nothing shipped depends on this crate.

mod api;
mod clock;
mod cluster;
mod kubelet;
mod logs;
mod private_file;
mod tls;

pub use api::{ApiOptions, ApiServer, Fault, FaultRule, StartError};
pub use cluster::{ClusterError, LocalCluster, client_config, kubeconfig_file};
pub use kubelet::{FAULT_ANNOTATION, Kubelet, KubeletError, KubeletOptions};
