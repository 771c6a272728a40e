//! AWS's side of the cluster: EKS's webhook gives each worker pod its role, and pods of `slow` tasks get the branch
//! interface of their security groups. Both webhooks fail open, and the controller loses a job now and then.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use windlass_eks::branch::Options;
use windlass_eks::cluster::SecurityGroups;
use windlass_eks::configuration::irsa_mutating;
use windlass_eks::irsa::{Flags, Webhook};
use windlass_eks::server::{Handler, MUTATE_IRSA, Mode};
use windlass_lab::control_plane::ControlPlane;
use windlass_lab::folder::Folder;
use windlass_lab::prepare::workspace;
use windlass_local_cluster::kubeconfig_file;
use windlass_suite::daemon::until;

use crate::cluster_faults::made;
use crate::deployment::{NAMESPACE, NODE};

/// Variables that the light worker does not start without: the hook's, and the role that the webhook gives.
pub(crate) const DEMANDED: &str = "SUITE_HOOKED,AWS_ROLE_ARN";
/// Seconds after which a pod without its interface is replaced.
pub(crate) const PATIENCE: &str = "10";
/// More than there are `slow` pods at once, those whose interfaces cool down included.
const INTERFACES: usize = 400;
const ACCOUNTS: [(&str, &str); 2] = [
    ("etl", "arn:aws:iam::111122223333:role/etl"),
    ("warehouse", "arn:aws:iam::111122223333:role/warehouse"),
];
const GROUP: &str = "sg-0123456789abcdef0";

const RULES: &str = r#"
[[identity.rule]]
name = "warehouse"
match = { dag = "faults", task = "slow" }
service-account = "warehouse"
role-arn = "arn:aws:iam::111122223333:role/warehouse"
security-groups = ["sg-0123456789abcdef0"]

[identity.default]
service-account = "etl"
role-arn = "arn:aws:iam::111122223333:role/etl"
"#;

/// Webhooks and controller; dropping it ends them.
pub(crate) struct Aws(SecurityGroups);

impl Aws {
    /// Puts it on an API server whose namespace of workers is there; the controller has no node yet.
    pub(crate) async fn install(plane: &ControlPlane) -> Result<Self> {
        let config = kubeconfig_file(&plane.kubeconfig()).await?;
        let more = [(MUTATE_IRSA, webhook())];
        let groups = SecurityGroups::install(config, NAMESPACE, Options::default(), more).await?;
        groups.create(&irsa_mutating(&groups.webhooks)).await?;
        groups.is_asked(MUTATE_IRSA, NAMESPACE).await?;
        let rights = "/apis/rbac.authorization.k8s.io/v1";
        for (kind, manifest) in
            [("clusterroles", "nodes.yaml"), ("clusterrolebindings", "nodes-binding.yaml")]
        {
            let manifest = workspace().join("deploy/rbac/identity").join(manifest);
            plane.create_from_yaml(&format!("{rights}/{kind}"), &manifest).await?;
        }
        give_identities(plane).await?;
        Ok(Self(groups))
    }

    /// Once the node is there.
    pub(crate) async fn take_node(&self, plane: &ControlPlane) -> Result<()> {
        let nodes: Api<Node> = Api::all(plane.client());
        until("the node", async || Ok(nodes.get_opt(NODE).await?)).await?;
        Ok(self.0.controller.add_node(NODE, INTERFACES).await?)
    }

    /// From now on pods come without their role; or with it again.
    pub(crate) fn silence(&self, silent: bool) {
        self.0.webhooks.set_mode(MUTATE_IRSA, if silent { Mode::Silent } else { Mode::Normal });
    }

    /// Pods that the webhook for roles was asked about.
    pub(crate) fn asked(&self) -> u64 {
        self.0.webhooks.calls(MUTATE_IRSA)
    }

    /// Pods that got none so far.
    pub(crate) fn dropped(&self) -> usize {
        self.0.controller.dropped()
    }

    /// The next pods with security groups never get an interface.
    pub(crate) fn drop_jobs(&self, pods: usize) {
        self.0.controller.drop_next(pods);
    }
}

/// Windlass's rules, as a file.
pub(crate) fn write_rules(folder: &Folder) -> Result<String> {
    let path = folder.join("windlass.toml");
    fs::write(&path, RULES).context("write the rules")?;
    Ok(path.display().to_string())
}

/// What goes with the namespace of the workers: accounts, the policy, and the right to look at them.
pub(crate) async fn give_identities(plane: &ControlPlane) -> Result<()> {
    let client = plane.client();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, role) in ACCOUNTS {
        let account = serde_json::from_value(account(name, role))?;
        made(accounts.create(&PostParams::default(), &account).await)?;
    }
    let of = GroupVersionKind::gvk("vpcresources.k8s.aws", "v1beta1", "SecurityGroupPolicy");
    let of = ApiResource::from_gvk_with_plural(&of, "securitygrouppolicies");
    let policies: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &of);
    let policy = json!({
        "apiVersion": "vpcresources.k8s.aws/v1beta1", "kind": "SecurityGroupPolicy",
        "metadata": { "name": "warehouse", "namespace": NAMESPACE },
        "spec": {
            "podSelector": { "matchLabels": { "windlass.dev/identity-rule": "warehouse" } },
            "securityGroups": { "groupIds": [GROUP] },
        },
    });
    made(policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await)?;
    let roles: Api<Role> = Api::namespaced(client.clone(), NAMESPACE);
    made(roles.create(&PostParams::default(), &manifest("role.yaml")?).await)?;
    let bindings: Api<RoleBinding> = Api::namespaced(client, NAMESPACE);
    made(bindings.create(&PostParams::default(), &manifest("role-binding.yaml")?).await)
}

fn manifest<K: k8s_openapi::serde::de::DeserializeOwned>(name: &str) -> Result<K> {
    let path = workspace().join("deploy/rbac/identity").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))
}

fn account(name: &str, role: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "annotations": { "eks.amazonaws.com/role-arn": role },
        },
    })
}

/// It knows the accounts all the time, as the real one's look-up does.
fn webhook() -> Handler {
    let service_accounts = ACCOUNTS.map(|(name, role)| account(name, role)).to_vec();
    let webhook = Webhook { flags: Flags::on_eks("eu-west-1"), service_accounts, ..Webhook::default() };
    let webhook = Mutex::new(webhook);
    Arc::new(move |request| webhook.lock().unwrap_or_else(PoisonError::into_inner).admit(request).into())
}
