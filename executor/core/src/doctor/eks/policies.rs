//! SecurityGroupPolicies: which groups each rule's pod would get.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{EksFacts, RuleFacts};
use super::{Code, Finding, some_of};
use crate::doctor::words::count;
use crate::identity::sgp::{
    Branch, Match, Policies, SecurityGroupPolicy, ServiceAccounts, Untouched, decide, matching_groups,
};

/// By EKS's manual, and EC2's default quota for an interface.
const GROUPS_MAX: usize = 5;

pub(super) fn of_rule(facts: &EksFacts, rule: &RuleFacts, found: &mut Vec<Finding>) {
    let malformed = rule.gives.security_groups.iter().filter(|id| !is_group_id(id));
    for id in malformed {
        found.push(Finding::new(Code::GroupIdMalformed, &rule.object, format!("it demands `{id}`")));
    }
    // That they are not served at all is told once.
    let policies = facts.cluster.policies.as_ref().filter(|_| facts.cluster.serves_policies != Some(false));
    let (Some(all), Some(pod)) = (policies, rule.pod_facts()) else { return };
    let account = rule.account();
    let mut accounts = ServiceAccounts::default();
    // One that is missing has a finding of its own; one that could not be read leaves the question open.
    match facts.cluster.accounts.get(&account) {
        Some(object) if object.is_object() && accounts.read(object).is_ok() => {}
        Some(_) | None => return,
    }
    let mut policies = Policies::default();
    for policy in all.iter().filter_map(|object| SecurityGroupPolicy::read(object).ok()) {
        policies.insert(policy);
    }
    match decide(&pod, |pod| matching_groups(pod, &accounts, &policies)) {
        Err(_) => {}
        Ok(Branch::Untouched(why)) => untouched(rule, why, found),
        Ok(Branch::None) => none(rule, &policies, found),
        Ok(Branch::Fargate(matched) | Branch::Interface(matched)) => matching(rule, &matched, all, found),
    }
}

fn untouched(rule: &RuleFacts, why: Untouched, found: &mut Vec<Finding>) {
    // The host's network is told of the template.
    if rule.wants_groups() && why == Untouched::Windows {
        let what = "its pod asks for nodes with Windows, for which no policy counts";
        found.push(Finding::new(Code::NoPolicyMatches, &rule.object, what));
    }
}

fn none(rule: &RuleFacts, policies: &Policies, found: &mut Vec<Finding>) {
    if !rule.wants_groups() {
        return;
    }
    let there: Vec<&str> =
        policies.of_namespace(&rule.namespace).map(|policy| policy.name.as_str()).collect();
    let there = if there.is_empty() {
        format!("namespace {} has none", rule.namespace)
    } else {
        let number = count(there.len(), "policy", "policies");
        format!(
            "namespace {} has {number}, and none selects it: {}",
            rule.namespace,
            some_of(there.iter().copied())
        )
    };
    let groups = some_of(rule.gives.security_groups.iter().map(String::as_str));
    let what = format!("it demands {groups} for its pod (service account {}); {there}", rule.account().1);
    found.push(Finding::new(Code::NoPolicyMatches, &rule.object, what));
}

fn matching(rule: &RuleFacts, matched: &Match, all: &[Value], found: &mut Vec<Finding>) {
    let by = some_of(matched.policies.iter().map(String::as_str));
    let groups = matched.groups.join(", ");
    if !rule.wants_groups() {
        let what = format!("its pod gets {groups} by {by} in namespace {}", rule.namespace);
        found.push(Finding::new(Code::PolicyUnasked, &rule.object, what));
    }
    let given: BTreeSet<String> = matched.groups.iter().cloned().collect();
    if rule.wants_groups() && given != rule.gives.security_groups {
        let demanded = rule.gives.security_groups.iter().cloned().collect::<Vec<_>>().join(", ");
        let what = format!("it demands {demanded}, and its pod gets {groups} by {by}");
        found.push(Finding::new(Code::PolicyGroupsDiffer, &rule.object, what));
    }
    if given.len() > GROUPS_MAX {
        let what = format!("{} groups by {by}: {groups}", given.len());
        found.push(Finding::new(Code::TooManyGroups, &rule.object, what));
    }
    for id in given.iter().filter(|id| !is_group_id(id) && !rule.gives.security_groups.contains(*id)) {
        found.push(Finding::new(
            Code::GroupIdMalformed,
            &rule.object,
            format!("its pod gets `{id}` by {by}"),
        ));
    }
    for policy in all {
        let metadata = &policy["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let counts = metadata["namespace"] == rule.namespace.as_str()
            && matched.policies.iter().any(|one| one == name);
        if counts && metadata["deletionTimestamp"].is_string() {
            let object = format!("SecurityGroupPolicy {}/{name}", rule.namespace);
            let what = format!(
                "it is being deleted since {}, and gives {groups} to the pod of {}",
                metadata["deletionTimestamp"].as_str().unwrap_or_default(),
                rule.object
            );
            found.push(Finding::new(Code::PolicyBeingDeleted, object, what));
        }
    }
}

/// Policies of the rules' namespaces that never match.
pub(super) fn broken(facts: &EksFacts, found: &mut Vec<Finding>) {
    let namespaces: BTreeSet<&str> = facts.rules.iter().map(|rule| rule.namespace.as_str()).collect();
    for object in facts.cluster.policies.iter().flatten() {
        let Ok(policy) = SecurityGroupPolicy::read(object) else { continue };
        if let Some(fault) = policy.fault.filter(|_| namespaces.contains(policy.namespace.as_str())) {
            let object = format!("SecurityGroupPolicy {}/{}", policy.namespace, policy.name);
            found.push(Finding::new(Code::PolicyBroken, object, fault));
        }
    }
}

/// `sg-` and 8 (old) or 17 hexadecimal digits.
fn is_group_id(text: &str) -> bool {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sg-").is_some_and(|id| matches!(id.len(), 8 | 17) && id.bytes().all(hexadecimal))
}
