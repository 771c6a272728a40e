//! The objects that rules need to be there: service accounts, SecurityGroupPolicies, and what AWS must trust.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::LABEL_RULE;
use super::irsa::{ANNOTATION_AUDIENCE, ANNOTATION_ROLE, DEFAULT_AUDIENCE};
use super::rules::{Rule, Rules};
use crate::pod::safe_label_value;

/// Name of the Role of [`assume_grants`], and of its binding.
pub const ASSUME_GRANT: &str = "windlass-assume";

/// A service account that rules name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The roles that its rules expect: more than one cannot be had.
    pub roles: BTreeSet<String>,
    /// Audiences of the tokens for these; more than one cannot be had.
    pub audiences: BTreeSet<String>,
    /// The rules that name it.
    pub rules: Vec<String>,
}

/// The service accounts of all rules, by namespace and name. `namespace`: of rules that name none.
pub fn accounts(rules: &Rules, namespace: &str) -> Vec<Account> {
    let mut accounts: BTreeMap<(String, String), Account> = BTreeMap::new();
    for rule in rules.all() {
        let Some(name) = &rule.gives.service_account else { continue };
        let namespace = rule.gives.namespace.as_deref().unwrap_or(namespace);
        let account = accounts.entry((namespace.to_owned(), name.clone())).or_insert_with(|| Account {
            namespace: namespace.to_owned(),
            name: name.clone(),
            roles: BTreeSet::new(),
            audiences: BTreeSet::new(),
            rules: Vec::new(),
        });
        if let Some(role) = &rule.gives.role_arn {
            account.roles.insert(role.clone());
            account.audiences.insert(rule.gives.audience().to_owned());
        }
        account.rules.push(rule.name.clone());
    }
    accounts.into_values().collect()
}

/// Namespaces that rules send pods to, `namespace` for those that name none.
pub fn namespaces(rules: &Rules, namespace: &str) -> BTreeSet<String> {
    let of = |rule: &Rule| rule.gives.namespace.as_deref().unwrap_or(namespace).to_owned();
    rules.all().map(of).collect()
}

/// ServiceAccounts and SecurityGroupPolicies, as `kubectl apply` takes them. Worker pods need no token of the API
/// server: theirs is not mounted.
pub fn kubernetes(rules: &Rules, namespace: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = accounts(rules, namespace).iter().map(service_account).collect();
    objects.extend(rules.all().filter_map(|rule| policy(rule, namespace)));
    objects
}

fn service_account(account: &Account) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": account.name, "namespace": account.namespace },
        "automountServiceAccountToken": false,
    });
    if let Some(role) = account.roles.first() {
        object["metadata"]["annotations"] = json!({ ANNOTATION_ROLE: role });
    }
    if let Some(audience) = account.audiences.iter().find(|audience| *audience != DEFAULT_AUDIENCE) {
        object["metadata"]["annotations"][ANNOTATION_AUDIENCE] = audience.as_str().into();
    }
    object
}

/// It selects by the label that no executor_config can change, so that the groups are those of the rule alone.
fn policy(rule: &Rule, namespace: &str) -> Option<Value> {
    if rule.gives.security_groups.is_empty() {
        return None;
    }
    let label = safe_label_value(&rule.name);
    Some(json!({
        "apiVersion": "vpcresources.k8s.aws/v1beta1",
        "kind": "SecurityGroupPolicy",
        "metadata": {
            "name": format!("windlass-{}", object_name(&rule.name)),
            "namespace": rule.gives.namespace.as_deref().unwrap_or(namespace),
        },
        "spec": {
            "podSelector": { "matchLabels": { LABEL_RULE: label } },
            "securityGroups": { "groupIds": rule.gives.security_groups },
        },
    }))
}

/// A rule's name as part of an object's: small letters, digits and `-`.
pub fn object_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).collect();
    name.trim_matches('-').to_owned()
}

/// What `windlass doctor --assume` needs beyond deploy/rbac, by namespace: a Role for these service accounts (namespace,
/// name) and no other. RBAC holds a `create` of the subresource to `resourceNames`, as the name is in its path.
pub fn assume_grants(accounts: &BTreeSet<(String, String)>) -> BTreeMap<String, Value> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (namespace, name) in accounts {
        names.entry(namespace).or_default().push(name);
    }
    let role = |(namespace, names): (&str, Vec<&str>)| {
        let rule = |resource: &str, verb: &str| json!({ "apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": [verb] });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": { "name": ASSUME_GRANT, "namespace": namespace },
            "rules": [rule("serviceaccounts", "get"), rule("serviceaccounts/token", "create")],
        });
        (namespace.to_owned(), role)
    };
    names.into_iter().map(role).collect()
}

/// Whom a role has to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Namespace and name of service accounts.
    pub accounts: BTreeSet<(String, String)>,
    /// Of their tokens.
    pub audiences: BTreeSet<String>,
}

