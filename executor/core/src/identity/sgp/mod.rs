//! Security groups for pods: which ones a pod gets, and how.
//!
//! A SecurityGroupPolicy names groups and selects pods. When a pod is created, a webhook of AWS
//! (amazon-vpc-resource-controller-k8s) looks for policies that match; if one does, the pod asks for a network
//! interface of its own, and after it is bound to a node the controller makes that interface with the groups of all
//! matching policies. The rules here are those of the controller's version 1.8.2.
//!
//! [`PodFacts`], [`ServiceAccounts`] and [`Policies`] are what the controller looks at, [`matching_groups`] is its
//! answer, [`decide`] what the webhook does with the pod. `pod_eni` reads what the controller wrote on a pod, and
//! `question` answers for manifests.

mod account;
mod instances;
mod pod;
mod pod_eni;
mod policy;
mod question;

pub use account::ServiceAccounts;
pub use instances::branch_interfaces;
pub use pod::{PodFacts, PodKind};
pub use pod_eni::{Asks, BranchInterface, PodEniError, pod_asks_for_branch, standing};
pub use policy::{Match, Policies, SecurityGroupPolicy};
pub use question::{answer, from_manifests};

/// The annotation that the controller writes on a pod with its interface, and the resource that such a pod asks for.
pub const POD_ENI: &str = "vpc.amazonaws.com/pod-eni";

/// The annotation with the groups of a pod on Fargate, joined by commas.
pub const FARGATE_POD_SG: &str = "fargate.amazonaws.com/pod-sg";

/// Why there is no answer for a pod. The text is the controller's, so that it can be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// The pod's service account is not in the controller's cache: it does not exist, or was made a moment ago. A
    /// second try may find it.
    #[error("ServiceAccount \"{0}\" not found")]
    ServiceAccountNotFound(String),
    /// Policies or service accounts could not be read; what the API said.
    #[error("{0}")]
    Read(String),
}

/// The groups of all policies that match the pod. The service account is looked up first, so a missing one is an
/// error even where no policy is.
///
/// # Errors
/// [`MatchError::ServiceAccountNotFound`].
pub fn matching_groups(
    pod: &PodFacts,
    accounts: &ServiceAccounts,
    policies: &Policies,
) -> Result<Match, MatchError> {
    let account = accounts
        .labels(&pod.namespace, &pod.service_account)
        .ok_or_else(|| MatchError::ServiceAccountNotFound(pod.service_account.clone()))?;
    Ok(policies.groups(&pod.namespace, &pod.labels, account))
}

/// What the mutating webhook does with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Nothing, whatever the policies say.
    Untouched(Untouched),
    /// The groups go into the annotation [`FARGATE_POD_SG`].
    Fargate(Match),
    /// The first container asks for one [`POD_ENI`]; the pod's interface gets the groups.
    Interface(Match),
    /// No policy matches: the pod has the groups of its node.
    None,
}

/// Why policies do not count for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    /// `spec.hostNetwork`: the pod has the node's own network.
    HostNetwork,
    /// The node selector asks for Windows.
    Windows,
}

/// What the webhook does with the pod. `find` is asked for matching policies only where they count; it is
/// [`matching_groups`] over what is known of the cluster.
///
/// # Errors
/// What `find` says. The webhook then denies the pod.
pub fn decide(
    pod: &PodFacts,
    find: impl FnOnce(&PodFacts) -> Result<Match, MatchError>,
) -> Result<Branch, MatchError> {
    let branch = match pod.kind {
        PodKind::HostNetwork => return Ok(Branch::Untouched(Untouched::HostNetwork)),
        PodKind::Windows => return Ok(Branch::Untouched(Untouched::Windows)),
        PodKind::Fargate => Branch::Fargate,
        PodKind::Linux => Branch::Interface,
    };
    let found = find(pod)?;
    Ok(if found.groups.is_empty() { Branch::None } else { branch(found) })
}
