//! The Kubernetes objects of the rules: what `windlass identity render` prints and `--diff` compares.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;
use windlass_core::identity::manifests::{ASSUME_GRANT, assume_grants, kubernetes, namespaces};
use windlass_core::identity::policy::{Action, DaemonAccount, Measured, of_daemon, of_others};
use windlass_core::identity::rules::Rules;
use windlass_core::ids::InstallationId;

use super::groups::objects;
use crate::cli::Failure;
use crate::config::Config;
use crate::pods::Renderer;
use crate::render::NO_INSTALLATION;

/// What the daemon may do in a namespace, as deploy/rbac has it.
const ROLE: &str = include_str!("../../../../deploy/rbac/role.yaml");
const BINDING: &str = include_str!("../../../../deploy/rbac/role-binding.yaml");
/// What it may look at for rules.
const IDENTITY_ROLE: &str = include_str!("../../../../deploy/rbac/identity/role.yaml");
const IDENTITY_BINDING: &str = include_str!("../../../../deploy/rbac/identity/role-binding.yaml");
const NODES: &str = include_str!("../../../../deploy/rbac/identity/nodes.yaml");
const NODES_BINDING: &str = include_str!("../../../../deploy/rbac/identity/nodes-binding.yaml");

/// What the objects need to know beside the rules.
#[derive(Clone, Debug, Args)]
pub(super) struct Objects {
    /// The daemon's service account, as NAMESPACE:NAME; `system:serviceaccount:` may stand before it
    #[arg(long, value_name = "ACCOUNT", default_value = "airflow:windlass", value_parser = account)]
    daemon: DaemonAccount,
    /// What the ValidatingAdmissionPolicy does with a pod that its rule does not allow
    #[arg(long, value_enum, default_value = "deny")]
    policy: Policy,
    /// A second policy: nobody but the daemon creates pods with the rules' service accounts, nor sets the rules' label
    #[arg(long)]
    guard_accounts: bool,
    /// A pod as admission leaves it: what webhooks of this cluster add to pods (sidecars) is no breach; may be repeated
    #[arg(long = "with-pod", value_name = "FILE")]
    admitted: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// It is not created.
    Deny,
    /// It is created; the audit log tells.
    Warn,
    /// There is no policy.
    Off,
}

fn account(text: &str) -> Result<DaemonAccount, String> {
    let both = text.strip_prefix("system:serviceaccount:").unwrap_or(text).split_once(':');
    let name = |text: &str| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        !text.is_empty() && text.bytes().all(good)
    };
    match both {
        Some((namespace, account)) if name(namespace) && name(account) => {
            Ok(DaemonAccount { namespace: namespace.into(), name: account.into() })
        }
        _ => Err("it is no service account; write NAMESPACE:NAME, such as airflow:windlass".into()),
    }
}

impl Objects {
    /// Service accounts, SecurityGroupPolicies, the daemon's Role in each namespace, and the admission policies.
    pub(super) fn all(&self, config: &Config, rules: &Rules) -> Result<Vec<Value>, Failure> {
        let namespace = config.kubernetes.namespace.as_str();
        let mut objects = kubernetes(rules, namespace);
        let in_namespaces: &[&str] = &[ROLE, BINDING, IDENTITY_ROLE, IDENTITY_BINDING];
        for namespace in namespaces(rules, namespace) {
            for text in in_namespaces {
                objects.push(self.shipped(text, Some(&namespace))?);
            }
        }
        if rules.all().any(|rule| !rule.gives.security_groups.is_empty()) {
            objects.push(self.shipped(NODES, None)?);
            objects.push(self.shipped(NODES_BINDING, None)?);
        }
        let action = match self.policy {
            Policy::Deny => Action::Deny,
            Policy::Warn => Action::Warn,
            Policy::Off => return Ok(objects),
        };
        let (measured, admitted) = (measured(config, rules)?, self.admitted()?);
        objects.extend(of_daemon(&measured, &admitted, &self.daemon, action));
        if self.guard_accounts {
            objects.extend(of_others(rules, namespace, &self.daemon, action));
        }
        Ok(objects)
    }

