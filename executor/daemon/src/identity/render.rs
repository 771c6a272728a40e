//! `windlass identity render`: what has to be there for the rules, in Kubernetes and in AWS.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use windlass_core::identity::manifests::{
    ASSUME_GRANT, assume_grants, kubernetes, namespaces, roles, trust_policy,
};
use windlass_core::identity::rules::Rules;

use super::no_rules;
use crate::cli::{Failure, print};
use crate::config::Config;
use crate::doctor;
use crate::yaml;

/// What the daemon may do in a namespace, as deploy/rbac has it.
const ROLE: &str = include_str!("../../../../deploy/rbac/role.yaml");
const BINDING: &str = include_str!("../../../../deploy/rbac/role-binding.yaml");
/// Stands for the cluster's issuer where none is named.
const NO_ISSUER: &str = "OIDC_ISSUER_WITHOUT_HTTPS";

/// Prints objects and policies; changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Examples:
  windlass identity render | kubectl apply --dry-run=server -f -
  windlass identity render --what assume-grant | kubectl apply -f -
  windlass identity render --what trust-policy --oidc-issuer oidc.eks.eu-west-1.amazonaws.com/id/ABC
  windlass identity render --what terraform --oidc-issuer $(aws eks describe-cluster --name prod \\
      --query cluster.identity.oidc.issuer --output text | sed s,https://,,) > windlass-roles.tf")]
pub struct Render {
    /// What to print
    #[arg(long, value_enum, default_value = "kubernetes")]
    what: What,
    /// The cluster's OIDC issuer, without https://
    #[arg(long, value_name = "HOST/PATH", default_value = NO_ISSUER)]
    oidc_issuer: String,
    /// The cluster's name, for eksctl
    #[arg(long, value_name = "NAME", default_value = "CLUSTER")]
    cluster: String,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// ServiceAccounts, SecurityGroupPolicies, and the daemon's Role in each namespace.
    Kubernetes,
    /// What `windlass doctor --assume` needs and the daemon does without: a Role and its binding in each namespace.
    AssumeGrant,
    /// The trust policy of each role, as JSON.
    TrustPolicy,
    /// A ClusterConfig of eksctl with the service accounts and their roles.
    Eksctl,
    /// Resources of Terraform for the roles.
    Terraform,
}

/// Renders and prints.
pub fn render(config: &Config, of: &Render) -> Result<(), Failure> {
    let rules = config.rules.as_ref().ok_or_else(no_rules)?;
    let namespace = config.kubernetes.namespace.as_str();
    let issuer = of.oidc_issuer.trim_start_matches("https://");
    print(&match of.what {
        What::Kubernetes => manifests(rules, namespace)?,
        What::AssumeGrant => grants(&with_roles(config, rules)?)?,
        What::TrustPolicy => format!("{:#}\n", trust_policies(rules, namespace, issuer)),
        What::Eksctl => yaml::write(&eksctl(rules, namespace, &of.cluster)),
        What::Terraform => terraform(rules, namespace, issuer),
    })
}

fn manifests(rules: &Rules, namespace: &str) -> Result<String, Failure> {
    let mut objects = kubernetes(rules, namespace);
    for namespace in namespaces(rules, namespace) {
        for text in [ROLE, BINDING] {
            objects.push(shipped(text, &namespace)?);
        }
    }
    Ok(documents(&objects))
}

/// The service accounts that `windlass doctor --assume` asks for: also those that rules have from the template.
fn with_roles(config: &Config, rules: &Rules) -> Result<BTreeSet<(String, String)>, Failure> {
    let (chains, faults) = doctor::chains(config, rules);
    if let Some(fault) = faults.into_iter().next() {
        return Err(Failure::Other { what: format!("{}: {}", fault.object, fault.what), hint: fault.remedy });
    }
    Ok(chains.into_iter().map(|chain| (chain.namespace, chain.account)).collect())
}

fn grants(accounts: &BTreeSet<(String, String)>) -> Result<String, Failure> {
    let mut objects = Vec::new();
    for (namespace, role) in assume_grants(accounts) {
        let mut binding = shipped(BINDING, &namespace)?;
        binding["metadata"]["name"] = ASSUME_GRANT.into();
        binding["roleRef"]["name"] = ASSUME_GRANT.into();
        objects.extend([role, binding]);
    }
    Ok(documents(&objects))
}

/// An object of deploy/rbac in a namespace.
fn shipped(text: &str, namespace: &str) -> Result<Value, Failure> {
    let mut object: Value = serde_saphyr::from_str(text)
        .map_err(|error| Failure::other(format!("deploy/rbac cannot be read: {error}")))?;
    object["metadata"]["namespace"] = namespace.into();
    Ok(object)
}

fn documents(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{}", yaml::write(object))).collect()
}

fn trust_policies(rules: &Rules, namespace: &str, issuer: &str) -> Value {
    let of = |(role, accounts): (&String, &BTreeSet<(String, String)>)| json!({ "role": role, "trust_policy": trust_policy(role, accounts, issuer) });
    roles(rules, namespace).iter().map(of).collect()
}

fn eksctl(rules: &Rules, namespace: &str, cluster: &str) -> Value {
    let mut accounts = Vec::new();
    for (role, of_role) in roles(rules, namespace) {
        for (namespace, name) in of_role {
            accounts.push(json!({
                "metadata": { "name": name, "namespace": namespace },
                "roleName": name_of(&role),
                "attachRoleARN": role,
            }));
        }
    }
    json!({
        "apiVersion": "eksctl.io/v1alpha5",
        "kind": "ClusterConfig",
        "metadata": { "name": cluster, "region": "REGION" },
        "iam": { "withOIDC": true, "serviceAccounts": accounts },
    })
}

fn terraform(rules: &Rules, namespace: &str, issuer: &str) -> String {
    let mut text = String::new();
    for (role, accounts) in roles(rules, namespace) {
        let (name, policy) = (name_of(&role), trust_policy(&role, &accounts, issuer));
        let resource: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        let path = path_of(&role);
        let _ = write!(
            text,
            "resource \"aws_iam_role\" \"{resource}\" {{\n  name               = \"{name}\"\n  path               = \"{path}\"\n  \
             assume_role_policy = <<-POLICY\n{policy:#}\nPOLICY\n}}\n\n"
        );
    }
    text
}

/// `arn:..:role/path/NAME`.
fn name_of(role_arn: &str) -> &str {
    role_arn.rsplit('/').next().unwrap_or(role_arn)
}

/// `arn:..:role/PATH/name`, with a `/` at both ends.
fn path_of(role_arn: &str) -> String {
    let resource = role_arn.split_once(":role/").map_or("", |(_, resource)| resource);
    resource.rsplit_once('/').map_or_else(|| "/".to_owned(), |(path, _)| format!("/{path}/"))
}

#[cfg(test)]
mod tests {
    use windlass_core::identity::rules::{Place, Rule};
    use windlass_core::identity::{Freedoms, Identity};

    use super::*;

    fn rules() -> Rules {
        let gives = Identity {
            service_account: Some("etl".into()),
            role_arn: Some("arn:aws:iam::111122223333:role/teams/etl-role".into()),
            ..Identity::default()
        };
        let rule = Rule {
            name: "etl".into(),
            place: Place::default(),
            when: Vec::new(),
            gives,
            may_override: Freedoms::new(),
        };
        Rules::new(vec![rule], None)
    }

    #[test]
    fn the_daemon_has_its_role_in_each_namespace_of_the_rules() {
        let text = manifests(&rules(), "airflow").unwrap();
        for part in ["kind: ServiceAccount", "kind: Role\n", "kind: RoleBinding", "namespace: airflow"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_grant_of_assume_is_bound_to_the_daemons_account() {
        let text = grants(&BTreeSet::from([("airflow".into(), "etl".into())])).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(
            (&objects[0]["kind"], &objects[0]["metadata"]["name"]),
            (&json!("Role"), &json!("windlass-assume"))
        );
        assert_eq!(objects[1]["roleRef"]["name"], "windlass-assume");
        assert_eq!(objects[1]["subjects"][0]["name"], "windlass");
    }

    #[test]
    fn terraform_and_eksctl_name_the_role_and_who_may_assume_it() {
        let text = terraform(&rules(), "airflow", "issuer/id/X");
        assert!(
            text.starts_with(
                "resource \"aws_iam_role\" \"etl_role\" {\n  name               = \"etl-role\"\n"
            ),
            "{text}"
        );
        assert!(text.contains("path               = \"/teams/\""), "{text}");
        assert!(text.contains("system:serviceaccount:airflow:etl"), "{text}");
        let config = eksctl(&rules(), "airflow", "prod");
        let account = &config["iam"]["serviceAccounts"][0];
        assert_eq!(account["metadata"], json!({ "name": "etl", "namespace": "airflow" }));
        assert_eq!(account["attachRoleARN"], "arn:aws:iam::111122223333:role/teams/etl-role");
    }
}
