//! Identity rules against a real kube-apiserver that asks a webhook which does as EKS's: no pod is let go without its role.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use windlass_eks::configuration::{irsa_mutating, sgp_validating};
use windlass_eks::irsa::{Flags, Identity, Webhook};
use windlass_eks::review::Verdict;
use windlass_eks::server::{Handler, MUTATE_IRSA, Mode, VALIDATE_SGP, Webhooks};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_suite::daemon::{Daemon, Database, Variables, until, windlass, with_rules};

const ROLE: &str = "arn:aws:iam::111122223333:role/etl";

const RULES: &str = r#"
[[identity.rule]]
name = "etl"
match = { dag = "etl", task = ["load*", "sneak"] }
service-account = "etl-worker"
role-arn = "arn:aws:iam::111122223333:role/etl"
labels = { team = "etl" }

[[identity.rule]]
name = "associated"
match = { dag = "etl", task = "associated" }
service-account = "associated-worker"
role-arn = "arn:aws:iam::111122223333:role/etl"

[[identity.rule]]
name = "mistaken"
match = { dag = "etl", task = "mistaken" }
service-account = "other-worker"
role-arn = "arn:aws:iam::111122223333:role/etl"

[identity.default]
deny = true
"#;

const TEMPLATE: &str =
    "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n      image: airflow:2.11\n";

/// `{'pod_override': V1Pod(service_account_name='admin', one container `base`)}`, pickled.
const ASKS_FOR_ADMIN: &str = "80049580000000000000007d948c0c706f645f6f76657272696465947d94288c055f5f766172947d948c0473706563947d94288c12736572766963654163636f756e744e616d65948c0561646d696e948c0a636f6e7461696e657273945d947d948c046e616d65948c046261736594736175738c065f5f74797065948c096b38732e5631506f649475732e";

/// `{}`, pickled.
const NOTHING: &str = "80057d942e";

struct World {
    folder: Folder,
    database: Database,
    plane: ControlPlane,
    webhooks: Webhooks,
    variables: Variables,
    /// Of pods, by the validating webhook.
    refuses_updates: Arc<AtomicBool>,
}

impl World {
    async fn start() -> Result<Self> {
        let folder = Folder::new("cluster-identity")?;
        let database = Database::ready().await?;
        let plane = ControlPlane::start(Options::default()).await?;
        plane.create_namespace("tasks").await?;
        let refuses_updates = Arc::new(AtomicBool::new(false));
        let refuses = refuses_updates.clone();
        let validate: Handler = Arc::new(move |request: &Value| {
            if refuses.load(Ordering::Relaxed) && request["operation"] == "UPDATE" {
                return Verdict::Deny { code: 403, message: "not now".into() };
            }
            Verdict::Allow
        });
        let webhooks = Webhooks::start([(MUTATE_IRSA, handler()), (VALIDATE_SGP, validate)]).await?;
        let mut variables = with_rules(&plane, folder.path(), "tasks", RULES, TEMPLATE)?;
        variables.extend(database.daemon());
        let world = Self { folder, database, plane, webhooks, variables, refuses_updates };
        world.post("mutatingwebhookconfigurations", &irsa_mutating(&world.webhooks)).await?;
        Ok(world)
    }

    async fn post(&self, collection: &str, configuration: &Value) -> Result<()> {
        let file = self.folder.join("webhook.json"); // JSON is YAML
        fs::write(&file, configuration.to_string())?;
        let collection = format!("/apis/admissionregistration.k8s.io/v1/{collection}");
        self.plane.create_from_yaml(&collection, &file).await
    }

    async fn daemon(&self, name: &str) -> Result<Daemon> {
        let daemon = Daemon::start(&self.folder, name, &self.variables).await?;
        daemon.ready_says(200, "leading").await?;
        Ok(daemon)
    }

    /// The pod of a task as the API server has it.
    async fn pod(&self, task: &str) -> Result<Option<Value>> {
        let pods: Api<Pod> = Api::namespaced(self.plane.client(), "tasks");
        let found = pods.list(&ListParams::default().labels(&format!("task_id={task}"))).await?;
        Ok(found.items.first().map(serde_json::to_value).transpose()?)
    }

    /// The task's pod once nothing holds it back any more.
    async fn released(&self, task: &str) -> Result<Value> {
        until(&format!("the pod of {task} without a gate"), async || {
            let pod = self.pod(task).await?;
            Ok(pod.filter(|pod| pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty)))
        })
        .await
    }
}