    /// What `windlass doctor --assume` needs and the daemon does without: a Role and its binding in each namespace.
    pub(super) fn assume_grants(&self, accounts: &BTreeSet<(String, String)>) -> Result<Vec<Value>, Failure> {
        let mut objects = Vec::new();
        for (namespace, role) in assume_grants(accounts) {
            let mut binding = self.shipped(BINDING, Some(&namespace))?;
            binding["metadata"]["name"] = ASSUME_GRANT.into();
            binding["roleRef"]["name"] = ASSUME_GRANT.into();
            objects.extend([role, binding]);
        }
        Ok(objects)
    }

    /// An object of deploy/rbac, for the daemon's account.
    fn shipped(&self, text: &str, namespace: Option<&str>) -> Result<Value, Failure> {
        let mut object: Value = serde_saphyr::from_str(text)
            .map_err(|error| Failure::other(format!("deploy/rbac cannot be read: {error}")))?;
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        if let Some(subject) = object.pointer_mut("/subjects/0") {
            subject["namespace"] = self.daemon.namespace.as_str().into();
            subject["name"] = self.daemon.name.as_str().into();
        }
        Ok(object)
    }

    fn admitted(&self) -> Result<Vec<Value>, Failure> {
        let mut pods = Vec::new();
        for object in objects(&self.admitted)? {
            match object["kind"].as_str() {
                Some("Pod") => pods.push(object),
                Some("List" | "PodList") => {
                    pods.extend(object["items"].as_array().into_iter().flatten().cloned())
                }
                kind => {
                    return Err(Failure::Other {
                        what: format!("--with-pod holds an object of kind `{}`", kind.unwrap_or_default()),
                        hint: "give it pods: kubectl get pod NAME -o yaml, or a create with --dry-run=server -o yaml".into(),
                    });
                }
            }
        }
        Ok(pods)
    }
}

/// The rules with the pods that the configured template gives under them.
fn measured<'a>(config: &Config, rules: &'a Rules) -> Result<Vec<Measured<'a>>, Failure> {
    const HINT: &str = "the admission policy allows what the pod template has: run this where the template is, or set \
                        AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE; --policy off leaves the policy out";
    if let Some(template) = config.kubernetes.pod_template_file.as_ref().filter(|path| !path.exists()) {
        let what = format!("the pod template `{}` is not here", template.display());
        return Err(Failure::Other { what, hint: HINT.into() });
    }
    let renderer = Renderer::for_once(config, InstallationId(NO_INSTALLATION.into()));
    let of = |rule| {
        renderer
            .typical(Some(rule))
            .map(|pod| Measured { rule, pod })
            .map_err(|(reason, why)| Failure::Other { what: format!("{reason}: {why}"), hint: HINT.into() })
    };
    rules.all().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_in_two_ways() {
        let windlass = DaemonAccount { namespace: "etl".into(), name: "windlass".into() };
        assert_eq!(account("etl:windlass"), Ok(windlass.clone()));
        assert_eq!(account("system:serviceaccount:etl:windlass"), Ok(windlass));
        for wrong in ["windlass", ":windlass", "etl:", "etl:a'b", "etl/windlass"] {
            assert!(account(wrong).unwrap_err().contains("NAMESPACE:NAME"), "{wrong}");
        }
    }

    #[test]
    fn what_is_shipped_is_bound_to_the_daemons_account() {
        let daemon = DaemonAccount { namespace: "etl".into(), name: "executor".into() };
        let of = Objects { daemon, policy: Policy::Off, guard_accounts: false, admitted: Vec::new() };
        let accounts = BTreeSet::from([("tasks".to_owned(), "etl".to_owned())]);
        let grants = of.assume_grants(&accounts).unwrap();
        let names: Vec<_> =
            grants.iter().map(|o| (o["kind"].as_str(), o["metadata"]["name"].as_str())).collect();
        assert_eq!(
            names,
            [(Some("Role"), Some("windlass-assume")), (Some("RoleBinding"), Some("windlass-assume"))]
        );
        assert_eq!(grants[1]["roleRef"]["name"], "windlass-assume");
        assert_eq!(
            (&grants[1]["subjects"][0]["name"], &grants[1]["metadata"]["namespace"]),
            (&"executor".into(), &"tasks".into())
        );
    }
}
