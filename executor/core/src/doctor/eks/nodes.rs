//! Nodes for pods with security groups.

use crate::identity::sgp::branch_interfaces;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::{EksFacts, NodeSeen, RuleFacts, labels};
use super::{Code, Finding, list, some_of};
use crate::doctor::words::count;
use crate::identity::LabelSelector;

/// Events of AWS's controller about nodes that mean no branch interfaces.
pub(super) const NODE_EVENTS: [&str; 3] = ["NodeTrunkFailedInit", "TrunkENICreationFailed", "Unsupported"];

/// Whether the scheduler could put the pod on the node, but for room.
pub(super) fn fits(node: &NodeSeen, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let selected =
        labels(&spec["nodeSelector"]).iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let tolerated =
        node.taints.iter().all(|taint| list(&spec["tolerations"]).iter().any(|t| tolerates(t, taint)));
    selected && tolerated && has_affinity(node, spec)
}

fn tolerates(toleration: &Value, (key, value, effect): &(String, String, String)) -> bool {
    let text = |name: &str| toleration[name].as_str().unwrap_or_default();
    let exists = text("operator") == "Exists";
    let of_key = text("key") == key || (exists && text("key").is_empty());
    of_key && (exists || text("value") == value) && (text("effect").is_empty() || text("effect") == effect)
}

/// Required node affinity by labels: one of its terms has to hold. `Gt` and `Lt` are taken to hold.
fn has_affinity(node: &NodeSeen, spec: &Value) -> bool {
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = list(&required["nodeSelectorTerms"]);
    terms.is_empty()
        || terms.iter().any(|term| {
            let by_label = |e: &&Value| !matches!(e["operator"].as_str(), Some("Gt" | "Lt"));
            let expressions: Vec<&Value> = list(&term["matchExpressions"]).iter().filter(by_label).collect();
            let selector = LabelSelector::read(&serde_json::json!({ "matchExpressions": expressions }));
            selector.is_ok_and(|selector| selector.is_none_or(|selector| selector.matches(&node.labels)))
        })
}

/// The nodes that fit the pod of a rule with groups.
pub(super) fn fitting(facts: &EksFacts) -> Vec<&NodeSeen> {
    let rules: Vec<&RuleFacts> = facts.rules.iter().filter(|rule| counts(facts, rule)).collect();
    let fits_any =
        |node: &&NodeSeen| rules.iter().any(|rule| rule.pod.as_ref().is_ok_and(|pod| fits(node, pod)));
    facts.cluster.nodes.iter().flatten().filter(fits_any).collect()
}

/// Whether the rule's pods take branch interfaces.
fn counts(facts: &EksFacts, rule: &RuleFacts) -> bool {
    rule.wants_groups() || facts.forced
}

/// One line for the report.
pub fn room_line(facts: &EksFacts) -> String {
    let Some(nodes) = &facts.cluster.nodes else { return "nodes not seen".into() };
    let branches: u64 = nodes.iter().map(|node| node.branches).sum();
    let with = nodes.iter().filter(|node| node.branches > 0).count();
    format!("{branches} branch interfaces on {with} of {}", count(nodes.len(), "node", "nodes"))
}

pub(super) fn nodes(facts: &EksFacts, found: &mut Vec<Finding>) {
    let Some(nodes) = facts.cluster.nodes.as_deref().filter(|_| facts.wants_groups()) else { return };
    for rule in facts.rules.iter().filter(|rule| counts(facts, rule)) {
        if let Ok(pod) = &rule.pod {
            of_rule(nodes, &rule.object, pod, found);
        }
    }
    without_branches(facts, found);
    events(facts, found);
}

