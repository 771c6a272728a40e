//! What is watched: which fields of an object are decoded, and what is told of it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use windlass_core::cluster::PodNote;
use windlass_core::identity::Labels;
use windlass_core::identity::sgp::{POD_ENI, SecurityGroupPolicy};
use windlass_core::identity::surroundings::NodeView;
use windlass_core::ids::{PodRef, PodUid};
use windlass_core::pod_view::PodView;

use crate::lean::{LeanPod, or_default};
use crate::meta::{Meta, Names};
use crate::observe::Observer;
use crate::page::{PODS, Resource};

/// One kind of object.
pub(super) trait Kind: 'static {
    /// Where it is.
    const RESOURCE: Resource;
    /// As it comes, without what decides nothing.
    type Object: DeserializeOwned + Send;
    /// What is told.
    type View: Send;

    fn meta(object: &Self::Object) -> Names<'_>;

    /// Why there is none of this object, else.
    fn view(object: Self::Object) -> Result<Self::View, String>;

    /// Of what is told.
    fn name(view: &Self::View) -> PodRef;

    /// It has no view.
    fn skipped(_: &dyn Observer, _: &PodRef) {}
}

/// Of any object.
type ObjectMeta = Meta<Labels, Annotations>;

/// Those that count: [`windlass_core::identity::irsa::ANNOTATION_ROLE`] and
/// [`windlass_core::identity::irsa::ANNOTATION_AUDIENCE`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "eks.amazonaws.com/role-arn")]
    role: Option<String>,
    #[serde(rename = "eks.amazonaws.com/audience")]
    audience: Option<String>,
}

/// Pods of this installation.
pub(super) struct Pods;

impl Kind for Pods {
    const RESOURCE: Resource = PODS;
    type Object = LeanPod;
    type View = PodView;

    fn meta(pod: &LeanPod) -> Names<'_> {
        pod.metadata.names()
    }

    fn view(pod: LeanPod) -> Result<PodView, String> {
        pod.view().map_err(|error| error.to_string())
    }

    fn name(view: &PodView) -> PodRef {
        view.pod.clone()
    }

    fn skipped(observer: &dyn Observer, pod: &PodRef) {
        observer.skipped_pod(pod);
    }
}

/// Service accounts: their labels, by which SecurityGroupPolicies select, and their role.
pub(super) struct Accounts;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Annotation `eks.amazonaws.com/role-arn`.
    pub role: Option<String>,
    /// Annotation `eks.amazonaws.com/audience`.
    pub audience: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    metadata: ObjectMeta,
}

impl Kind for Accounts {
    const RESOURCE: Resource = Resource { api: "/api/v1", plural: "serviceaccounts" };
    type Object = Named;
    type View = AccountView;

    fn meta(object: &Named) -> Names<'_> {
        object.metadata.names()
    }

    fn view(Named { metadata }: Named) -> Result<AccountView, String> {
        let ObjectMeta { name, namespace, labels, annotations, .. } = metadata;
        Ok(AccountView { namespace, name, labels, role: annotations.role, audience: annotations.audience })
    }

    fn name(view: &AccountView) -> PodRef {
        PodRef { namespace: view.namespace.clone(), name: view.name.clone() }
    }
}

/// SecurityGroupPolicies.
pub(super) struct GroupPolicies;

/// Small, and read by the rules that `windlass identity groups` reads them by.
#[derive(Debug, Deserialize)]
pub(super) struct Whole {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Kind for GroupPolicies {
    const RESOURCE: Resource =
        Resource { api: "/apis/vpcresources.k8s.aws/v1beta1", plural: "securitygrouppolicies" };
    type Object = Whole;
    type View = SecurityGroupPolicy;

    fn meta(object: &Whole) -> Names<'_> {
        object.metadata.names()
    }

    fn view(Whole { metadata, mut rest }: Whole) -> Result<SecurityGroupPolicy, String> {
        let names = serde_json::json!({ "name": metadata.name, "namespace": metadata.namespace });
        rest.insert("metadata".into(), names);
        SecurityGroupPolicy::read(&Value::Object(rest)).map_err(|error| error.to_string())
    }

    fn name(view: &SecurityGroupPolicy) -> PodRef {
        PodRef { namespace: view.namespace.clone(), name: view.name.clone() }
    }
}

/// Nodes and their branch interfaces.
pub(super) struct Nodes;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanNode {
    metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    spec: NodeSpec,
    #[serde(deserialize_with = "or_default")]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    allocatable: Allocatable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Allocatable {
    #[serde(rename = "vpc.amazonaws.com/pod-eni")]
    branch_interfaces: Option<String>,
}

impl Kind for Nodes {
    const RESOURCE: Resource = Resource { api: "/api/v1", plural: "nodes" };
    type Object = LeanNode;
    type View = NodeView;

    fn meta(object: &LeanNode) -> Names<'_> {
        object.metadata.names()
    }

    fn view(LeanNode { metadata, spec, status }: LeanNode) -> Result<NodeView, String> {
        let branch_interfaces = match &status.allocatable.branch_interfaces {
            Some(text) => text.parse().map_err(|_| format!("allocatable {POD_ENI} is `{text}`"))?,
            None => 0,
        };
        let ObjectMeta { name, labels, .. } = metadata;
        Ok(NodeView { name, labels, unschedulable: spec.unschedulable, branch_interfaces })
    }

    fn name(view: &NodeView) -> PodRef {
        PodRef { namespace: String::new(), name: view.name.clone() }
    }
}

/// What the VPC resource controller warns of.
pub(super) struct Warnings;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct LeanEvent {
    metadata: ObjectMeta,
    #[serde(deserialize_with = "or_default")]
    involved_object: ObjectMeta,
    reason: String,
    message: String,
}

impl Kind for Warnings {
    const RESOURCE: Resource = Resource { api: "/api/v1", plural: "events" };
    type Object = LeanEvent;
    type View = PodNote;

    fn meta(object: &LeanEvent) -> Names<'_> {
        object.metadata.names()
    }

    fn view(LeanEvent { involved_object: of, reason, message, .. }: LeanEvent) -> Result<PodNote, String> {
        let pod = PodRef { namespace: of.namespace, name: of.name };
        Ok(PodNote { pod, uid: PodUid(of.uid), reason, message })
    }

    fn name(view: &PodNote) -> PodRef {
        view.pod.clone()
    }
}