/// The pod identity webhook with its accounts; the API server has none, as its admission of service accounts is off.
fn handler() -> Handler {
    let account = |name: &str, role: &str| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {
                "name": name, "namespace": "tasks", "annotations": { "eks.amazonaws.com/role-arn": role },
            },
        })
    };
    let accounts =
        [account("etl-worker", ROLE), account("other-worker", "arn:aws:iam::111122223333:role/other")];
    let webhook = Webhook {
        flags: Flags::on_eks("eu-west-1"),
        service_accounts: accounts.to_vec(),
        identities: vec![Identity { namespace: "tasks".into(), service_account: "associated-worker".into() }],
        ..Webhook::default()
    };
    let webhook = Mutex::new(webhook);
    Arc::new(move |request: &Value| webhook.lock().unwrap().admit(request).into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_let_go_once_it_has_its_role_and_never_before() -> Result<()> {
    let world = World::start().await?;
    let _daemon = world.daemon("daemon").await?;
    world.database.queue("load", NOTHING)?;
    let pod = world.released("load").await?;
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    ensure!(env.iter().any(|v| v["name"] == "AWS_ROLE_ARN" && v["value"] == ROLE), "{pod}");
    ensure!(pod["spec"]["serviceAccountName"] == "etl-worker", "{pod}");
    ensure!(pod["metadata"]["labels"]["team"] == "etl", "{pod}");
    ensure!(pod["metadata"]["annotations"]["windlass.dev/role-arn"] == ROLE, "{pod}");
    ensure!(world.database.attempt("load")? == 1);

    // The webhook is silent, as with an account that it does not know yet: pods come out without the role and go.
    world.webhooks.set_mode(MUTATE_IRSA, Mode::Silent);
    world.database.queue("load_late", NOTHING)?;
    until("a third pod", async || Ok((world.database.attempt("load_late")? >= 3).then_some(()))).await?;
    if let Some(pod) = world.pod("load_late").await? {
        ensure!(pod["spec"]["schedulingGates"][0]["name"] == "windlass.dev/identity", "{pod}");
    }
    world.webhooks.set_mode(MUTATE_IRSA, Mode::Normal);
    let pod = world.released("load_late").await?;
    ensure!(pod["spec"]["containers"][0]["env"].to_string().contains(ROLE), "{pod}");

    // Nearly as slow as a create may be (`create.timeout-ms`).
    world.webhooks.set_mode(MUTATE_IRSA, Mode::Slow(Duration::from_secs(1)));
    world.database.queue("load_slowly", NOTHING)?;
    let pod = world.released("load_slowly").await?;
    ensure!(pod["spec"]["containers"][0]["env"].to_string().contains(ROLE), "{pod}");
    Ok(())
}

/// An association of EKS Pod Identity gives the role as well; the pod names no role then, AWS knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_association_of_pod_identity_is_taken_for_the_role() -> Result<()> {
    let world = World::start().await?;
    let _daemon = world.daemon("daemon").await?;
    world.database.queue("associated", NOTHING)?;
    let pod = world.released("associated").await?;
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let has = |name: &str| env.iter().any(|variable| variable["name"] == name);
    ensure!(has("AWS_CONTAINER_CREDENTIALS_FULL_URI") && !has("AWS_ROLE_ARN"), "{pod}");
    ensure!(world.database.attempt("associated")? == 1);
    Ok(())
}

/// A webhook that refuses has judged the pod: its words are the reason, and no other pod is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_refuses_is_quoted_in_the_tasks_failure() -> Result<()> {
    let world = World::start().await?;
    let _daemon = world.daemon("daemon").await?;
    let deny = Mode::Deny { code: 403, message: "pods of etl-worker may not be made today".into() };
    world.webhooks.set_mode(MUTATE_IRSA, deny);
    world.database.queue("load", NOTHING)?;
    let failure = world.database.failure("load").await?;
    ensure!(failure.contains("pods of etl-worker may not be made today"), "{failure}");
    ensure!(failure.starts_with("PodRejected: "), "{failure}");
    ensure!(world.pod("load").await?.is_none(), "there is a pod");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_pod_would_not_mend_fails_with_its_reason() -> Result<()> {
    let world = World::start().await?;
    let _daemon = world.daemon("daemon").await?;
    world.database.queue("mistaken", NOTHING)?;
    world.database.queue("sneak", ASKS_FOR_ADMIN)?;
    world.database.queue("stranger", NOTHING)?;
    let mistaken = world.database.failure("mistaken").await?;
    ensure!(mistaken.starts_with("IdentityMissing: ") && mistaken.contains("role/other"), "{mistaken}");
    ensure!(world.database.attempt("mistaken")? == 1);
    let sneak = world.database.failure("sneak").await?;
    let expected = "IdentityDenied: identity rule `etl` (line 2) does not let executor_config change this: \
                    spec.serviceAccountName is `admin` where `etl-worker` belongs";
    ensure!(sneak.starts_with(expected), "{sneak}");
    let stranger = world.database.failure("stranger").await?;
    ensure!(stranger.starts_with("IdentityDenied: no identity rule matches this task"), "{stranger}");
    until("no pod is left", async || Ok(world.pod("mistaken").await?.is_none().then_some(()))).await?;
    ensure!(world.pod("sneak").await?.is_none() && world.pod("stranger").await?.is_none());

    let explained = windlass(&world.variables, &["identity", "explain", "etl", "sneak"])?;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    ensure!(explained.contains("  rule etl (line 2): dag `etl`, and task `load*` or `sneak`"), "{explained}");
    ensure!(explained.contains("it gets no pod: IdentityDenied"), "{explained}");
    let checked = windlass(&world.variables, &["identity", "check"])?;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(
        checked.contains("warning authors-choice (line 2): rule `etl` gives an identity by dag and task"),
        "{checked}"
    );
    Ok(())
}

/// A daemon that ends between a create and the opening of its gate leaves a pod that its successor lets go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_behind_its_gate_is_let_go_by_the_next_daemon() -> Result<()> {
    let world = World::start().await?;
    world.post("validatingwebhookconfigurations", &sgp_validating(&world.webhooks)).await?;
    world.refuses_updates.store(true, Ordering::Relaxed);
    let first = world.daemon("first").await?;
    world.database.queue("load", NOTHING)?;
    first.log_says("(take gate windlass.dev/identity)").await?;
    first.process().kill();
    let pod = world.pod("load").await?.unwrap();
    ensure!(pod["spec"]["schedulingGates"][0]["name"] == "windlass.dev/identity", "{pod}");
    world.refuses_updates.store(false, Ordering::Relaxed);
    let _second = world.daemon("second").await?;
    let again = world.released("load").await?;
    ensure!(again["metadata"]["uid"] == pod["metadata"]["uid"], "{again}");
    Ok(())
}
