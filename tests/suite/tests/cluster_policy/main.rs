//! What `windlass identity render` prints, on a real kube-apiserver: the admission policies that make the identity guard
//! a boundary, and `--diff`.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
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
use windlass_suite::daemon::{Daemon, Database, Variables, service_account, until, windlass};

const ROLE: &str = "arn:aws:iam::111122223333:role/etl";
const DAEMON: &str = "system:serviceaccount:airflow:windlass";
const POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/windlass-identity-airflow";

const RULES: &str = r#"
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
const TEMPLATE: &str = r#"
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

struct World {
    plane: ControlPlane,
    /// The daemon's, by a token of its service account.
    daemon: Client,
    variables: Variables,
    folder: Folder,
}

impl World {
    async fn start(options: Options, rules: &str, template: &str) -> Result<Self> {
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

    fn rendered(&self, more: &[&str]) -> Result<Vec<Value>> {
        let text = self.said(&[&["identity", "render"], more].concat())?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        Ok(objects)
    }

    /// The pod of a task of this DAG, as the daemon would make it.
    fn pod(&self, dag: &str) -> Result<Value> {
        let flags = ["--task-id", "t", "--run-id", "r", "--from-flags", "--output=json"];
        Ok(serde_json::from_str(&self.said(&[&["render", "pod", "--dag-id", dag], &flags[..]].concat())?)?)
    }

    /// As `kubectl apply --server-side` does.
    async fn apply(&self, objects: &[Value]) -> Result<()> {
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

    async fn make_crd(&self) -> Result<()> {
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
    async fn policy_is_sound(&self) -> Result<()> {
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
    async fn policy_works(&self) -> Result<()> {
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
    async fn tried(&self, by: &Client, pod: &Value) -> Result<Result<Value, String>> {
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
async fn call(client: &Client, method: &str, path: &str, body: &Value) -> Result<Result<Value>> {
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
async fn irsa(world: &World) -> Result<Webhooks> {
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
fn all_by_admission() -> Options {
    Options {
        authorization: Authorization::AlwaysAllow,
        service_account_admission: true,
        controller_manager: true,
        ..Options::default()
    }
}

/// `pod` with these changes: a pointer of JSON, and what is put there; null takes it away.
fn changed(pod: &Value, changes: &[(&str, Value)]) -> Value {
    let mut pod = pod.clone();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        match (pod.pointer_mut(parent).unwrap(), value) {
            (Value::Array(items), _) if last == "-" => items.push(value.clone()),
            (Value::Array(items), _) => items[last.parse::<usize>().unwrap()] = value.clone(),
            (Value::Object(fields), Value::Null) => drop(fields.remove(&last)),
            (place, _) => place[&last] = value.clone(),
        }
    }
    pod
}

/// The DAG of the pod, the changes, and what is said of them.
type Case<'a> = (&'a str, Vec<(&'a str, Value)>, &'a str);

fn metadata() -> Vec<Case<'static>> {
    vec![
        (
            "etl",
            vec![("/spec/serviceAccountName", json!("admin"))],
            "spec.serviceAccountName is `admin` where `etl` belongs",
        ),
        (
            "other",
            vec![("/spec/serviceAccountName", json!("etl"))],
            "spec.serviceAccountName is `etl` where `workers` belongs",
        ),
        (
            "etl",
            vec![("/metadata/namespace", json!("finance"))],
            "metadata.namespace is `finance` where `tasks` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/team", json!("ops"))],
            "metadata.labels[team] is `ops` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/team", Value::Null)],
            "metadata.labels[team] is `` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/annotations/owner.example.org~1team", json!("ops"))],
            "metadata.annotations[owner.example.org/team] is `ops` where `etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/labels/eks.amazonaws.com~1skip-pod-identity-webhook", json!("true"))],
            "metadata.labels[eks.amazonaws.com/skip-pod-identity-webhook] is `true`",
        ),
        (
            "etl",
            vec![("/metadata/annotations/eks.amazonaws.com~1skip-containers", json!("base"))],
            "metadata.annotations[eks.amazonaws.com/skip-containers] is `base`",
        ),
        (
            "other",
            vec![("/metadata/annotations/k8s.v1.cni.cncf.io~1networks", json!("host"))],
            "metadata.annotations[k8s.v1.cni.cncf.io/networks] is `host`",
        ),
    ]
}

