//! The role of an admitted pod: IRSA (web identity) or EKS Pod Identity.
//!
//! The rules are those of amazon-eks-pod-identity-webhook at commit 3bf80a34, and the order in which AWS' SDKs look for
//! credentials: keys in the environment, a profile that assumes a role, web identity, ..., container credentials (EKS
//! Pod Identity), the node. What cannot be seen in the object: variables that come through `envFrom`, files in the
//! image, the role of a Pod Identity association, and whether the role trusts the account.

mod container;
mod env;
mod fault;
mod skip;
mod token;

use serde_json::Value;

use crate::pod::WORKER_CONTAINER;
use container::Found;

pub(super) use container::CREDENTIALS_BY_HAND;
pub use env::shadowing_env;
pub use fault::{Fault, Wrong};
pub use skip::skipped_containers;
pub use token::{Claims, WebToken};

/// Annotation of a service account with its role.
pub const ANNOTATION_ROLE: &str = "eks.amazonaws.com/role-arn";

/// Annotation of a service account with the audience of its tokens, where that is not [`DEFAULT_AUDIENCE`].
pub const ANNOTATION_AUDIENCE: &str = "eks.amazonaws.com/audience";

/// Annotation of a pod with the containers that the webhook leaves alone; read it with [`skipped_containers`].
pub const ANNOTATION_SKIP: &str = "eks.amazonaws.com/skip-containers";

/// Label that keeps a pod from the webhook, by the selector of its configuration. The value does not matter.
pub const LABEL_SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";

/// Audience of web identity tokens, if the service account names no other.
pub const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";

/// Audience of EKS Pod Identity tokens.
pub const POD_IDENTITY_AUDIENCE: &str = "pods.eks.amazonaws.com";

/// Where EKS Pod Identity's agent answers on each node.
pub const POD_IDENTITY_URI: &str = "http://169.254.170.23/v1/credentials";

/// How the worker of a pod gets its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// IRSA: a token of the service account for the expected role.
    WebIdentity,
    /// EKS Pod Identity. Its association is in AWS: which role it gives does not show in the pod.
    PodIdentity,
}

/// Whether `pod`, the object that CREATE returned, has credentials for `expected_role` in every container that the
/// webhook treats. `audience`: of its tokens, [`DEFAULT_AUDIENCE`] unless the service account's annotation
/// [`ANNOTATION_AUDIENCE`] names another. An empty one leaves it out of the volume: the token is for the API server then.
///
/// # Errors
/// The [`Fault`] of the worker's container, else of the first other one. One that a retry does not help goes before one
/// that it does.
pub fn check(pod: &Value, expected_role: &str, audience: &str) -> Result<Credentials, Fault> {
    let skipped =
        pod["metadata"]["annotations"][ANNOTATION_SKIP].as_str().map(skipped_containers).unwrap_or_default();
    let containers = list(&pod["spec"]["containers"]);
    let worker = containers
        .iter()
        .find(|c| name_of(c) == WORKER_CONTAINER)
        .or(containers.first())
        .map(name_of)
        .ok_or(Fault::NoContainer)?;
    let wrong = |container: &str, what| Fault::Wrong {
        container: container.to_owned(),
        role: expected_role.to_owned(),
        what,
    };
    if skipped.contains(worker) {
        return Err(wrong(worker, Wrong::Skipped));
    }
    let inits = list(&pod["spec"]["initContainers"]);
    let mut treated: Vec<&Value> =
        containers.iter().chain(inits).filter(|c| !skipped.contains(name_of(c))).collect();
    treated.sort_by_key(|c| name_of(c) != worker);
    let volumes = list(&pod["spec"]["volumes"]);
    let mut found = Vec::new();
    for container in treated {
        let name = name_of(container);
        let of = container::judge(container, volumes, expected_role, audience)
            .map_err(|what| wrong(name, what))?;
        found.push((name, of));
    }
    let credentials = found.iter().find_map(|(_, of)| of.credentials());
    match (credentials, found.iter().find(|(_, of)| *of == Found::Nothing)) {
        (Some(_), Some((name, _))) => Err(wrong(name, Wrong::LeftOut)),
        (Some(credentials), None) => Ok(credentials),
        (None, _) if pod["metadata"]["labels"].get(LABEL_SKIP).is_some() => {
            Err(wrong(worker, Wrong::SkipLabel))
        }
        (None, _) => Err(Fault::NotInjected { container: worker.to_owned(), role: expected_role.to_owned() }),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name_of(object: &Value) -> &str {
    object["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
