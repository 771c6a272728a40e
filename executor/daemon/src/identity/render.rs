//! `windlass identity render`: what has to be there for the rules, in Kubernetes and in AWS.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use windlass_core::identity::manifests::{Trusted, roles, trust_policy};
use windlass_core::identity::rules::Rules;

use super::diff::diff;
use super::no_rules;
use super::policies::Objects;
use crate::cli::{Failure, print};
use crate::config::Config;
use crate::doctor;
use crate::yaml;

/// Stands for the cluster's issuer where none is named.
const NO_ISSUER: &str = "OIDC_ISSUER_WITHOUT_HTTPS";

/// Prints objects and policies, or with --diff what they would change; changes nothing itself. The admission policy lets
/// the daemon's service account create what the rules and the pod template give, and nothing else.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
With --diff: ends with 0 if the cluster is as the rules want it, with 1 if not, with 5 if it cannot be compared. It takes
the rights to apply the objects (the API server is asked for a dry run), so usually a kubeconfig.

Examples:
  windlass identity render | kubectl apply --server-side --field-manager=windlass -f -
  windlass identity render --what assume-grant | kubectl apply -f -
  AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER=False windlass identity render --diff
  windlass identity render --policy warn                   first look in the audit log, then deny
  windlass identity render --with-pod sidecars.yaml        pods get sidecars from a webhook of the cluster
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
    /// Show what the Kubernetes objects would change in the cluster, and what is there besides
    #[arg(long, conflicts_with = "what")]
    diff: bool,
    #[command(flatten)]
    objects: Objects,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// ServiceAccounts, SecurityGroupPolicies, the daemon's Role in each namespace, admission policies.
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
pub async fn render(config: &Config, of: &Render) -> Result<(), Failure> {
    let rules = config.rules.as_ref().ok_or_else(no_rules)?;
    if of.diff {
        // Exit code 1 would say that there is a difference.
        let objects = of.objects.all(config, rules).map_err(|failure| match failure {
            Failure::Other { what, hint } => Failure::Uncompared { what, hint },
            other => other,
        })?;
        return diff(config, rules, &objects).await;
    }
    let namespace = config.kubernetes.namespace.as_str();
    let issuer = of.oidc_issuer.trim_start_matches("https://");
    print(&match of.what {
        What::Kubernetes => manifests(&of.objects.all(config, rules)?),
        What::AssumeGrant => manifests(&of.objects.assume_grants(&with_roles(config, rules)?)?),
        What::TrustPolicy => format!("{:#}\n", trust_policies(rules, namespace, issuer)),
        What::Eksctl => yaml::write(&eksctl(rules, namespace, &of.cluster)),
        What::Terraform => terraform(rules, namespace, issuer),
    })
}

/// The service accounts that `windlass doctor --assume` asks for: also those that rules have from the template.
fn with_roles(config: &Config, rules: &Rules) -> Result<BTreeSet<(String, String)>, Failure> {
    let (chains, faults) = doctor::chains(config, rules);
    if let Some(fault) = faults.into_iter().next() {
        return Err(Failure::Other { what: format!("{}: {}", fault.object, fault.what), hint: fault.remedy });
    }
    Ok(chains.into_iter().map(|chain| (chain.namespace, chain.account)).collect())
}

fn manifests(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{}", yaml::write(object))).collect()
}

fn trust_policies(rules: &Rules, namespace: &str, issuer: &str) -> Value {
    let of = |(role, trusted): (&String, &Trusted)| json!({ "role": role, "trust_policy": trust_policy(role, trusted, issuer) });
    roles(rules, namespace).iter().map(of).collect()
}

fn eksctl(rules: &Rules, namespace: &str, cluster: &str) -> Value {
    let mut accounts = Vec::new();
    for (role, trusted) in roles(rules, namespace) {
        for (namespace, name) in trusted.accounts {
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
    let (mut text, mut taken) = (String::new(), BTreeSet::new());
    for (role, trusted) in roles(rules, namespace) {
        let (name, policy) = (name_of(&role), trust_policy(&role, &trusted, issuer));
        let path = path_of(&role);
        let resource = resource_name(name, &mut taken);
        let _ = write!(
            text,
            "resource \"aws_iam_role\" \"{resource}\" {{\n  name               = \"{name}\"\n  path               = \"{path}\"\n  \
             assume_role_policy = <<-POLICY\n{policy:#}\nPOLICY\n}}\n\n"
        );
    }
    text
}

/// A name as Terraform takes it: it begins with a letter, and no other resource has it.
fn resource_name(role: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut name: String = role.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "role_");
    }
    let mut free = name.clone();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
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
    fn terraform_and_eksctl_name_the_role_and_who_may_assume_it() {
        let text = terraform(&rules(), "airflow", "issuer/id/X");
        assert!(
            text.starts_with(
                "resource \"aws_iam_role\" \"etl_role\" {\n  name               = \"etl-role\"\n"
            ),
            "{text}"
        );
        assert!(text.contains("path               = \"/teams/\""), "{text}");
        let mut taken = BTreeSet::new();
        let names = ["fin-x", "fin_x", "1fin", "Fin.X"].map(|role| resource_name(role, &mut taken));
        assert_eq!(names, ["fin_x", "fin_x_2", "role_1fin", "fin_x_3"]);
        assert!(text.contains("system:serviceaccount:airflow:etl"), "{text}");
        let config = eksctl(&rules(), "airflow", "prod");
        let account = &config["iam"]["serviceAccounts"][0];
        assert_eq!(account["metadata"], json!({ "name": "etl", "namespace": "airflow" }));
        assert_eq!(account["attachRoleARN"], "arn:aws:iam::111122223333:role/teams/etl-role");
    }
}
