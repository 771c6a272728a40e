//! What one look at a cluster of EKS gave.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::list;
use crate::identity::Identity;
use crate::identity::sgp::{Asks, BranchInterface, POD_ENI, PodFacts, pod_asks_for_branch};

/// What a read gave; None: it was refused or failed, which is a [`Blind`] of its own, and nothing is concluded from it.
pub type Read<T> = Option<T>;

/// A namespaced object's name.
pub type Named = (String, String);

/// A read that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// What was to be read: `nodes`, `service account data/etl`.
    pub what: String,
    /// The call's error in one line.
    pub why: String,
    /// The verb and resource that RBAC does not allow; None: it failed otherwise.
    pub grant: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EksFacts {
    /// Asked for by hand: roles and groups count as demanded even if no rule demands them.
    pub forced: bool,
    /// `[core] parallelism`; 0: no limit.
    pub parallelism: u64,
    /// `[scheduler] standalone_dag_processor`.
    pub standalone_dag_processor: bool,
    /// [`crate::identity::policy::digest`] of the rules here; None: a rule has no pod.
    pub rules_digest: Option<String>,
    /// From the API server.
    pub cluster: ClusterSeen,
    /// Each rule with its pod; without rules the pod template's alone.
    pub rules: Vec<RuleFacts>,
}

impl EksFacts {
    /// Whether pods are to have roles.
    pub(super) fn wants_roles(&self) -> bool {
        self.forced || self.rules.iter().any(|rule| rule.gives.role_arn.is_some())
    }

    /// Whether pods are to have security groups of their own.
    pub(super) fn wants_groups(&self) -> bool {
        self.forced || self.rules.iter().any(RuleFacts::wants_groups)
    }
}

/// A rule, the pod of a plain task under it, and what the API server says of that pod.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFacts {
    /// For people: `rule etl (line 2)`.
    pub object: String,
    /// What the rule gives.
    pub gives: Identity,
    /// Namespace of its pod.
    pub namespace: String,
    /// The pod as it would be sent; or why there is none.
    pub pod: Result<Value, String>,
    /// The create, tried.
    pub dry_run: DryRun,
}

impl RuleFacts {
    pub(super) fn wants_groups(&self) -> bool {
        !self.gives.security_groups.is_empty()
    }

    /// What the controller of security groups looks at; None: there is no pod, or one that the API server would not take.
    pub(super) fn pod_facts(&self) -> Option<PodFacts> {
        PodFacts::before_create(self.pod.as_ref().ok()?, &self.namespace).ok()
    }

    /// Namespace and name of its service account.
    pub fn account(&self) -> Named {
        let name = self.pod_facts().map(|pod| pod.service_account);
        let name = name.or_else(|| self.gives.service_account.clone()).unwrap_or_else(|| "default".into());
        (self.namespace.clone(), name)
    }
}

/// What a create with `dryRun=All` was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DryRun {
    /// There was nothing to try.
    #[default]
    NotTried,
    /// The pod as admission left it.
    Admitted(Box<Value>),
    /// Not this pod; the API server's words.
    Refused(String),
    /// Says nothing of the pod: quota, rights, no answer.
    Unknown(String),
}

/// What a service account may do, by the API server's own review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may create pods.
    CreatesPods,
    /// It may not.
    No,
}

/// Objects. Those of AWS's are as they came; of what there are thousands, only what decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSeen {
    /// Whether the API group of SecurityGroupPolicies is served.
    pub serves_policies: Read<bool>,
    /// SecurityGroupPolicies of all namespaces.
    pub policies: Read<Vec<Value>>,
    /// CNINodes; empty where the controller is too old to have any.
    pub cni_nodes: Read<BTreeMap<String, BTreeSet<String>>>,
    /// MutatingWebhookConfigurations.
    pub mutating: Read<Vec<Value>>,
    /// ValidatingWebhookConfigurations.
    pub validating: Read<Vec<Value>>,
    /// DaemonSets of kube-system.
    pub daemon_sets: Read<Vec<Value>>,
    /// ConfigMaps that were asked for; null: there is none of that name. Not in here: it could not be read.
    pub config_maps: BTreeMap<Named, Value>,
    /// Nodes.
    pub nodes: Read<Vec<NodeSeen>>,
    /// Pods that have not ended.
    pub pods: Read<Vec<PodSeen>>,
    /// Warnings of AWS's controller about nodes and pods, as far as the API server still has them (an hour by default).
    pub events: Read<Vec<EventSeen>>,
    /// Service accounts that were asked for; null: there is none. Not in here: it could not be read.
    pub accounts: BTreeMap<Named, Value>,
    /// What those accounts may do in their namespace.
    pub access: BTreeMap<Named, Access>,
    /// ValidatingAdmissionPolicies.
    pub admission_policies: Read<Vec<Value>>,
    /// ValidatingAdmissionPolicyBindings.
    pub admission_bindings: Read<Vec<Value>>,
    /// The issuer of service account tokens, with `https://`.
    pub issuer: Read<String>,
    /// What could not be read.
    pub blind: Vec<Blind>,
}

/// A node, as far as it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.unschedulable`, or not Ready.
    pub closed: bool,
    /// Taints that keep pods away: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Allocatable `vpc.amazonaws.com/pod-eni`.
    pub branches: u64,
    /// Allocatable `pods`.
    pub pods: u64,
}

