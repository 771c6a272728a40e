//! `windlass doctor` in a cluster that looks like EKS: the binary against a real kube-apiserver with EKS's webhooks, the
//! objects of its CNI and nodes, under the shipped RBAC. There is no database: what the doctor says of that is not looked at.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use http::Request;
use serde_json::{Value, json};
use windlass_eks::branch;
use windlass_eks::cluster::SecurityGroups;
use windlass_eks::configuration::irsa_mutating;
use windlass_eks::irsa::{Flags, Webhook};
use windlass_eks::server::{Handler, MUTATE_IRSA, Mode};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_lab::prepare::workspace;
use windlass_local_cluster::kubeconfig_file;
use windlass_suite::daemon::{Variables, connection, service_account, until, windlass};

const ROLE: &str = "arn:aws:iam::111122223333:role/etl";
const GROUP: &str = "sg-0123456789abcdef0";

const RULES: &str = r#"
[[identity.rule]]
name = "etl"
match = { dag = "etl" }
service-account = "etl-worker"
role-arn = "arn:aws:iam::111122223333:role/etl"
security-groups = ["sg-0123456789abcdef0"]
namespace = "data"
node-selector = { pool = "workers" }

[identity.default]
"#;

/// Two rules more: an account that the webhook does not know yet, and one that does not exist.
const LATE: &str = r#"
[[identity.rule]]
name = "late"
match = { dag = "late" }
service-account = "late-worker"
namespace = "data"

[[identity.rule]]
name = "gone"
match = { dag = "gone" }
service-account = "gone-worker"
namespace = "data"
"#;

const TEMPLATE: &str =
    "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n      image: airflow:2.11\n";

struct World {
    // Dropped in this order: clients of the API server first.
    groups: SecurityGroups,
    folder: Folder,
    plane: ControlPlane,
    irsa: Arc<Mutex<Webhook>>,
    variables: Variables,
}

