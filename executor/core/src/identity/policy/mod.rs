//! The guard's rules as a ValidatingAdmissionPolicy: what the API server lets the daemon's service account create.
//!
//! The guard stands in the daemon; whoever holds the daemon's token could go around it. The policy holds for each pod of
//! that account, and measures by the rule that the pod names in its label [`LABEL_RULE`]. It sees the pod after admission:
//! what EKS's webhooks and the API server itself put into pods is known to it, what other webhooks put there it has to be
//! shown by a pod as they leave it.
//!
//! The rules are literals of the policy, not parameters in a ConfigMap: to change one takes the same right as to change
//! the other, which belongs to the cluster's administrators, and both change at once.
//!
//! Expressions keep to what Kubernetes 1.30 knows, the first with this kind in v1.

mod cel;
mod faults;
mod row;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::LABEL_RULE;
use super::manifests::accounts;
use super::rules::{Rule, Rules};

/// How the name of the policy of [`of_daemon`] begins; the namespace of the daemon's service account ends it, as it is an
/// object of the whole cluster.
pub const NAME_OF_DAEMON: &str = "windlass-identity-";

/// The same of [`of_others`].
pub const NAME_OF_OTHERS: &str = "windlass-accounts-";

/// Annotation of the policy with [`digest`]: whether it is that of these rules and this template shows without comparing
/// expressions.
pub const ANNOTATION_DIGEST: &str = "windlass.dev/rules-digest";

/// Name of the policy and of its binding for the daemon whose service account is in `namespace`.
pub fn name(namespace: &str) -> String {
    format!("{NAME_OF_DAEMON}{namespace}")
}

/// Whether the words with which the API server refused a pod of the daemon's are those of such a policy.
pub fn is_refusal(message: &str) -> bool {
    message.contains(&format!("ValidatingAdmissionPolicy '{NAME_OF_DAEMON}"))
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonAccount {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl DaemonAccount {
    /// Its name as a user of the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// What a policy does with a pod that it does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It is not created.
    #[default]
    Deny,
    /// It is created; the audit log and a warning of the answer tell.
    Warn,
}

impl Action {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Deny => &["Deny"],
            Self::Warn => &["Warn", "Audit"],
        }
    }
}

/// A rule with the pod that a task of it has without executor_config: its measure, as for the guard.
#[derive(Debug)]
pub struct Measured<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// From the configured template.
    pub pod: Value,
}

/// The policy for pods of the daemon's account, and its binding. `admitted`: pods as this cluster's webhooks leave them,
/// with what these add; one that carries the label of a rule counts for that rule, others for all.
pub fn of_daemon(
    rules: &[Measured<'_>],
    admitted: &[Value],
    daemon: &DaemonAccount,
    action: Action,
) -> [Value; 2] {
    let rows: Vec<(String, row::Row)> = rules
        .iter()
        .map(|measured| {
            let label = crate::pod::safe_label_value(&measured.rule.name);
            let shown = admitted.iter().filter(|pod| {
                pod["metadata"]["labels"][LABEL_RULE].as_str().is_none_or(|named| named == label)
            });
            let row = row::row(measured.rule, &measured.pod, shown);
            (label, row)
        })
        .collect();
    let spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["pods", "pods/ephemeralcontainers"],
        }] },
        "matchConditions": [{
            "name": "daemon",
            "expression": format!("request.userInfo.username == {}", cel::text(&daemon.user())),
        }],
        "variables": cel::variables(&rows),
        "validations": cel::validations(),
    });
    let [mut policy, binding] = both(&name(&daemon.namespace), spec, action);
    policy["metadata"]["annotations"] = json!({ ANNOTATION_DIGEST: digest(rules) });
    [policy, binding]
}

/// Of what the policy holds pods to, without what other webhooks of the cluster add: sixteen hexadecimal digits.
pub fn digest(rules: &[Measured<'_>]) -> String {
    let mut hash = Sha256::new();
    for Measured { rule, pod } in rules {
        let row = row::row(rule, pod, std::iter::empty());
        hash.update(json!([rule.name, row]).to_string());
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The policy by which nobody but the daemon's account creates pods with the service accounts that rules name, or with
/// the label by which SecurityGroupPolicies select; and its binding. `namespace`: of rules that name none.
pub fn of_others(rules: &Rules, namespace: &str, daemon: &DaemonAccount, action: Action) -> [Value; 2] {
    let accounts: Vec<String> =
        accounts(rules, namespace).iter().map(|a| format!("{}/{}", a.namespace, a.name)).collect();
    let spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"],
        }] },
        "matchConditions": [{
            "name": "others",
            "expression": format!("request.userInfo.username != {}", cel::text(&daemon.user())),
        }],
        "variables": cel::variables_of_others(&accounts),
        "validations": cel::validations_of_others(&daemon.user()),
    });
    both(&format!("{NAME_OF_OTHERS}{}", daemon.namespace), spec, action)
}

fn both(name: &str, spec: Value, action: Action) -> [Value; 2] {
    let api = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": spec,
    });
    let binding = json!({
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": action.words() },
    });
    [policy, binding]
}

#[cfg(test)]
mod tests;
