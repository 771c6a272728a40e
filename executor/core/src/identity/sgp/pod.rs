//! What of a pod decides about its groups.

use serde_json::Value;

use crate::identity::Labels;
use crate::identity::field::Field;
use crate::pod::FieldError;

/// Label of pods that run on Fargate. The value is the profile's name.
const FARGATE_PROFILE: &str = "eks.amazonaws.com/fargate-profile";

/// Labels of nodes with their operating system; the second is the older one.
const NODE_OS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// The service account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// What the controller looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Policies and service accounts of this namespace count, and no others.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.serviceAccountName`. Empty only for a pod that the API server has not seen: it fills in `default`.
    pub service_account: String,
    /// How the pod gets its groups.
    pub kind: PodKind,
}

/// How a pod gets its groups, in the webhook's order: the first that is true counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// `spec.hostNetwork`: not at all.
    HostNetwork,
    /// With a Fargate profile's label: by an annotation.
    Fargate,
    /// With a node selector for Windows: not at all.
    Windows,
    /// All others, whatever `spec.os` and the node affinity say: by an interface.
    Linux,
}

impl PodFacts {
    /// What stands in the pod's JSON. A pod without `metadata.namespace` is in `namespace`, that of the request.
    ///
    /// # Errors
    /// A field of another type.
    pub fn read(pod: &Value, namespace: &str) -> Result<Self, FieldError> {
        Self::read_at(&Field::root("", pod), namespace)
    }

    /// What will stand in a pod that is yet to be sent. Before the webhook sees it, the API server has put the old
    /// field `spec.serviceAccount` into `serviceAccountName`, and `default` if both are empty.
    ///
    /// # Errors
    /// A field of another type.
    pub fn before_create(pod: &Value, namespace: &str) -> Result<Self, FieldError> {
        let mut facts = Self::read(pod, namespace)?;
        if facts.service_account.is_empty() {
            facts.service_account = Field::root("", pod).get("spec")?.get("serviceAccount")?.text()?;
        }
        if facts.service_account.is_empty() {
            facts.service_account = DEFAULT_ACCOUNT.into();
        }
        Ok(facts)
    }

    /// [`Self::read`] with the place of the pod for errors.
    pub(crate) fn read_at(pod: &Field<'_>, namespace: &str) -> Result<Self, FieldError> {
        let metadata = pod.get("metadata")?;
        let own_namespace = metadata.get("namespace")?.text()?;
        let labels = metadata.get("labels")?.map()?;
        let spec = pod.get("spec")?;
        let nodes = spec.get("nodeSelector")?.map()?;
        let windows = |label| nodes.get(label).is_some_and(|os: &String| os == "windows");
        let kind = if spec.get("hostNetwork")?.flag()? {
            PodKind::HostNetwork
        } else if labels.contains_key(FARGATE_PROFILE) {
            PodKind::Fargate
        } else if NODE_OS.into_iter().any(windows) {
            PodKind::Windows
        } else {
            PodKind::Linux
        };
        Ok(Self {
            namespace: if own_namespace.is_empty() { namespace.to_owned() } else { own_namespace },
            labels,
            service_account: spec.get("serviceAccountName")?.text()?,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_in_the_webhooks_order() {
        let kind = |labels: Value, spec: Value| {
            PodFacts::read(&json!({"metadata": {"labels": labels}, "spec": spec}), "n").unwrap().kind
        };
        let fargate = json!({"eks.amazonaws.com/fargate-profile": ""});
        for os in NODE_OS {
            let windows = json!({"nodeSelector": {os: "windows"}});
            assert_eq!(kind(json!(null), windows.clone()), PodKind::Windows);
            assert_eq!(kind(fargate.clone(), windows), PodKind::Fargate);
            assert_eq!(kind(json!({}), json!({"nodeSelector": {os: "Windows"}})), PodKind::Linux);
        }
        // One of the two labels is enough, whatever the other says.
        let both = json!({"nodeSelector": {NODE_OS[0]: "linux", NODE_OS[1]: "windows"}});
        assert_eq!(kind(json!({}), both), PodKind::Windows);
        assert_eq!(kind(fargate, json!({"hostNetwork": true})), PodKind::HostNetwork);
        assert_eq!(kind(json!({}), json!({"hostNetwork": false})), PodKind::Linux);
        assert_eq!(kind(json!({}), json!({"os": {"name": "windows"}})), PodKind::Linux);
    }

    #[test]
    fn service_account_before_and_after_the_api_server() {
        let seen = |spec: Value| PodFacts::read(&json!({"spec": spec}), "n").unwrap().service_account;
        let sent =
            |spec: Value| PodFacts::before_create(&json!({"spec": spec}), "n").unwrap().service_account;
        assert_eq!((seen(json!({})), sent(json!({}))), (String::new(), "default".into()));
        let old = json!({"serviceAccount": "old"});
        assert_eq!((seen(old.clone()), sent(old)), (String::new(), "old".into()));
        let both = json!({"serviceAccount": "old", "serviceAccountName": "new"});
        assert_eq!((seen(both.clone()), sent(both)), ("new".into(), "new".into()));
    }

    #[test]
    fn own_namespace_before_the_requests() {
        let namespace =
            |metadata: Value| PodFacts::read(&json!({"metadata": metadata}), "n").unwrap().namespace;
        assert_eq!(namespace(json!({"namespace": "own"})), "own");
        assert_eq!(namespace(json!({"namespace": ""})), "n");
        assert_eq!(namespace(json!(null)), "n");
    }
}
