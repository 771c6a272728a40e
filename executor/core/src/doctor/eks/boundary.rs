//! What the guard stands on: nobody but the daemon makes pods of any identity.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Access, EksFacts};
use super::{Code, Finding, list, some_of};
use crate::identity::policy;

pub(super) fn boundary(facts: &EksFacts, found: &mut Vec<Finding>) {
    if !facts.rules.iter().any(|rule| rule.gives.rule.is_some()) {
        return;
    }
    if !facts.standalone_dag_processor {
        let what = "[scheduler] standalone_dag_processor is not True";
        found.push(Finding::new(Code::DagCodeInScheduler, "scheduler", what));
    }
    for pod in facts.cluster.pods.iter().flatten() {
        let Some(daemon) = &pod.daemon else { continue };
        let object = format!("pod {}", pod.place());
        let names = |containers: &BTreeSet<String>| some_of(containers.iter().map(String::as_str));
        if !daemon.tokens_elsewhere.is_empty() {
            let what =
                format!("a token for the API server is mounted in: {}", names(&daemon.tokens_elsewhere));
            found.push(Finding::new(Code::DaemonTokenShared, &object, what));
        }
        if !daemon.same_database.is_empty() {
            let what =
                format!("the same connection string as the daemon's is in: {}", names(&daemon.same_database));
            found.push(Finding::new(Code::DatabaseRoleShared, &object, what));
        }
    }
    for ((namespace, name), access) in &facts.cluster.access {
        if *access == Access::CreatesPods {
            let what = format!("it may create pods in namespace {namespace}");
            found.push(Finding::new(
                Code::WorkerCreatesPods,
                format!("service account {namespace}/{name}"),
                what,
            ));
        }
    }
    policies(facts, found);
}

/// Beginnings of the names of the policies that `windlass identity render` prints, and whom each holds.
const POLICIES: [(&str, &str); 2] = [
    (policy::NAME_OF_DAEMON, "whoever has the daemon's token can make pods of any identity"),
    (policy::NAME_OF_OTHERS, "whoever else may create pods can take the service accounts of the rules"),
];

fn is_named(policy: &Value, begin: &str) -> bool {
    policy["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(begin))
}

fn policies(facts: &EksFacts, found: &mut Vec<Finding>) {
    let (Some(policies), Some(bindings)) =
        (&facts.cluster.admission_policies, &facts.cluster.admission_bindings)
    else {
        return;
    };
    let denies = |name: &str| {
        let actions = bindings.iter().filter(|binding| binding["spec"]["policyName"] == name);
        actions.flat_map(|binding| list(&binding["spec"]["validationActions"])).any(|action| action == "Deny")
    };
    let daemons = || policies.iter().filter(|policy| is_named(policy, policy::NAME_OF_DAEMON));
    if let Some(expected) = facts.rules_digest.as_deref()
        && let Some(policy) = daemons().next()
        && !daemons().any(|policy| policy["metadata"]["annotations"][policy::ANNOTATION_DIGEST] == expected)
    {
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        let what = "it was made from other rules, or from another pod template, than those here";
        found.push(Finding::new(
            Code::AdmissionPolicyStale,
            format!("ValidatingAdmissionPolicy {name}"),
            what,
        ));
    }
    for (begin, otherwise) in POLICIES {
        let names = policies.iter().filter_map(|policy| policy["metadata"]["name"].as_str());
        let names: Vec<&str> = names.filter(|name| name.starts_with(begin)).collect();
        let what = if names.is_empty() {
            format!("there is none of that name: {otherwise}")
        } else if names.iter().any(|name| denies(name)) {
            continue;
        } else {
            format!("{} has no binding with the action Deny: {otherwise}", names.join(", "))
        };
        found.push(Finding::new(
            Code::AdmissionPolicyMissing,
            format!("ValidatingAdmissionPolicy {begin}*"),
            what,
        ));
    }
}