impl NodeSeen {
    /// From the object.
    pub fn read(node: &Value) -> Self {
        let number =
            |name: &str| node["status"]["allocatable"][name].as_str().and_then(|text| text.parse().ok());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ready = list(&node["status"]["conditions"])
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .is_none_or(|condition| condition["status"] == "True");
        let taints =
            list(&node["spec"]["taints"]).iter().filter(|taint| taint["effect"] != "PreferNoSchedule");
        Self {
            name: text(&node["metadata"]["name"]),
            labels: labels(&node["metadata"]["labels"]),
            closed: node["spec"]["unschedulable"] == true || !ready,
            taints: taints.map(|t| (text(&t["key"]), text(&t["value"]), text(&t["effect"]))).collect(),
            branches: number(POD_ENI).unwrap_or(0),
            pods: number("pods").unwrap_or(0),
        }
    }

    /// `node.kubernetes.io/instance-type`.
    pub(super) fn instance_type(&self) -> &str {
        self.labels.get("node.kubernetes.io/instance-type").map_or("", String::as_str)
    }
}

/// A pod that has not ended, as far as it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSeen {
    /// Namespace and name.
    pub at: Named,
    /// `spec.nodeName`; empty: not bound.
    pub node: String,
    /// It asks for a branch interface.
    pub asks: bool,
    /// The container that asks, where it is not the first: the CNI does not see that.
    pub asks_behind: Option<String>,
    /// A container has a probe by TCP, HTTP or gRPC, which the kubelet sends from the node.
    pub probed: bool,
    /// `status.podIP`, and the branch interface's address, where they differ.
    pub off_its_branch: Option<(String, String)>,
    /// Some: the sidecar `windlass` is in it.
    pub daemon: Option<DaemonPod>,
}

/// A pod with the daemon in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonPod {
    /// Other containers in which a token for the API server is mounted.
    pub tokens_elsewhere: BTreeSet<String>,
    /// Other containers that take their database connection from where the daemon takes it.
    pub same_database: BTreeSet<String>,
}

/// The sidecar's name in deploy/helm/values.yaml.
const DAEMON: &str = "windlass";
/// Airflow's connection string.
const CONNECTION: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";

impl PodSeen {
    /// From the object.
    pub fn read(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asks = pod_asks_for_branch(pod);
        let containers = list(&pod["spec"]["containers"]);
        Self {
            at: (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"])),
            node: text(&pod["spec"]["nodeName"]),
            asks: asks != Asks::No,
            asks_behind: match asks {
                Asks::OtherContainer(name) => Some(name),
                Asks::ContainerZero | Asks::No => None,
            },
            probed: probed(pod),
            off_its_branch: off_its_branch(pod),
            daemon: containers.iter().find(|c| c["name"] == DAEMON).map(|daemon| daemon_pod(pod, daemon)),
        }
    }

    /// `namespace/name`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.at.0, self.at.1)
    }
}

/// Whether the kubelet probes a container of the pod over the network.
pub(super) fn probed(pod: &Value) -> bool {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let of_network = ["httpGet", "tcpSocket", "grpc"];
    let by_network =
        |c: &Value| probes.iter().any(|probe| of_network.iter().any(|way| c[probe][way].is_object()));
    list(&pod["spec"]["containers"]).iter().chain(list(&pod["spec"]["initContainers"])).any(by_network)
}

fn off_its_branch(pod: &Value) -> Option<(String, String)> {
    let annotation = pod["metadata"]["annotations"][POD_ENI].as_str()?;
    let is = pod["status"]["podIP"].as_str().filter(|address| !address.is_empty())?;
    let branch = BranchInterface::read(annotation).ok()?;
    let of_branch = [branch.private_ip, branch.ipv6];
    let of_branch: Vec<String> = of_branch.into_iter().flatten().collect();
    let first = of_branch.first()?;
    (!of_branch.iter().any(|address| address == is)).then(|| (is.to_owned(), first.clone()))
}

fn daemon_pod(pod: &Value, daemon: &Value) -> DaemonPod {
    let mut seen = DaemonPod::default();
    let volume_of = |mount: &Value| list(&pod["spec"]["volumes"]).iter().find(|v| v["name"] == mount["name"]);
    // A token without an audience, or the older way by a Secret of that type, is for the API server.
    let for_api = |volume: &Value| {
        let tokens =
            list(&volume["projected"]["sources"]).iter().map(|source| &source["serviceAccountToken"]);
        tokens
            .filter(|token| token.is_object())
            .any(|token| token["audience"].as_str().unwrap_or("").is_empty())
    };
    let connection = |container: &Value| {
        let found = list(&container["env"]).iter().rfind(|variable| variable["name"] == CONNECTION);
        found.map(|variable| {
            if variable["value"].is_null() {
                variable["valueFrom"].clone()
            } else {
                variable["value"].clone()
            }
        })
    };
    let own = connection(daemon);
    let others = list(&pod["spec"]["containers"]).iter().chain(list(&pod["spec"]["initContainers"]));
    for container in others.filter(|container| container["name"] != DAEMON) {
        let name = container["name"].as_str().unwrap_or_default();
        if list(&container["volumeMounts"]).iter().filter_map(volume_of).any(for_api) {
            seen.tokens_elsewhere.insert(name.to_owned());
        }
        if own.is_some() && connection(container) == own {
            seen.same_database.insert(name.to_owned());
        }
    }
    seen
}

/// An event, as far as it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSeen {
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
    /// Kind of what it is about: `Node`, `Pod`.
    pub kind: String,
    /// `namespace/name` of that, or the name alone.
    pub about: String,
}

impl EventSeen {
    /// From the object.
    pub fn read(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = &event["involvedObject"];
        let name = text(&about["name"]);
        let namespace = text(&about["namespace"]);
        Self {
            reason: text(&event["reason"]),
            message: text(&event["message"]),
            kind: text(&about["kind"]),
            about: if namespace.is_empty() { name } else { format!("{namespace}/{name}") },
        }
    }
}

pub(super) fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
