//! A control plane with the namespaces of the rules, and what the platform and the daemon do with it.

use std::fs;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use windlass_eks::configuration::irsa_mutating;
use windlass_eks::irsa::{Flags, Webhook};
use windlass_eks::policy::security_group_policy_crd;
use windlass_eks::server::{Handler, MUTATE_IRSA, Webhooks};
use windlass_lab::control_plane::{Authorization, ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_suite::daemon::{Variables, until, windlass};

pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/etl";
pub(crate) const DAEMON: &str = "system:serviceaccount:airflow:windlass";
const POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/windlass-identity-airflow";

pub(crate) const RULES: &str = r#"
[[identity.rule]]
name = "etl"
match = { dag = "etl" }
service-account = "etl"
role-arn = "arn:aws:iam::111122223333:role/etl"
security-groups = ["sg-0123456789abcdef0"]
labels = { team = "etl" }
annotations = { "owner.example.org/team" = "etl" }
node-selector = { pool = "etl" }

[[identity.rule]]
name = "Free one"
match = { dag = "free" }
service-account = "free"
namespace = "finance"
may-override = ["service-account", "namespace", "labels", "host", "privileged", "tokens", "image-pull-secrets", "aws-env", "node-selector"]

[identity.default]
"#;

/// With much of what a platform may have in it.
pub(crate) const TEMPLATE: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  labels: {tier: workers}
spec:
  serviceAccountName: workers
  automountServiceAccountToken: false
  imagePullSecrets: [{name: registry}]
  securityContext: {seLinuxOptions: {level: "s0"}, sysctls: [{name: vm.max_map_count, value: "262144"}]}
  initContainers:
    - name: mesh
      image: mesh:1
      args: [setup, --quiet]
      securityContext: {capabilities: {add: [NET_ADMIN]}}
  containers:
    - name: base
      image: airflow:2.11
      env: [{name: AWS_CONFIG_FILE, value: /etc/aws}, {name: AWS_ACCESS_KEY, value: s3cret}]
    - name: logs
      image: logs:1
      command: [ship]
      ports: [{containerPort: 9000, hostPort: 9000}]
      env: [{name: LEVEL, value: info}]
      volumeMounts: [{name: node, mountPath: /node, subPath: pods}, {name: vault, mountPath: /vault}]
      livenessProbe: {exec: {command: [healthy]}}
      securityContext: {privileged: true, appArmorProfile: {type: Unconfined}}
  volumes:
    - {name: node, hostPath: {path: /var/log}}
    - {name: vault, projected: {sources: [{serviceAccountToken: {audience: vault, path: token}}]}}
"#;

pub(crate) struct World {
    pub(crate) plane: ControlPlane,
    /// The daemon's, by a token of its service account.
    pub(crate) daemon: Client,
    pub(crate) variables: Variables,
    pub(crate) folder: Folder,
}

impl World {
    pub(crate) async fn start(options: Options, rules: &str, template: &str) -> Result<Self> {
        let folder = Folder::new("cluster-policy")?;
        let plane = ControlPlane::start(options).await?;
        for namespace in ["airflow", "tasks", "finance"] {
            plane.create_namespace(namespace).await?;
        }
        plane.create_service_account("airflow", "windlass").await?;
        let daemon = client(&plane.service_account_kubeconfig("airflow", "windlass").await?).await?;
        fs::write(folder.join("windlass.toml"), rules)?;
        fs::write(folder.join("template.yaml"), template)?;
        let path = |file: &str| folder.join(file).display().to_string();
        let variables = [
            ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", "tasks".to_owned()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE", "True".to_owned()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path("template.yaml")),
            ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False".to_owned()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", plane.kubeconfig().display().to_string()),
            ("WINDLASS_CONFIG", path("windlass.toml")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(Self { plane, daemon, variables, folder })
    }

    /// What `windlass` prints, which has to go well.
    fn said(&self, arguments: &[&str]) -> Result<String> {
        let output = windlass(&self.variables, arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn rendered(&self, more: &[&str]) -> Result<Vec<Value>> {
        let text = self.said(&[&["identity", "render"], more].concat())?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        Ok(objects)
    }

    /// The pod of a task of this DAG, as the daemon would make it.
    pub(crate) fn pod(&self, dag: &str) -> Result<Value> {
        let flags = ["--task-id", "t", "--run-id", "r", "--from-flags", "--output=json"];
        Ok(serde_json::from_str(&self.said(&[&["render", "pod", "--dag-id", dag], &flags[..]].concat())?)?)
    }

    /// As `kubectl apply --server-side` does.
    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<()> {
        for object in objects {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let plural = match object["kind"].as_str() {
                Some("SecurityGroupPolicy") => "securitygrouppolicies".to_owned(),
                Some("ValidatingAdmissionPolicy") => "validatingadmissionpolicies".to_owned(),
                kind => format!("{}s", kind.unwrap_or_default().to_lowercase()),
            };
            let api = match text(&object["apiVersion"]).as_str() {
                "v1" => "/api/v1".to_owned(),
                other => format!("/apis/{other}"),
            };
            let place = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("/namespaces/{namespace}"),
                None => String::new(),
            };
            let name = text(&object["metadata"]["name"]);
            let path = format!("{api}{place}/{plural}/{name}?fieldManager=windlass&force=true");
            call(&self.plane.client(), "PATCH", &path, object)
                .await
                .with_context(|| format!("apply {name}"))??;
        }
        Ok(())
    }

    pub(crate) async fn make_crd(&self) -> Result<()> {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        call(&self.plane.client(), "POST", path, &security_group_policy_crd()).await??;
        let path = "/apis/vpcresources.k8s.aws/v1beta1/securitygrouppolicies";
        until("the custom resource", async || {
            Ok(call(&self.plane.client(), "GET", path, &Value::Null).await?.ok())
        })
        .await?;
        Ok(())
    }

    /// Waits until the API server knows the policy, and its controller has checked the expressions against the types of a
    /// pod: it must have found nothing.
    pub(crate) async fn policy_is_sound(&self) -> Result<()> {
        let policy = until("the policy's check of types", async || {
            let policy = call(&self.plane.client(), "GET", POLICY, &Value::Null).await??;
            Ok(policy["status"]["typeChecking"].is_object().then_some(policy))
        })
        .await?;
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.as_array().is_none_or(Vec::is_empty), "{warnings:#}");
        self.policy_works().await
    }

    /// Waits until the API server asks the policy.
    pub(crate) async fn policy_works(&self) -> Result<()> {
        until("the policy at work", async || {
            let mut stranger = self.pod("other")?;
            stranger["metadata"]["labels"]["windlass.dev/identity-rule"] = json!("nobody");
            Ok(self
                .tried(&self.daemon, &stranger)
                .await?
                .err()
                .filter(|why| why.contains("windlass-identity")))
        })
        .await?;
        Ok(())
    }

    /// A create that makes nothing: the server's words if it is refused.
    pub(crate) async fn tried(&self, by: &Client, pod: &Value) -> Result<Result<Value, String>> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let answer =
            call(by, "POST", &format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), pod).await?;
        Ok(answer.map_err(|error| error.to_string()))
    }
}