impl World {
    /// The API server with EKS's security groups for pods, and the daemon's account under deploy/rbac alone.
    async fn start() -> Result<Self> {
        let folder = Folder::new("cluster-doctor-eks")?;
        let plane =
            ControlPlane::start(Options { service_account_admission: true, ..Options::default() }).await?;
        for namespace in ["airflow", "data"] {
            plane.create_namespace(namespace).await?;
        }
        plane.create_service_account("airflow", "windlass").await?;
        let irsa = Webhook { flags: Flags::on_eks("eu-west-1"), ..Webhook::default() };
        let irsa = Arc::new(Mutex::new(irsa));
        let config = kubeconfig_file(&plane.kubeconfig()).await?;
        let more = [(MUTATE_IRSA, of_irsa(irsa.clone()))];
        let groups = SecurityGroups::install(config, "data", branch::Options::default(), more).await?;
        let token = plane.service_account_token("airflow", "windlass").await?;
        for (file, text) in [("windlass.toml", RULES), ("template.yaml", TEMPLATE), ("token", &token)] {
            fs::write(folder.join(file), text)?;
        }
        fs::copy(plane.ca(), folder.join("ca.crt"))?;
        let mut variables = service_account(plane.url(), folder.path(), "airflow");
        // Nothing listens there.
        variables.extend(connection("postgresql://windlass@127.0.0.1:1/airflow"));
        let path = |file: &str| folder.join(file).display().to_string();
        let more = [
            ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path("template.yaml")),
            ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE", "True".into()),
            ("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE_NAMESPACE_LIST", "airflow,data".into()),
            ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True".into()),
            ("WINDLASS_CONFIG", path("windlass.toml")),
        ];
        variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let world = Self { groups, folder, plane, irsa, variables };
        for namespace in ["airflow", "data"] {
            world.deploy("role.yaml", namespace, "roles").await?;
            world.deploy("role-binding.yaml", namespace, "rolebindings").await?;
        }
        Ok(world)
    }

    /// A file of deploy/rbac.
    async fn deploy(&self, file: &str, namespace: &str, kind: &str) -> Result<()> {
        let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let collection = format!("/apis/rbac.authorization.k8s.io/v1{place}/{kind}");
        self.plane.create_from_yaml(&collection, &workspace().join("deploy/rbac").join(file)).await
    }

    /// What the daemon looks at for rules.
    async fn grant_looks(&self) -> Result<()> {
        for namespace in ["airflow", "data"] {
            self.deploy("identity/role.yaml", namespace, "roles").await?;
            self.deploy("identity/role-binding.yaml", namespace, "rolebindings").await?;
        }
        self.deploy("identity/nodes.yaml", "", "clusterroles").await?;
        self.deploy("identity/nodes-binding.yaml", "", "clusterrolebindings").await
    }

    async fn grant_reads(&self) -> Result<()> {
        self.deploy("doctor/cluster-role.yaml", "", "clusterroles").await?;
        self.deploy("doctor/cluster-role-binding.yaml", "", "clusterrolebindings").await?;
        self.deploy("doctor/role.yaml", "kube-system", "roles").await?;
        self.deploy("doctor/role-binding.yaml", "kube-system", "rolebindings").await
    }

    async fn post(&self, collection: &str, object: &Value) -> Result<()> {
        let request = Request::post(collection).header("content-type", "application/json");
        self.plane.client().request_text(request.body(object.to_string().into_bytes())?).await?;
        Ok(())
    }

    async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        self.plane.client().request_text(request.body(patch.to_string().into_bytes())?).await?;
        Ok(())
    }

    /// All that a healthy EKS cluster has, and the webhooks know it.
    async fn make_healthy(&self) -> Result<()> {
        let registration = "/apis/admissionregistration.k8s.io/v1";
        let irsa = irsa_mutating(&self.groups.webhooks);
        self.post(&format!("{registration}/mutatingwebhookconfigurations"), &irsa).await?;
        for object in self.rendered()? {
            match object["kind"].as_str() {
                Some("ValidatingAdmissionPolicy") => {
                    self.post(&format!("{registration}/validatingadmissionpolicies"), &object).await?;
                }
                Some("ValidatingAdmissionPolicyBinding") => {
                    self.post(&format!("{registration}/validatingadmissionpolicybindings"), &object).await?;
                }
                _ => {}
            }
        }
        self.post("/apis/apps/v1/namespaces/kube-system/daemonsets", &daemon_set("aws-node")).await?;
        let map = |name: &str, data: Value| json!({ "metadata": { "name": name }, "data": data });
        for map in [
            map("amazon-vpc-cni", json!({ "branch-eni-cooldown": "30" })),
            map("kube-proxy-config", json!({ "config": "mode: \"iptables\"" })),
        ] {
            self.post("/api/v1/namespaces/kube-system/configmaps", &map).await?;
        }
        self.post("/api/v1/nodes", &node("worker-1", "m5.4xlarge", "54")).await?;
        let account = json!({
            "metadata": { "name": "etl-worker", "namespace": "data", "annotations": { "eks.amazonaws.com/role-arn": ROLE } },
        });
        self.post("/api/v1/namespaces/data/serviceaccounts", &account).await?;
        self.irsa.lock().unwrap().service_accounts = vec![account];
        let known = &self.groups.known;
        until("the account in the controller's cache", async || {
            Ok(known.has_account("data", "etl-worker").then_some(()))
        })
        .await?;
        self.policy("etl", GROUP).await?;
        self.post("/api/v1/namespaces/airflow/pods", &scheduler()).await
    }

    async fn policy(&self, name: &str, group: &str) -> Result<()> {
        let spec = json!({
            "podSelector": { "matchLabels": { "windlass.dev/identity-rule": "etl" } },
            "securityGroups": { "groupIds": [group] },
        });
        Ok(self.groups.create_policy("data", name, &spec).await?)
    }

    /// What the rules want to be there.
    fn rendered(&self) -> Result<Vec<Value>> {
        let output = windlass(&self.variables, &["identity", "render", "--guard-accounts"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)?)
    }

    /// What the doctor prints.
    fn doctor(&self, arguments: &[&str]) -> Result<String> {
        let output = windlass(&self.variables, &[&["doctor"], arguments].concat())?;
        ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn of_irsa(webhook: Arc<Mutex<Webhook>>) -> Handler {
    Arc::new(move |request: &Value| webhook.lock().unwrap().admit(request).into())
}

fn daemon_set(name: &str) -> Value {
    let labels = json!({ "k8s-app": name });
    json!({
        "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": {
            "initContainers": [{ "name": "aws-vpc-cni-init", "image": "amazon-k8s-cni-init:v1.19.2-eksbuild.1" }],
            "containers": [{
                "name": name, "image": "amazon-k8s-cni:v1.19.2-eksbuild.1",
                "env": [{ "name": "ENABLE_POD_ENI", "value": "true" }],
            }],
        } } },
    })
}

