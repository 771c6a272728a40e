//! windlass-eks: what EKS' admission webhooks do to a pod, and STS with its token, without AWS.
//!
//! `irsa` is the pod identity webhook as a function, compared with recordings of the real one (`tests/fixtures/eks`).
//! `server` answers AdmissionReviews over HTTPS, and can be silent, slow, wrong or down. `configuration` and `policy` are
//! the objects by which a cluster has them. `sts` is a Security Token Service that judges web identity tokens.

pub mod configuration;
pub mod irsa;
pub mod policy;
pub mod review;
pub mod server;
pub mod sts;
