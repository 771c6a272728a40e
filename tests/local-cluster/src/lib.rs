//! A Kubernetes small enough for a laptop: an embedded API for pods, and a kubelet that runs pods as local processes.
//!
//! - [`ApiServer`]: the API, in memory, with faults on demand.
//!
//! Both behave like the real parts where Windlass and kubectl can see it. Nothing shipped depends on this crate.

mod api;
mod logs;
mod private_file;

pub use api::{ApiOptions, ApiServer, Fault, FaultRule, StartError};
