//! windlass-eks: what EKS' admission webhooks and AWS's controller do to a pod, STS and RDS with a token, without AWS.
//!
//! `irsa` is the pod identity webhook as a function, `sgp` that of security groups for pods, both compared with
//! recordings of the real ones (`tests/fixtures/eks`). `server` answers AdmissionReviews over HTTPS, and can be silent,
//! slow, wrong or down. `branch` gives pods of an API server their branch interfaces. `configuration` and `policy` are
//! the objects by which a cluster has them, `cluster` puts what belongs to security groups on an API server. `sts` is a
//! Security Token Service that judges web identity tokens, `rds` the login to a database with IAM authentication.

pub mod branch;
pub mod cluster;
pub mod configuration;
mod go;
pub mod irsa;
pub mod policy;
pub mod rds;
pub mod review;
pub mod server;
pub mod sgp;
pub mod sts;
