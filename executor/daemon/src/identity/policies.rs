//! The Kubernetes objects of the rules: what `windlass identity render` prints and `--diff` compares.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;
use windlass_core::identity::manifests::{kubernetes, namespaces};
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
        for namespace in namespaces(rules, namespace) {
            for text in [ROLE, BINDING] {
                let mut object: Value = serde_saphyr::from_str(text)
                    .map_err(|error| Failure::other(format!("deploy/rbac cannot be read: {error}")))?;
                object["metadata"]["namespace"] = namespace.as_str().into();
                if object["kind"] == "RoleBinding" {
                    object["subjects"][0]["namespace"] = self.daemon.namespace.as_str().into();
                    object["subjects"][0]["name"] = self.daemon.name.as_str().into();
                }
                objects.push(object);
            }
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
            .measured(rule)
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
}
