//! Pods with security groups that run now, and what the controller has said of them.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::EksFacts;
use super::{Code, Finding, some_of};

/// Events of AWS's controller about pods; `SecurityGroupRequested` is asked for as a warning alone: the pod gets the
/// instance's groups then.
const POD_EVENTS: [&str; 3] =
    ["SecurityGroupRequested", "BranchAllocationFailed", "BranchENIAnnotationFailed"];

pub(super) fn pods(facts: &EksFacts, found: &mut Vec<Finding>) {
    for pod in facts.cluster.pods.iter().flatten() {
        let what = match (&pod.off_its_branch, &pod.asks_behind) {
            (Some((is, branch)), _) => format!("its address is {is}, and its branch interface has {branch}"),
            (None, Some(container)) if !pod.node.is_empty() => {
                format!("container `{container}` asks for the interface, and another one is the first")
            }
            (None, _) => continue,
        };
        found.push(Finding::new(Code::PodOnNodeGroups, format!("pod {}", pod.place()), what));
    }
    let mut said: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for event in facts.cluster.events.iter().flatten() {
        if event.kind == "Pod" && POD_EVENTS.contains(&event.reason.as_str()) {
            said.entry((&event.reason, &event.message)).or_default().insert(&event.about);
        }
    }
    for ((reason, message), pods) in said {
        let what = format!("{reason}: {message} ({})", some_of(pods));
        found.push(Finding::new(Code::PodEniEvents, "pods", what));
    }
}