fn node(name: &str, kind: &str, branches: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": {
            "pool": "workers", "node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "eu-west-1",
        } },
        "status": {
            "allocatable": { "pods": "234", "vpc.amazonaws.com/pod-eni": branches },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// As deploy/helm/values.yaml makes it: the token is in the sidecar alone, and so is its connection.
fn scheduler() -> Value {
    let connection = |secret: &str| {
        let from = json!({ "secretKeyRef": { "name": secret, "key": "connection" } });
        json!([{ "name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "valueFrom": from }])
    };
    json!({
        "metadata": { "name": "airflow-scheduler", "namespace": "airflow" },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [
                { "name": "scheduler", "image": "airflow", "env": connection("airflow-metadata") },
                { "name": "windlass", "image": "windlass", "env": connection("windlass-database"),
                  "volumeMounts": [{ "name": "windlass-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }] },
            ],
            "volumes": [{ "name": "windlass-token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }],
        },
    })
}

/// The line of a check, and the paragraphs of findings that are no infos and not about the database.
fn faults(text: &str) -> Vec<&str> {
    let paragraphs = text.split("\n\n").flat_map(|part| part.trim().lines().next());
    let faults = paragraphs.filter(|line| line.starts_with("error ") || line.starts_with("warning "));
    faults.filter(|line| !line.contains(" database-unreachable: ")).collect()
}

fn says(text: &str, lines: &[&str]) -> Result<()> {
    for line in lines {
        ensure!(text.contains(line), "`{line}` is missing in:\n{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_cluster_shows_no_fault_and_each_trap_its_own() -> Result<()> {
    let world = World::start().await?;
    world.make_healthy().await?;
    not_allowed(&world)?;
    world.grant_looks().await?;
    world.grant_reads().await?;
    let healthy = until("no more refusals", async || {
        let text = world.doctor(&[])?;
        Ok((!text.contains("cannot-see") && !text.contains("kubernetes-limited")).then_some(text))
    })
    .await?;
    ensure!(faults(&healthy) == Vec::<&str>::new(), "{healthy}");
    says(
        &healthy,
        &[
            "EKS           info     aws-node v1.19.2, strict; 54 branch interfaces on 1 of 1 node\n",
            "identities    info     2 pods tried, 2 admitted; 2 service accounts seen\n",
            "boundary      info     what the guard stands on, as far as the API server shows it\n",
            "info branch-cooldown: ConfigMap kube-system/amazon-vpc-cni\n  branch-eni-cooldown is 30 s\n",
            "54 branch interfaces; each is held for its pod's run time and 30 to 60 s more",
            "info webhook-failure-policy: pod-identity-webhook (iam-for-pods.amazonaws.com)\n  failurePolicy is Ignore",
            "info aws-not-seen: AWS\n",
        ],
    )?;
    traps(&world).await
}

/// Under the daemon's own Role: each read is refused by itself, and what can be judged is.
fn not_allowed(world: &World) -> Result<()> {
    let text = world.doctor(&[])?;
    says(
        &text,
        &[
            "warning cannot-see: nodes\n  may not be read by who runs the doctor: ",
            "answered `list nodes` with 403: nodes is forbidden: User \"system:serviceaccount:airflow:windlass\" cannot list resource \"nodes\"",
            "  to do:     grant `list nodes` to whoever runs the doctor (deploy/rbac/doctor has all such reads)",
            "grant `list daemonsets.apps in kube-system`",
            "grant `get configmaps amazon-vpc-cni in kube-system`",
            "grant `get serviceaccounts`",
            "grant `list securitygrouppolicies.vpcresources.k8s.aws`",
            "grant `create subjectaccessreviews.authorization.k8s.io`",
            "grant `list events in all namespaces`",
            "EKS           warning  aws-node not seen; nodes not seen\n",
            // What the daemon's Role allows is seen all the same: the pods come out with their identities.
            "identities    info     2 pods tried, 2 admitted; 0 service accounts seen\n",
        ],
    )?;
    let looks = "bind Windlass's service account to the Role of deploy/rbac/identity (`windlass identity render` prints it)";
    says(&text, &["warning kubernetes-limited: namespace data: watch securitygrouppolicies\n", looks])?;
    let expected = [" cannot-see: ", " kubernetes-limited: "];
    ensure!(faults(&text).iter().all(|line| expected.iter().any(|code| line.contains(code))), "{text}");
    ensure!(text.matches("cannot-see: service accounts of rules").count() == 1, "{text}");
    Ok(())
}

async fn traps(world: &World) -> Result<()> {
    let system = "/apis/apps/v1/namespaces/kube-system/daemonsets";
    world.post(system, &daemon_set("node-local-dns")).await?;
    let reference = json!({ "configMapKeyRef": { "name": "amazon-vpc-cni", "key": "enable-pod-eni" } });
    let env = json!([{ "name": "ENABLE_POD_ENI", "valueFrom": reference }]);
    let containers = json!([{ "name": "aws-node", "image": "amazon-k8s-cni:v1.10.4", "env": env }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    world.merge(&format!("{system}/aws-node"), &patch).await?;
    let maps = "/api/v1/namespaces/kube-system/configmaps/amazon-vpc-cni";
    world.merge(maps, &json!({ "data": { "enable-pod-eni": "false", "branch-eni-cooldown": "5" } })).await?;
    world.merge("/api/v1/nodes/worker-1", &json!({ "spec": { "unschedulable": true } })).await?;
    world.post("/api/v1/nodes", &node("worker-2", "t3.large", "0")).await?;
    let other = json!({ "metadata": { "annotations": { "eks.amazonaws.com/role-arn": "etl", "eks.amazonaws.com/token-expiration": "5" } } });
    world.merge("/api/v1/namespaces/data/serviceaccounts/etl-worker", &other).await?;
    world.policy("more", "sg-00000001").await?;
    let event = json!({
        "metadata": { "name": "trunk", "namespace": "default" }, "type": "Warning", "reason": "TrunkENICreationFailed",
        "message": "Failed to create trunk interface: Error Code: UnauthorizedOperation",
        "involvedObject": { "kind": "Node", "name": "worker-2" },
    });
    world.post("/api/v1/namespaces/default/events", &event).await?;
    let binding = json!({
        "metadata": { "name": "launcher" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "windlass" },
        "subjects": [{ "kind": "ServiceAccount", "name": "etl-worker", "namespace": "data" }],
    });
    world.post("/apis/rbac.authorization.k8s.io/v1/namespaces/data/rolebindings", &binding).await?;
    world.groups.known.hide_account("data", "late-worker");
    world.plane.create_service_account("data", "late-worker").await?;
    fs::write(world.folder.join("windlass.toml"), format!("{LATE}{RULES}"))?;
    world.groups.webhooks.set_mode(MUTATE_IRSA, Mode::Silent);

    let text = world.doctor(&[])?;
    says(
        &text,
        &[
            "error strict-mode-conflict: DaemonSet node-local-dns\n",
            "error pod-eni-disabled: DaemonSet aws-node\n  ENABLE_POD_ENI is `false`\n",
            "warning cni-version: DaemonSet aws-node\n  it is v1.10.4; ",
            "  branch-eni-cooldown is 5 s; the controller takes 30 s at least\n",
            "error no-branch-node: rule etl (line 14)\n  2 nodes are there, 2 fit its pod, and none that takes pods has allocatable vpc.amazonaws.com/pod-eni: 1 cordoned or not ready, 1 of type t3.large, which has no trunk interface\n",
            "info node-unsupported: nodes of type t3.large\n",
            "warning node-trunk-events: nodes\n  TrunkENICreationFailed: Failed to create trunk interface: Error Code: UnauthorizedOperation (worker-2)\n",
            "error role-annotation: service account data/etl-worker\n  it names etl, and rule etl (line 14) demands arn:aws:iam::111122223333:role/etl\n",
            "error role-arn-malformed: service account data/etl-worker\n",
            "warning token-expiration: service account data/etl-worker\n  5 s\n",
            "error policy-groups-differ: rule etl (line 14)\n  it demands sg-0123456789abcdef0, and its pod gets sg-0123456789abcdef0, sg-00000001 by etl, more\n",
            "error dry-run-without-role: rule etl (line 14)\n  the pod was admitted without credentials for arn:aws:iam::111122223333:role/etl",
            "error service-account-missing: service account data/gone-worker\n  it does not exist, and rule gone (line 8) names it\n",
            "error dry-run-refused: rule late (line 2)\n  the API server refuses its pod: admission webhook \"mpod.vpc.k8s.aws\" denied the request: Failed to get Matching SGP for Pods, rejecting event, error ServiceAccount \"late-worker\" not found\n",
            "warning admission-policy-stale: ValidatingAdmissionPolicy windlass-identity-airflow\n",
            "warning worker-creates-pods: service account data/etl-worker\n  it may create pods in namespace data\n",
        ],
    )?;
    ensure!(!text.contains("dry-run-without-groups"), "{text}");
    Ok(())
}