async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// One call; a refusal of the API server is the inner error, with its words.
pub(crate) async fn call(client: &Client, method: &str, path: &str, body: &Value) -> Result<Result<Value>> {
    let kind = match (method, path.contains("fieldManager=")) {
        ("PATCH", true) => "application/apply-patch+yaml",
        ("PATCH", false) => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", kind).body(body)?;
    match client.request_text(request).await {
        Ok(text) => Ok(Ok(serde_json::from_str(&text)?)),
        Err(kube::Error::Api(status)) => Ok(Err(anyhow::anyhow!("{} {}", status.code, status.message))),
        Err(other) => Err(other.into()),
    }
}

/// EKS's webhook for roles, with the accounts of the rules.
pub(crate) async fn irsa(world: &World) -> Result<Webhooks> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "etl", "namespace": "tasks", "annotations": { "eks.amazonaws.com/role-arn": ROLE } },
    });
    let webhook =
        Webhook { flags: Flags::on_eks("eu-west-1"), service_accounts: vec![account], ..Webhook::default() };
    let webhook = Mutex::new(webhook);
    let handler: Handler = Arc::new(move |request: &Value| webhook.lock().unwrap().admit(request).into());
    let webhooks = Webhooks::start([(MUTATE_IRSA, handler)]).await?;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    call(&world.plane.client(), "POST", path, &irsa_mutating(&webhooks)).await??;
    Ok(webhooks)
}

/// Everybody may everything but for admission, so that nothing else refuses.
pub(crate) fn all_by_admission() -> Options {
    Options {
        authorization: Authorization::AlwaysAllow,
        service_account_admission: true,
        controller_manager: true,
        ..Options::default()
    }
}