fn of_the_gate_and_nodes() -> Vec<Case<'static>> {
    vec![
        (
            "etl",
            vec![("/metadata/annotations/windlass.dev~1role-arn", Value::Null)],
            "metadata.annotations[windlass.dev/role-arn] is `` where `arn:aws:iam::111122223333:role/etl` belongs",
        ),
        (
            "etl",
            vec![("/metadata/annotations/windlass.dev~1security-groups", json!("sg-1"))],
            "metadata.annotations[windlass.dev/security-groups] is `sg-1` where `sg-0123456789abcdef0` belongs",
        ),
        (
            "etl",
            vec![("/spec/schedulingGates", Value::Null)],
            "spec.schedulingGates is without `windlass.dev/identity`",
        ),
        (
            "etl",
            vec![("/spec/nodeSelector", Value::Null)],
            "spec.nodeSelector[pool] is `` where `etl` belongs",
        ),
        (
            "other",
            vec![("/spec/imagePullSecrets/-", json!({"name": "theirs"}))],
            "spec.imagePullSecrets is `theirs`",
        ),
    ]
}

fn of_the_host() -> Vec<Case<'static>> {
    let base =
        |field: &str| -> &'static str { Box::leak(format!("/spec/containers/0/{field}").into_boxed_str()) };
    vec![
        ("other", vec![("/spec/hostNetwork", json!(true))], "spec.hostNetwork is `true`"),
        ("other", vec![("/spec/hostPID", json!(true))], "spec.hostPID is `true`"),
        ("other", vec![("/spec/hostIPC", json!(true))], "spec.hostIPC is `true`"),
        ("etl", vec![("/spec/shareProcessNamespace", json!(true))], "spec.shareProcessNamespace is `true`"),
        ("other", vec![("/spec/nodeName", json!("n1"))], "spec.nodeName is `n1`"),
        ("etl", vec![("/spec/runtimeClassName", json!("kata"))], "spec.runtimeClassName is `kata`"),
        (
            "etl",
            vec![("/spec/volumes/-", json!({"name": "h", "hostPath": {"path": "/"}}))],
            "spec.volumes[h].hostPath is `/`",
        ),
        (
            "etl",
            vec![("/spec/volumes/0", json!({"name": "node", "hostPath": {"path": "/"}}))],
            "spec.volumes[node].hostPath is `/`",
        ),
        (
            "etl",
            vec![("/spec/volumes/-", json!({"name": "f", "flexVolume": {"driver": "x/y"}}))],
            "spec.volumes[f].flexVolume is `x/y`",
        ),
        (
            "etl",
            vec![(base("volumeMounts"), json!([{"name": "node", "mountPath": "/host"}]))],
            "spec.containers[base].volumeMounts[node] is `/host `",
        ),
        (
            "etl",
            vec![("/spec/containers/1/volumeMounts/0/subPath", Value::Null)],
            "spec.containers[logs].volumeMounts[node] is `/node `",
        ),
        (
            "other",
            vec![(base("ports"), json!([{"containerPort": 80, "hostPort": 80}]))],
            "spec.containers[base].ports.hostPort is `80`",
        ),
    ]
}

