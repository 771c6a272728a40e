//! What a pod is to AWS. EKS gives pods their role and their security groups through admission webhooks that fail open:
//! a pod that they missed is admitted all the same, and runs as its node.
//!
//! [`irsa`] judges the role of an admitted pod, [`sgp`] follows the security groups for pods, [`LabelSelector`] is how
//! Kubernetes selects by labels.

mod field;
pub mod irsa;
mod selector;
pub mod sgp;

pub use selector::{LabelSelector, Labels, SelectorError};
