//! Who a pod may be: service account and role, security groups, and all that could give it another identity.
//!
//! [`rules`] chooses by the task; [`Identity::apply`] writes the choice into the pod, above the template and below
//! executor_config; [`guard`] compares what came out with what would have come out without executor_config. EKS gives
//! pods their role and their security groups through admission webhooks that fail open: [`admitted`] judges what they made
//! of a pod, with [`irsa`] for the role and [`sgp`] for the groups, and [`surroundings`] what they will make of it.
//! [`policy`] has the API server hold whoever has the daemon's token to the same rules.

pub mod admitted;
mod field;
pub mod guard;
pub mod irsa;
pub mod lint;
mod lookup;
pub mod manifests;
pub mod pattern;
pub mod policy;
pub mod rules;
mod selector;
pub mod sgp;
mod surface;
pub mod surroundings;
pub(crate) mod worker_env;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

pub use selector::{LabelSelector, Labels, SelectorError, is_label_value, key_fault};
pub use worker_env::{WorkerEnv, session_name};

use crate::task::BranchPool;

/// Name of the scheduling gate that keeps a pod from starting until its admitted form was checked.
pub const GATE: &str = "windlass.dev/identity";

/// Label with the name of the rule that a pod's identity comes from, as a label value. No executor_config changes it.
pub const LABEL_RULE: &str = "windlass.dev/identity-rule";

/// What a rule gives. What it leaves open is the template's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The rule's name; None: there are no rules.
    pub rule: Option<String>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// ARN of the IAM role that the pod must come to have (IRSA, or an EKS Pod Identity association).
    pub role_arn: Option<String>,
    /// Audience of the tokens for that role; None: [`irsa::DEFAULT_AUDIENCE`].
    pub token_audience: Option<String>,
    /// Ids of the security groups that the pod must come to have, exactly these. Empty: none are demanded.
    pub security_groups: BTreeSet<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// Added to the pod's.
    pub labels: BTreeMap<String, String>,
    /// Added to the pod's.
    pub annotations: BTreeMap<String, String>,
    /// Added to the pod's.
    pub node_selector: BTreeMap<String, String>,
    /// Variables of AWS's SDKs. Not of [`Identity::apply`]: they are written once executor_config has had its say.
    pub worker_env: WorkerEnv,
}

/// Of a task where there are no rules.
pub static NOBODY: Identity = Identity {
    rule: None,
    service_account: None,
    role_arn: None,
    token_audience: None,
    security_groups: BTreeSet::new(),
    namespace: None,
    labels: BTreeMap::new(),
    annotations: BTreeMap::new(),
    node_selector: BTreeMap::new(),
    worker_env: WorkerEnv { region: None, regional_sts: false, no_metadata: false, session_name: false },
};

impl Identity {
    /// Whether the pod that admission made has to be checked before it may start.
    pub fn demands(&self) -> bool {
        self.role_arn.is_some() || !self.security_groups.is_empty()
    }

    /// Whom the tokens for its role have to be for.
    pub fn audience(&self) -> &str {
        self.token_audience.as_deref().unwrap_or(irsa::DEFAULT_AUDIENCE)
    }

    /// Nodes whose branch interfaces its pods compete for; None: they need none.
    pub fn branch_pool(&self) -> Option<BranchPool> {
        (!self.security_groups.is_empty()).then(|| BranchPool::of(&self.node_selector))
    }

    /// Writes it into a pod, over what the pod has there.
    pub fn apply(&self, pod: &mut Map<String, Value>) {
        if !self.labels.is_empty() || !self.annotations.is_empty() {
            edit(pod, "metadata", |metadata| {
                extend(metadata, "labels", &self.labels);
                extend(metadata, "annotations", &self.annotations);
            });
        }
        if self.service_account.is_some() || !self.node_selector.is_empty() {
            edit(pod, "spec", |spec| {
                if let Some(account) = &self.service_account {
                    spec.insert("serviceAccountName".into(), account.as_str().into());
                    // The old name of the same field: another value there would be refused.
                    spec.remove("serviceAccount");
                }
                extend(spec, "nodeSelector", &self.node_selector);
            });
        }
    }
}

