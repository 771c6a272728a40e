//! Room for pods with branch interfaces, and how fast it comes free again.

use super::facts::{EksFacts, NodeSeen};
use super::nodes::fitting;
use super::{Code, Finding};
use crate::doctor::words::{count, span};

/// ConfigMap of kube-system that the controller reads the cool down from.
pub(super) const CNI_CONFIG: &str = "amazon-vpc-cni";
/// Seconds, by the controller: without the key, at least, and between two passes over its queue of deletions.
const COOLDOWN_S: u64 = 60;
const COOLDOWN_MIN_S: u64 = 30;
const DELETE_PASS_S: u64 = 30;
/// Run times that the estimate is told for, in seconds.
const RUN_TIMES_S: [u64; 3] = [10, 60, 600];

pub(super) fn capacity(facts: &EksFacts, found: &mut Vec<Finding>) {
    if !facts.wants_groups() {
        return;
    }
    let cooldown = cooldown(facts, found);
    let nodes: Vec<&NodeSeen> =
        fitting(facts).into_iter().filter(|node| !node.closed && node.branches > 0).collect();
    // Each such pod counts for max-pods too.
    let room: u64 = nodes
        .iter()
        .map(|node| if node.pods == 0 { node.branches } else { node.branches.min(node.pods) })
        .sum();
    if room == 0 {
        return;
    }
    let here = count(nodes.len(), "node", "nodes");
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let taken = facts
        .cluster
        .pods
        .as_ref()
        .map(|pods| pods.iter().filter(|pod| pod.asks && names.contains(&pod.node.as_str())).count());
    let taken = taken.map_or_else(String::new, |taken| format!(", {taken} of them taken"));
    let below = nodes.iter().filter(|node| node.pods > 0 && node.pods < node.branches).count();
    let below =
        if below == 0 { String::new() } else { format!(" (on {below} of them max-pods is the limit)") };
    let at_once = match facts.parallelism {
        0 => Some("[core] parallelism is without a limit".to_owned()),
        limit if limit > room => Some(format!("[core] parallelism is {limit}")),
        _ => None,
    };
    if let Some(limit) = at_once {
        let what = format!(
            "{here} for these pods {} branch interfaces{below}{taken}, and {limit}",
            if nodes.len() == 1 { format!("has {room}") } else { format!("have {room}") }
        );
        found.push(Finding::new(Code::BranchCapacity, "branch interfaces", what));
    }
    let longest = cooldown + DELETE_PASS_S;
    let rate = |run: u64| {
        let (slow, fast) = (room * 60 / (run + longest), room * 60 / (run + cooldown));
        let rate = if slow == fast { format!("{slow}") } else { format!("{slow} to {fast}") };
        format!("{rate} a minute of {}", span(i64::try_from(run * 1_000).unwrap_or(i64::MAX)))
    };
    let rates: Vec<String> = RUN_TIMES_S.into_iter().map(rate).collect();
    let what = format!(
        "{here} with {room} branch interfaces; each is held for its pod's run time and {cooldown} to {longest} s more. So at \
         most: {}",
        rates.join(", ")
    );
    found.push(Finding::new(Code::BranchChurn, "branch interfaces", what));
}

/// In seconds.
fn cooldown(facts: &EksFacts, found: &mut Vec<Finding>) -> u64 {
    let key = ("kube-system".to_owned(), CNI_CONFIG.to_owned());
    let Some(map) = facts.cluster.config_maps.get(&key) else { return COOLDOWN_S };
    let (effective, what) = match map["data"]["branch-eni-cooldown"].as_str() {
        None => (COOLDOWN_S, format!("branch-eni-cooldown is not set: {COOLDOWN_S} s")),
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) if seconds < COOLDOWN_MIN_S => (
                COOLDOWN_MIN_S,
                format!(
                    "branch-eni-cooldown is {seconds} s; the controller takes {COOLDOWN_MIN_S} s at least"
                ),
            ),
            Ok(seconds) => (seconds, format!("branch-eni-cooldown is {seconds} s")),
            Err(_) => (
                COOLDOWN_S,
                format!("branch-eni-cooldown is `{text}`, which is no number of seconds: {COOLDOWN_S} s"),
            ),
        },
    };
    found.push(Finding::new(Code::BranchCooldown, "ConfigMap kube-system/amazon-vpc-cni", what));
    effective
}