/// The roles that rules expect, with the service accounts that must be able to assume each.
pub fn roles(rules: &Rules, namespace: &str) -> BTreeMap<String, Trusted> {
    let mut roles: BTreeMap<String, Trusted> = BTreeMap::new();
    for account in accounts(rules, namespace) {
        for role in account.roles {
            let trusted = roles.entry(role).or_default();
            trusted.accounts.insert((account.namespace.clone(), account.name.clone()));
            trusted.audiences.extend(account.audiences.iter().cloned());
        }
    }
    roles
}

/// The trust policy of a role. `issuer`: the cluster's OIDC issuer without `https://`.
pub fn trust_policy(role_arn: &str, trusted: &Trusted, issuer: &str) -> Value {
    let mut parts = role_arn.split(':');
    let (partition, account) = (parts.nth(1).unwrap_or("aws"), parts.nth(2).unwrap_or_default());
    let subjects: Vec<String> = trusted
        .accounts
        .iter()
        .map(|(namespace, name)| format!("system:serviceaccount:{namespace}:{name}"))
        .collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:{partition}:iam::{account}:oidc-provider/{issuer}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    format!("{issuer}:aud"): one_or_all(&trusted.audiences),
                    format!("{issuer}:sub"): subjects,
                },
            },
        }],
    })
}

/// IAM takes a text or a list of them.
fn one_or_all(texts: &BTreeSet<String>) -> Value {
    match (texts.len(), texts.first()) {
        (1, Some(only)) => json!(only),
        _ => json!(texts),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Place, Rule};
    use super::super::{Freedoms, Identity};
    use super::*;

    const ROLE: &str = "arn:aws-cn:iam::111122223333:role/etl";

    fn rules() -> Rules {
        let rule = |name: &str, gives: Identity| Rule {
            name: name.into(),
            place: Place::default(),
            when: Vec::new(),
            gives,
            may_override: Freedoms::new(),
        };
        let etl = Identity {
            service_account: Some("etl".into()),
            role_arn: Some(ROLE.into()),
            security_groups: BTreeSet::from(["sg-0123456789abcdef0".into()]),
            namespace: Some("data".into()),
            ..Identity::default()
        };
        let other = Identity { service_account: Some("worker".into()), ..Identity::default() };
        Rules::new(vec![rule("ETL nightly", etl)], Some(rule("default", other)))
    }

    #[test]
    fn the_objects_are_those_of_the_rules() {
        let objects = kubernetes(&rules(), "airflow");
        assert_eq!(
            objects,
            [
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false,
                    "metadata": { "name": "worker", "namespace": "airflow" },
                }),
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false,
                    "metadata": {
                        "name": "etl", "namespace": "data", "annotations": { "eks.amazonaws.com/role-arn": ROLE },
                    },
                }),
                json!({
                    "apiVersion": "vpcresources.k8s.aws/v1beta1", "kind": "SecurityGroupPolicy",
                    "metadata": { "name": "windlass-etl-nightly", "namespace": "data" },
                    "spec": {
                        "podSelector": { "matchLabels": { LABEL_RULE: safe_label_value("ETL nightly") } },
                        "securityGroups": { "groupIds": ["sg-0123456789abcdef0"] },
                    },
                }),
            ]
        );
        assert_eq!(namespaces(&rules(), "airflow"), BTreeSet::from(["airflow".into(), "data".into()]));
    }

    #[test]
    fn tokens_are_granted_of_the_named_accounts_alone() {
        let grants = assume_grants(&BTreeSet::from([("data".into(), "etl".into())]));
        assert_eq!(
            grants["data"]["rules"],
            json!([
                {
                    "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["etl"], "verbs": ["get"],
                },
                {
                    "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["etl"],
                    "verbs": ["create"],
                },
            ])
        );
    }

    #[test]
    fn a_role_trusts_the_service_accounts_of_its_rules_alone() {
        let roles = roles(&rules(), "airflow");
        let policy = trust_policy(ROLE, &roles[ROLE], "oidc.eks.cn-north-1.amazonaws.com.cn/id/ABC");
        let statement = &policy["Statement"][0];
        assert_eq!(
            statement["Principal"]["Federated"],
            "arn:aws-cn:iam::111122223333:oidc-provider/oidc.eks.cn-north-1.amazonaws.com.cn/id/ABC"
        );
        let equals = &statement["Condition"]["StringEquals"];
        assert_eq!(equals["oidc.eks.cn-north-1.amazonaws.com.cn/id/ABC:aud"], "sts.amazonaws.com");
        assert_eq!(
            equals["oidc.eks.cn-north-1.amazonaws.com.cn/id/ABC:sub"],
            json!(["system:serviceaccount:data:etl"])
        );
    }
}
