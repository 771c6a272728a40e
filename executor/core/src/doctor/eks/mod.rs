//! What identities stand on in an Amazon EKS cluster, as far as the Kubernetes API shows it: the pieces of AWS (`cluster`,
//! `cni`), room for pods with branch interfaces (`nodes`, `capacity`), what each rule needs and what admission makes of its
//! pod (`policies`, `accounts`, `template`, `dry_run`), pods that run (`running`), and the boundary behind the guard
//! (`boundary`).
//!
//! What follows from a setting of AWS's components is from their sources and manuals: amazon-vpc-cni-k8s up to v1.19,
//! amazon-vpc-resource-controller-k8s v1.8.2, amazon-eks-pod-identity-webhook at 3bf80a34, and the EKS user guide and best
//! practices on security groups for pods.

mod accounts;
mod boundary;
mod capacity;
mod cluster;
mod cni;
mod dry_run;
mod facts;
mod nodes;
mod policies;
mod running;
mod template;
#[cfg(test)]
mod tests;

pub use cni::{aws_node_config_maps, cni_line};
pub use facts::{
    Access, Blind, ClusterSeen, DaemonPod, DryRun, EksFacts, EventSeen, Named, NodeSeen, PodSeen, Read,
    RuleFacts,
};
pub use nodes::room_line;

use serde_json::Value;

use super::code::Code;
use super::finding::Finding;

/// Everything that one look finds, in the order of the codes.
pub fn examine_eks(facts: &EksFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    cluster::blind(facts, &mut found);
    cluster::pieces(facts, &mut found);
    cni::aws_node(facts, &mut found);
    nodes::nodes(facts, &mut found);
    capacity::capacity(facts, &mut found);
    for rule in &facts.rules {
        template::template(rule, &mut found);
        policies::of_rule(facts, rule, &mut found);
        accounts::of_rule(facts, rule, &mut found);
        dry_run::of_rule(rule, &mut found);
    }
    policies::broken(facts, &mut found);
    accounts::trust(facts, &mut found);
    running::pods(facts, &mut found);
    boundary::boundary(facts, &mut found);
    cluster::not_seen(facts, &mut found);
    found.sort_by(|a, b| (a.code, &a.object).cmp(&(b.code, &b.object)));
    found
}

/// `a`, `a, b`, and of many the first ones and how many more there are.
fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        Some(_) | None => shown,
    }
}

/// Go's `strconv.ParseBool`, by which AWS's programs read their variables; None: it is none of its words.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Those that run, and those before them.
fn containers(pod_spec: &Value) -> impl Iterator<Item = &Value> {
    list(&pod_spec["containers"]).iter().chain(list(&pod_spec["initContainers"]))
}
