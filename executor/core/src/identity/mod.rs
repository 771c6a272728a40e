//! What a pod is to AWS. On EKS, webhooks give a pod its security groups; here the same rules run as functions, so that
//! what a pod should get can be said beforehand and compared with what it got.
//!
//! [`sgp`] follows the security groups for pods, [`LabelSelector`] is how Kubernetes selects by labels.

mod field;
mod selector;
pub mod sgp;

pub use selector::{LabelSelector, Labels, SelectorError};