fn of_privileges() -> Vec<Case<'static>> {
    const CONTEXT: &str = "/spec/containers/0/securityContext";
    const INIT: &str = "/spec/initContainers/-";
    let container = |context: Value| vec![(CONTEXT, context)];
    vec![
        (
            "etl",
            container(json!({"privileged": true})),
            "spec.containers[base].securityContext.privileged is `true`",
        ),
        (
            "etl",
            container(json!({"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}})),
            "spec.containers[base].securityContext.capabilities.add is `CHOWN`; \
             spec.containers[base].securityContext.capabilities.add is `SYS_ADMIN`",
        ),
        (
            "other",
            vec![("/spec/hostUsers", json!(false)), (CONTEXT, json!({"procMount": "Unmasked"}))],
            "spec.containers[base].securityContext.procMount is `Unmasked`",
        ),
        (
            "etl",
            container(json!({"seccompProfile": {"type": "Unconfined"}})),
            "spec.containers[base].securityContext.seccompProfile.type is `Unconfined`",
        ),
        (
            "etl",
            container(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "spec.containers[base].securityContext.appArmorProfile.type is `Unconfined`",
        ),
        (
            "etl",
            container(json!({"seLinuxOptions": {"type": "spc_t"}})),
            "spec.containers[base].securityContext.seLinuxOptions.type is `spc_t`",
        ),
        (
            "etl",
            vec![("/spec/securityContext/seLinuxOptions/level", json!("s0:c1"))],
            "spec.securityContext.seLinuxOptions.level is `s0:c1`",
        ),
        (
            "etl",
            vec![("/spec/securityContext/sysctls/-", json!({"name": "kernel.sem", "value": "1"}))],
            "spec.securityContext.sysctls[kernel.sem] is `1`",
        ),
        (
            "etl",
            vec![(INIT, json!({"name": "i", "image": "i", "securityContext": {"privileged": true}}))],
            "spec.initContainers[i].securityContext.privileged is `true`",
        ),
    ]
}

/// Another program in a container that may more than the worker.
fn of_trusted_containers() -> Vec<Case<'static>> {
    vec![
        ("etl", vec![("/spec/containers/1/image", json!("mine"))], "spec.containers[logs] is set or changed"),
        (
            "etl",
            vec![("/spec/containers/1/command/-", json!("-x"))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/env/-", json!({"name": "LD_PRELOAD"}))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/livenessProbe/exec/command/0", json!("mine"))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/containers/1/lifecycle", json!({"postStart": {"exec": {"command": ["mine"]}}}))],
            "spec.containers[logs] is set or changed",
        ),
        (
            "etl",
            vec![("/spec/initContainers/0/args/0", json!("mine"))],
            "spec.initContainers[mesh] is set or changed",
        ),
    ]
}

fn of_tokens() -> Vec<Case<'static>> {
    const VOLUME: &str = "/spec/volumes/-";
    const MOUNTS: &str = "/spec/containers/0/volumeMounts";
    let token = |name: &str, audience: &str| json!({"name": name, "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}});
    let scratch = (VOLUME, json!({"name": "x", "emptyDir": {}}));
    let mount = |path: &str| vec![scratch.clone(), (MOUNTS, json!([{"name": "x", "mountPath": path}]))];
    vec![
        (
            "etl",
            vec![("/spec/automountServiceAccountToken", json!(true))],
            "spec.automountServiceAccountToken is `true` where `false` belongs",
        ),
        (
            "etl",
            vec![(VOLUME, token("t", "bank"))],
            "spec.volumes[t].projected.serviceAccountToken is `bank`",
        ),
        // Under the names that webhooks use, with other audiences.
        (
            "other",
            vec![(VOLUME, token("eks-pod-identity-token", "bank"))],
            "spec.volumes[eks-pod-identity-token].projected.serviceAccountToken is `bank`",
        ),
        (
            "other",
            vec![(VOLUME, token("kube-api-access-mine", ""))],
            "spec.volumes[kube-api-access-mine].projected.serviceAccountToken is ``",
        ),
        (
            "other",
            vec![(MOUNTS, json!([{"name": "vault", "mountPath": "/v"}]))],
            "spec.containers[base].volumeMounts[vault] is `/v `",
        ),
        (
            "other",
            mount("/var/run/secrets/eks.amazonaws.com/serviceaccount"),
            "spec.containers[base].volumeMounts[x] is `/var/run/secrets/eks.amazonaws.com/serviceaccount`",
        ),
        (
            "other",
            mount("//run/./secrets/kubernetes.io/serviceaccount/deep"),
            "spec.containers[base].volumeMounts[x] is `//run/./secrets/kubernetes.io/serviceaccount/deep`",
        ),
        ("other", mount("/a/../run"), "spec.containers[base].volumeMounts[x] is `/a/../run`"),
    ]
}

fn of_keys() -> Vec<Case<'static>> {
    const ENV: &str = "/spec/containers/0/env/-";
    vec![
        (
            "etl",
            vec![(ENV, json!({"name": "AWS_SECRET_ACCESS_KEY", "value": "hidden"}))],
            "spec.containers[base].env[AWS_SECRET_ACCESS_KEY] is set",
        ),
        (
            "etl",
            vec![("/spec/containers/0/env/-", json!({"name": "AWS_CONFIG_FILE", "value": "/tmp/mine"}))],
            "spec.containers[base].env[AWS_CONFIG_FILE] is set",
        ),
        (
            "etl",
            vec![(ENV, json!({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/admin"}))],
            "spec.containers[base].env[AWS_ROLE_ARN] is set",
        ),
        (
            "etl",
            vec![(
                ENV,
                json!({"name": "AWS_ROLE_ARN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            )],
            "spec.containers[base].env[AWS_ROLE_ARN] is set",
        ),
        (
            "other",
            vec![(
                ENV,
                json!({"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.169.254/"}),
            )],
            "spec.containers[base].env[AWS_CONTAINER_CREDENTIALS_FULL_URI] is set",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemons_token_makes_the_pods_of_the_rules_and_no_others() -> Result<()> {
    let world = World::start(all_by_admission(), RULES, TEMPLATE).await?;
    let _webhooks = irsa(&world).await?;
    world.make_crd().await?;
    world.apply(&world.rendered(&["--daemon", DAEMON, "--guard-accounts"])?).await?;
    for (namespace, account) in
        [("tasks", "workers"), ("tasks", "admin"), ("finance", "etl"), ("finance", "workers")]
    {
        world.plane.create_service_account(namespace, account).await?;
    }
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "k"});
    call(&world.plane.client(), "POST", "/apis/node.k8s.io/v1/runtimeclasses", &class).await??;
    world.policy_is_sound().await?;

    for dag in ["etl", "free", "other"] {
        let made =
            world.tried(&world.daemon, &world.pod(dag)?).await?.map_err(anyhow::Error::msg).context(dag)?;
        let role = made["spec"]["containers"][0]["env"].to_string().contains(ROLE);
        ensure!(role == (dag == "etl"), "the webhook was to have been asked: {made}");
    }
    let free = world.pod("free")?;
    let mut wrong = String::new();
    let cases = [
        metadata(),
        of_the_gate_and_nodes(),
        of_the_host(),
        of_privileges(),
        of_trusted_containers(),
        of_tokens(),
        of_keys(),
    ];
    for (dag, changes, words) in cases.concat() {
        let name = if dag == "etl" { "etl" } else { "default" };
        match world.tried(&world.daemon, &changed(&world.pod(dag)?, &changes)).await? {
            Ok(pod) => writeln!(wrong, "{words}: created {pod}")?,
            Err(why) => {
                let says = format!("denied request: identity rule `{name}` does not let a pod have this: ");
                if !why.starts_with("403 ")
                    || !why.contains(&says)
                    || !why.contains(words)
                    || why.contains("hidden")
                {
                    writeln!(wrong, "{words}: {why}")?;
                }
            }
        }
        // The rule that frees everything frees it; what belongs to its namespace or to a gate is another pod's.
        let same_place = !words.contains("windlass.dev/") && !words.contains("nodeSelector");
        if same_place && !changes.iter().any(|(pointer, _)| pointer.ends_with("/namespace")) {
            let free = changed(
                &free,
                &changes.into_iter().filter(|(_, value)| !value.is_null()).collect::<Vec<_>>(),
            );
            let account = free["spec"]["serviceAccountName"] == "admin";
            if let (Err(why), false) = (world.tried(&world.daemon, &free).await?, account) {
                writeln!(wrong, "{words}, freed: {why}")?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    updates(&world).await?;
    others(&world).await
}

/// What the daemon's token can change of a pod that is there.
async fn updates(world: &World) -> Result<()> {
    let pod = world.pod("etl")?;
    let path = "/api/v1/namespaces/tasks/pods";
    let made = call(&world.daemon, "POST", path, &pod).await??;
    let path = format!("{path}/{}", made["metadata"]["name"].as_str().unwrap());
    for (change, words) in [
        (
            json!({"metadata": {"labels": {"windlass.dev/identity-rule": "Free-one"}}}),
            "metadata.labels[windlass.dev/identity-rule]",
        ),
        (
            json!({"metadata": {"labels": {"windlass.dev/identity-rule": null}}}),
            "metadata.labels[windlass.dev/identity-rule]",
        ),
        (json!({"metadata": {"labels": {"team": "ops"}}}), "metadata.labels[team]"),
        (
            json!({"metadata": {"labels": {"eks.amazonaws.com/x": "y"}}}),
            "metadata.labels[eks.amazonaws.com/x]",
        ),
        (
            json!({"metadata": {"annotations": {"windlass.dev/role-arn": null}}}),
            "metadata.annotations[windlass.dev/role-arn]",
        ),
        (json!({"spec": {"containers": [{"name": "logs", "image": "mine"}]}}), "spec.containers[logs].image"),
        (
            json!({"spec": {"initContainers": [{"name": "mesh", "image": "mine"}]}}),
            "spec.initContainers[mesh].image",
        ),
    ] {
        let why = call(&world.daemon, "PATCH", &path, &change).await?.err().context(words)?.to_string();
        let says = format!("nothing may change of a pod by which it could get another identity: {words}");
        ensure!(why.starts_with("403 ") && why.contains(&says), "{why}");
    }
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "d"}]}});
    let why = call(&world.daemon, "PATCH", &format!("{path}/ephemeralcontainers"), &debug).await?;
    let why = why.err().context("an ephemeral container")?.to_string();
    ensure!(why.contains("Windlass adds no ephemeral containers"), "{why}");
    // What the daemon, and an Airflow with another executor, do.
    for change in [
        json!({"metadata": {"labels": {"airflow-worker": "8", "airflow_executor_done": "True"}}}),
        json!({"spec": {"schedulingGates": [{"name": "windlass.dev/identity", "$patch": "delete"}]}}),
    ] {
        call(&world.daemon, "PATCH", &path, &change).await?.with_context(|| change.to_string())?;
    }
    Ok(())
}

/// What others can.
async fn others(world: &World) -> Result<()> {
    let admin = world.plane.client();
    let plain = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs", "namespace": "tasks"},
        "spec": {"serviceAccountName": "workers", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
    });
    world.tried(&admin, &plain).await?.map_err(anyhow::Error::msg)?;
    let why = world.tried(&admin, &changed(&plain, &[("/spec/serviceAccountName", json!("etl"))])).await?;
    let says = format!(
        "ValidatingAdmissionPolicy 'windlass-accounts-airflow' with binding 'windlass-accounts-airflow' denied request: \
         spec.serviceAccountName is `etl`, which an identity rule gives: only {DAEMON} creates pods with it"
    );
    ensure!(why.clone().is_err_and(|why| why.contains(&says)), "{why:?}");
    let label = [("/metadata/labels", json!({"windlass.dev/identity-rule": "etl"}))];
    let why = world.tried(&admin, &changed(&plain, &label)).await?;
    let says = format!("label windlass.dev/identity-rule is `etl`, which only {DAEMON} gives and takes");
    ensure!(why.clone().is_err_and(|why| why.contains(&says)), "{why:?}");

    call(&admin, "POST", "/api/v1/namespaces/tasks/pods", &plain).await??;
    let path = "/api/v1/namespaces/tasks/pods/theirs";
    let change = json!({"metadata": {"labels": {"windlass.dev/identity-rule": "etl"}}});
    let why = call(&admin, "PATCH", path, &change).await?.err().context("a label")?.to_string();
    ensure!(why.contains(&says), "{why}");
    call(&admin, "PATCH", path, &json!({"metadata": {"labels": {"team": "etl"}}})).await??;
    Ok(())
}

/// As large as a company's, with pods as large as none should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_rules_are_within_what_expressions_may_cost() -> Result<()> {
    let mut rules = String::from("[identity.default]\n");
    for n in 0..200 {
        write!(
            rules,
            "\n[[identity.rule]]\nname = \"team-{n}\"\nmatch = {{ dag = \"team_{n}\" }}\n\
             service-account = \"team-{n}\"\nrole-arn = \"arn:aws:iam::111122223333:role/airflow/team-{n}\"\n\
             labels = {{ team = \"team-{n}\", cost-center = \"{n}\" }}\nnode-selector = {{ pool = \"team-{n}\" }}\n\
             may-override = [\"image-pull-secrets\"]\n"
        )?;
    }
    // The API server mounts its token: nobody says otherwise.
    let template =
        "spec: {containers: [{name: base, image: i}], volumes: [{name: h, hostPath: {path: /data}}]}\n";
    let world = World::start(all_by_admission(), &rules, template).await?;
    let mut objects = world.rendered(&[])?;
    for account in objects.iter_mut().filter(|object| object["kind"] == "ServiceAccount") {
        account["automountServiceAccountToken"] = json!(true);
    }
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] != "ServiceAccount" || ["team-0", "team-199"].contains(&name)
    });
    world.apply(&objects).await?;
    world.policy_is_sound().await?;
    for dag in ["team_0", "team_199"] {
        let mut pod = world.pod(dag)?;
        let env = Vec::from_iter(
            (0..200).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "of some length"})),
        );
        let more =
            Vec::from_iter((0..20).map(|n| json!({"name": format!("c{n}"), "image": "i", "env": env})));
        pod["spec"]["containers"].as_array_mut().unwrap().extend(more);
        let made = world.tried(&world.daemon, &pod).await?.map_err(anyhow::Error::msg)?;
        ensure!(made["spec"]["volumes"].to_string().contains("kube-api-access-"), "{made}");
        pod["spec"]["containers"][20]["securityContext"] = json!({"privileged": true});
        let why = world.tried(&world.daemon, &pod).await?.err().context("a privileged one")?;
        ensure!(why.contains("spec.containers[c19].securityContext.privileged is `true`"), "{why}");
    }
    Ok(())
}

/// A policy of an older template: what the daemon makes is refused, and the task's failure says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_pod_the_policy_refuses_fails_with_its_words() -> Result<()> {
    let template = "spec: {containers: [{name: base, image: i}]}\n";
    let options = Options { controller_manager: false, ..all_by_admission() };
    let world = World::start(options, RULES, template).await?;
    world.make_crd().await?;
    world.apply(&world.rendered(&[])?).await?;
    world.policy_works().await?;
    fs::write(world.folder.join("template.yaml"), template.replace("spec: {", "spec: {hostPID: true, "))?;

    let database = Database::ready().await?;
    fs::write(world.folder.join("token"), world.plane.service_account_token("airflow", "windlass").await?)?;
    fs::copy(world.plane.ca(), world.folder.join("ca.crt"))?;
    let mut variables = service_account(world.plane.url(), world.folder.path(), "tasks");
    variables.extend(database.daemon());
    for name in ["POD_TEMPLATE_FILE", "MULTI_NAMESPACE_MODE"] {
        let name = format!("AIRFLOW__KUBERNETES_EXECUTOR__{name}");
        variables.insert(name.clone(), world.variables[&name].clone());
    }
    variables.insert("WINDLASS_CONFIG".into(), world.variables["WINDLASS_CONFIG"].clone());
    let daemon = Daemon::start(&world.folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading").await?;
    // `{}`, pickled.
    database.queue("load", "80057d942e")?;
    let said = until("the failure", async || {
        let sql = "SELECT reason || ': ' || message FROM windlass.launch WHERE outcome = 'failure'";
        Ok(Some(database.sql(sql)?).filter(|said| !said.is_empty()))
    })
    .await?;
    for words in [
        "IdentityDenied: ",
        "ValidatingAdmissionPolicy 'windlass-identity-airflow' with binding 'windlass-identity-airflow' denied request: \
         identity rule `etl` does not let a pod have this: spec.hostPID is `true`; take it out, or have the platform add \
         \"host\" to the rule's may-override",
        "apply `windlass identity render` again",
    ] {
        ensure!(said.contains(words), "{said}");
    }
    Ok(())
}

/// Exit code, and what was printed.
fn diff(variables: &Variables) -> Result<(Option<i32>, String)> {
    let output = windlass(variables, &["identity", "render", "--diff"])?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(text)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_says_what_an_apply_would_change_and_what_is_there_besides() -> Result<()> {
    let options = Options { service_account_admission: true, ..Options::default() };
    let world = World::start(options, RULES, TEMPLATE).await?;
    let admin = world.plane.client();
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(5) && text.contains("this cluster knows no SecurityGroupPolicy"), "{code:?} {text}");
    world.make_crd().await?;

    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(1), "{code:?} {text}");
    for line in [
        "--- cluster ServiceAccount tasks/etl (missing)\n+++ rules   ServiceAccount tasks/etl\n",
        "+    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/etl\"\n",
        "--- cluster SecurityGroupPolicy tasks/windlass-etl (missing)\n",
        "--- cluster ValidatingAdmissionPolicy windlass-identity-airflow (missing)\n",
        // 2 accounts, 1 SecurityGroupPolicy, 2 roles and bindings in 2 namespaces, those of nodes, policy and binding.
        "15 objects compared: 0 to change, 15 missing; 0 besides the rules\n",
    ] {
        ensure!(text.contains(line), "{line}: {text}");
    }
    let accounts = "/api/v1/namespaces/tasks/serviceaccounts";
    ensure!(
        call(&admin, "GET", &format!("{accounts}/etl"), &Value::Null).await?.is_err(),
        "a diff makes nothing"
    );

    world.apply(&world.rendered(&[])?).await?;
    let (code, text) = diff(&world.variables)?;
    ensure!((code, text.as_str()) == (Some(0), "no difference: 15 objects compared\n"), "{code:?} {text}");

    // Changed, taken away, and put beside.
    let change = json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/old"}}});
    call(&admin, "PATCH", &format!("{accounts}/etl"), &change).await??;
    call(
        &admin,
        "DELETE",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/finance/roles/windlass",
        &Value::Null,
    )
    .await??;
    let besides = json!({"metadata": {"name": "old", "annotations": {"eks.amazonaws.com/role-arn": ROLE}}});
    call(&admin, "POST", accounts, &besides).await??;
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(1), "{code:?} {text}");
    for line in [
        "-    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/old\"\n\
         +    eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/etl\"\n",
        "--- cluster Role finance/windlass (missing)\n",
        "besides the rules: ServiceAccount tasks/old has arn:aws:iam::111122223333:role/etl, which the rules give to other \
         accounts\n",
        "15 objects compared: 1 to change, 1 missing; 1 besides the rules\n",
    ] {
        ensure!(text.contains(line), "{line}: {text}");
    }

    // Without the rights, as the daemon has none.
    let mut variables = world.variables.clone();
    let kubeconfig = world.plane.service_account_kubeconfig("airflow", "windlass").await?;
    variables.insert("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE".into(), kubeconfig.display().to_string());
    let (code, text) = diff(&variables)?;
    ensure!(code == Some(5), "{code:?} {text}");
    for words in [
        "cannot get resource \"serviceaccounts\"",
        "it takes get, list, patch and create on",
        "rolebindings.rbac",
    ] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    // A template that is not there would make another policy.
    fs::remove_file(world.folder.join("template.yaml"))?;
    let (code, text) = diff(&world.variables)?;
    ensure!(code == Some(5) && text.contains("template.yaml` is not here"), "{code:?} {text}");
    Ok(())
}
