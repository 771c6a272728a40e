//! Benchmarks: the real daemon between a real PostgreSQL and a real kube-apiserver, side by side with the least that a
//! client could do.
//!
//! - [`identity`]: what identity rules add to one launch
//! - [`throughput`]: creates, latency, full lifecycles, idle cost, overload and restart; its page is benches/README.md
//!
//! What benchmarks share: `rig` starts the parts, `scheduler` and `workers` play Airflow in the database, `bare` is the
//! client that Windlass is measured against, `meter` reads what processes cost.

mod bare;
pub mod identity;
mod meter;
mod metrics;
mod pods;
mod rig;
mod scheduler;
pub mod throughput;
mod workers;

/// Beside the target of a figure.
fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "NOT met" }
}
