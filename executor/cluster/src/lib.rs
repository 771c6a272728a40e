//! The only shipped crate with a Kubernetes client: creates, reads, deletes and watches the pods of this
//! installation in the words of `windlass_core::cluster`.
//!
//! What it promises to the layers above:
//! - **A write is sent once.** No layer under [`Cluster`] repeats a request; whether to ask again is the engine's
//!   decision, after it knows more.
//! - **Each call ends.** Every call has a deadline of its own, waiting for a free connection included; a watch that
//!   falls silent is cut.
//! - **An answer is read for what it says.** 409 and 403 have several meanings ([`classify_create`]); only a real
//!   `Status` of a Kubernetes API server refuses a pod for good, never a proxy's page.
//! - **Only what decides is decoded.** A pod becomes a [`windlass_core::pod_view::PodView`] without its spec.
//! - **No secret in errors, logs or `Debug`.**
//!
//! Story of the files: `config` (what to connect to) -> `connect` (how) -> `transport` (one call) -> `create`, `pods`
//! (calls on pods) -> `watch` (all pods, as events, and what else decides who they are) -> `list` (all pods, once),
//! `neighbours` (those of a KubernetesExecutor) -> `preflight` (is it as it has to be?), `grants` (may we?), `accounts`
//! (tokens for the doctor), `apply` (what an apply would change). `page` is one page of a list, `selector` which objects
//! are in it; `lean` decodes pods, `meta` what all objects have, `airflow` what a pod tells of its task, `eks` what the
//! doctor looks at beside pods, `status` refusals; `error` says what went wrong.

mod accounts;
mod airflow;
mod apply;
mod config;
mod connect;
mod create;
mod eks;
mod error;
mod grants;
mod lean;
mod list;
mod meta;
mod neighbours;
mod observe;
mod page;
mod pods;
mod preflight;
mod selector;
mod status;
mod token;
mod transport;
mod watch;

pub use apply::{Compared, Kind};
pub use config::{ClusterConfig, Keepalive, Namespaces, Source};
pub use create::{CreateVerdict, classify_create};
pub use error::ClusterError;
pub use grants::Looks;
pub use lean::{NotOurs, decode_pod};
pub use list::{Listing, Selection};
pub use neighbours::NeighbourPod;
pub use observe::{NoObserver, Observer, Verb};
pub use preflight::{Finding, Level, blocked, told};
pub use transport::Cluster;
pub use watch::{AccountView, Changes, Told};