/// Puts the scheduling gate before those that the pod has.
pub fn close_gate(pod: &mut Map<String, Value>) {
    edit(pod, "spec", |spec| {
        let mut gates = match spec.remove("schedulingGates") {
            Some(Value::Array(gates)) => gates,
            _ => Vec::new(),
        };
        gates.retain(|gate| gate["name"] != GATE);
        gates.insert(0, json!({ "name": GATE }));
        spec.insert("schedulingGates".into(), Value::Array(gates));
    });
}

/// Changes the object in a field; one is made where there is none.
fn edit(parent: &mut Map<String, Value>, field: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut object = match parent.remove(field) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    change(&mut object);
    parent.insert(field.to_owned(), Value::Object(object));
}

fn extend(parent: &mut Map<String, Value>, field: &str, with: &BTreeMap<String, String>) {
    if with.is_empty() {
        return;
    }
    edit(parent, field, |object| {
        for (key, value) in with {
            object.insert(key.clone(), value.as_str().into());
        }
    });
}

/// What a rule may leave to executor_config. None of these by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freedom {
    /// `spec.serviceAccountName`.
    ServiceAccount,
    /// `metadata.namespace`.
    Namespace,
    /// The labels and annotations that a rule gives or that AWS's controllers read.
    Labels,
    /// hostNetwork, hostPID, hostIPC, hostPort, hostPath, nodeName, runtimeClassName.
    Host,
    /// privileged, added capabilities, and the like.
    Privileged,
    /// Tokens of service accounts: automount, projected volumes.
    Tokens,
    /// imagePullSecrets.
    ImagePullSecrets,
    /// `AWS_*` variables that stand before the role's.
    AwsEnv,
    /// The node selector that a rule gives.
    NodeSelector,
}

/// Some of them.
pub type Freedoms = BTreeSet<Freedom>;

impl Freedom {
    /// All, in the order of the manual.
    pub const ALL: [Self; 9] = [
        Self::ServiceAccount,
        Self::Namespace,
        Self::Labels,
        Self::Host,
        Self::Privileged,
        Self::Tokens,
        Self::ImagePullSecrets,
        Self::AwsEnv,
        Self::NodeSelector,
    ];

    /// As in `may-override`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service-account",
            Self::Namespace => "namespace",
            Self::Labels => "labels",
            Self::Host => "host",
            Self::Privileged => "privileged",
            Self::Tokens => "tokens",
            Self::ImagePullSecrets => "image-pull-secrets",
            Self::AwsEnv => "aws-env",
            Self::NodeSelector => "node-selector",
        }
    }

    /// From such a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|freedom| freedom.as_str() == word)
    }
}

impl fmt::Display for Freedom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_over_the_templates() {
        let mut pod = json!({
            "metadata": {"labels": {"team": "old", "kept": "1"}},
            "spec": {"serviceAccountName": "t", "serviceAccount": "t", "nodeSelector": {"arch": "arm64"}}
        });
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let identity = Identity {
            service_account: Some("fin".into()),
            labels: map("team", "fin"),
            annotations: map("a", "b"),
            node_selector: map("pool", "fin"),
            ..Identity::default()
        };
        identity.apply(pod.as_object_mut().unwrap());
        assert_eq!(
            pod,
            json!({
                "metadata": {"labels": {"team": "fin", "kept": "1"}, "annotations": {"a": "b"}},
                "spec": {"serviceAccountName": "fin", "nodeSelector": {"arch": "arm64", "pool": "fin"}}
            })
        );
        let before = pod.clone();
        Identity::default().apply(pod.as_object_mut().unwrap());
        assert_eq!(pod, before);
    }

    #[test]
    fn the_gate_stands_first_and_once() {
        let mut pod = json!({"spec": {"schedulingGates": [{"name": "other"}, {"name": GATE}]}});
        close_gate(pod.as_object_mut().unwrap());
        assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": GATE}, {"name": "other"}]));
        let mut pod = json!({});
        close_gate(pod.as_object_mut().unwrap());
        close_gate(pod.as_object_mut().unwrap());
        assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": GATE}]));
    }

    #[test]
    fn freedoms_have_words() {
        for freedom in Freedom::ALL {
            assert_eq!(Freedom::from_word(freedom.as_str()), Some(freedom));
        }
        assert_eq!(Freedom::from_word("root"), None);
    }
}