fn of_rule(nodes: &[NodeSeen], object: &str, pod: &Value, found: &mut Vec<Finding>) {
    let fit: Vec<&NodeSeen> = nodes.iter().filter(|node| fits(node, pod)).collect();
    if fit.iter().any(|node| !node.closed && node.branches > 0) {
        return;
    }
    let there = count(nodes.len(), "node is", "nodes are");
    if fit.iter().all(|node| node.closed) {
        let closed = if fit.is_empty() {
            String::new()
        } else {
            format!(", {} that fit are cordoned or not ready", fit.len())
        };
        let what = format!(
            "{there} there, and none takes its pod by node selector, node affinity and tolerations{closed}"
        );
        found.push(Finding::new(Code::NoNodeNow, object, what));
        return;
    }
    let mut why: BTreeMap<String, usize> = BTreeMap::new();
    for node in &fit {
        let word = if node.closed { "cordoned or not ready".to_owned() } else { why_not(node) };
        *why.entry(word).or_default() += 1;
    }
    let why: Vec<String> = why.into_iter().map(|(why, number)| format!("{number} {why}")).collect();
    let what = format!(
        "{there} there, {} its pod, and none that takes pods has allocatable vpc.amazonaws.com/pod-eni: {}",
        count(fit.len(), "fits", "fit"),
        why.join(", ")
    );
    found.push(Finding::new(Code::NoBranchNode, object, what));
}

/// What a node without branch interfaces is, as in `3 of type t3.large, which has no trunk interface`.
fn why_not(node: &NodeSeen) -> String {
    match unsupported(node) {
        Some(why) => why,
        None => match branch_interfaces(node.instance_type()) {
            Some(0) => format!("of type {}, which has no trunk interface", node.instance_type()),
            Some(_) => format!("of type {}, which could have one", node.instance_type()),
            None => format!("of type `{}`, which is not known", node.instance_type()),
        },
    }
}

/// Kinds of nodes that have no security groups for pods, whatever their type.
fn unsupported(node: &NodeSeen) -> Option<String> {
    let label = |key: &str| node.labels.get(key).map_or("", String::as_str);
    if label("kubernetes.io/os") == "windows" {
        Some("with Windows".into())
    } else if label("eks.amazonaws.com/compute-type") == "fargate" {
        Some("of Fargate, which takes groups of its own profile's pods alone".into())
    } else if label("eks.amazonaws.com/compute-type") == "auto" {
        Some("of EKS Auto Mode, which has no security groups for pods".into())
    } else {
        None
    }
}

/// One finding for all nodes of a type that come to the same.
fn without_branches(facts: &EksFacts, found: &mut Vec<Finding>) {
    let mut same: BTreeMap<(Code, String, String), BTreeSet<&str>> = BTreeMap::new();
    for node in fitting(facts) {
        let kind = node.instance_type();
        let object = if kind.is_empty() {
            "nodes without an instance type".to_owned()
        } else {
            format!("nodes of type {kind}")
        };
        let feature = facts.cluster.cni_nodes.as_ref().filter(|nodes| !nodes.is_empty()).map(|nodes| {
            nodes.get(&node.name).is_some_and(|features| features.contains("SecurityGroupsForPods"))
        });
        let (code, what) = match (node.branches, unsupported(node), branch_interfaces(kind)) {
            (0, Some(why), _) => (Code::NodeUnsupported, format!("they are {why}")),
            (0, None, Some(0)) => (Code::NodeUnsupported, format!("{kind} has no trunk interface")),
            (0, None, None) => {
                (Code::InstanceTypeUnknown, "no allocatable vpc.amazonaws.com/pod-eni".to_owned())
            }
            (0, None, Some(could)) => {
                let feature = match feature {
                    Some(false) => {
                        "; their CNINode lacks the feature SecurityGroupsForPods, so aws-node did not ask for it"
                    }
                    Some(true) => {
                        "; their CNINode has the feature SecurityGroupsForPods, so the controller could not do it"
                    }
                    None => "",
                };
                (
                    Code::NodeWithoutTrunk,
                    format!("none of the {could} branch interfaces is allocatable{feature}"),
                )
            }
            _ => continue,
        };
        same.entry((code, object, what)).or_default().insert(&node.name);
    }
    for ((code, object, what), names) in same {
        found.push(Finding::new(code, object, format!("{what}: {}", some_of(names))));
    }
}

fn events(facts: &EksFacts, found: &mut Vec<Finding>) {
    let mut said: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let of_nodes =
        facts.cluster.events.iter().flatten().filter(|event| NODE_EVENTS.contains(&event.reason.as_str()));
    for event in of_nodes.filter(|event| event.kind == "Node") {
        said.entry((&event.reason, &event.message)).or_default().insert(&event.about);
    }
    for ((reason, message), nodes) in said {
        let what = format!("{reason}: {message} ({})", some_of(nodes));
        found.push(Finding::new(Code::NodeTrunkEvents, "nodes", what));
    }
}
