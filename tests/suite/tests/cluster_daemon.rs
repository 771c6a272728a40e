//! `windlass run` as a process against a real kube-apiserver and real PostgreSQL: what it waits for, what it says, how
//! it ends.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::folder::Folder;
use windlass_lab::ports;
use windlass_lab::prepare::workspace;
use windlass_suite::daemon::{Daemon, Database, Variables, service_account, until, windlass};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Makes the API server reachable at a port where nobody listened before.
async fn open_the_way(port: u16, plane: &ControlPlane) -> Result<()> {
    let to: SocketAddr = plane.url().trim_start_matches("https://").parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(to).await {
                    // The end of either side is the end of the connection.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    Ok(())
}

async fn bind_cluster_role(plane: &ControlPlane) -> Result<()> {
    let manifest = |file: &str| workspace().join("deploy/rbac/cluster").join(file);
    plane.create_from_yaml(&format!("{RBAC}/clusterroles"), &manifest("cluster-role.yaml")).await?;
    let binding = manifest("cluster-role-binding.yaml");
    plane.create_from_yaml(&format!("{RBAC}/clusterrolebindings"), &binding).await
}

/// One daemon, never restarted: it waits for each thing that lacks, says what, why and the remedy, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_cannot_be_used_is_waited_for_step_by_step() -> Result<()> {
    let folder = Folder::new("cluster-daemon")?;
    let database = Database::ready().await?;
    let plane =
        ControlPlane::start(Options { service_account_admission: true, ..Options::default() }).await?;
    plane.create_namespace("airflow").await?;
    plane.create_service_account("airflow", "windlass").await?;
    let port = ports::free()?;
    let url = format!("https://127.0.0.1:{port}");
    let mut variables = service_account(&url, folder.path(), "tasks");
    variables.extend(database.daemon());
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;

    let token = folder.join("token").display().to_string();
    daemon
        .ready_says(
            503,
            &format!("waiting for the API server: cannot read the service account token `{token}`"),
        )
        .await?;
    fs::write(folder.join("token"), "a-token-of-another-cluster")?;
    // The certificate of a server that did not sign its own.
    let stranger =
        windlass_local_cluster::ApiServer::start(windlass_local_cluster::ApiOptions::default()).await?;
    fs::write(folder.join("ca.crt"), stranger.authority())?;
    daemon
        .ready_says(
            503,
            &format!("API server {url}: the API server {url} cannot be reached for `read the version`"),
        )
        .await?;
    daemon.ready_says(503, "(hint: check address, DNS, network policies").await?;

    open_the_way(port, &plane).await?;
    daemon.ready_says(503, &format!("the TLS certificate of the API server {url} is not accepted")).await?;
    daemon.ready_says(503, "(hint: the CA must be the one that signed").await?;
    fs::copy(plane.ca(), folder.join("ca.crt"))?;
    daemon.ready_says(503, "with 401: Unauthorized (hint: the token has expired").await?;
    fs::write(folder.join("token"), plane.service_account_token("airflow", "windlass").await?)?;
    let said = daemon.ready_says(503, "namespace tasks: create pods: not allowed").await?;
    for verb in ["get", "list", "watch", "delete"] {
        ensure!(said.contains(&format!("namespace tasks: {verb} pods: not allowed")), "{said}");
    }
    ensure!(said.contains("(hint: bind Windlass's service account to the Role of deploy/rbac"), "{said}");
    bind_cluster_role(&plane).await?;
    let said = daemon.ready_says(503, "namespace tasks: namespaces \"tasks\" not found").await?;
    ensure!(said.contains("(hint: create it with the Role of deploy/rbac"), "{said}");
    plane.create_namespace("tasks").await?;
    daemon.ready_says(200, "leading (term 1)").await?;
    ensure!(!daemon.log().contains("a-token-of-another-cluster"));
    Ok(())
}

/// An API server with the namespace `tasks`, and the variables of a daemon that works there with a template that makes
/// pods.
async fn plane_with_a_template(folder: &Folder, database: &Database) -> Result<(ControlPlane, Variables)> {
    let plane = ControlPlane::start(Options::default()).await?;
    plane.create_namespace("tasks").await?;
    let template = folder.join("template.yaml");
    fs::write(&template, format!("{POD}      image: airflow:2.11\n"))?;
    fs::write(folder.join("token"), plane.token())?;
    fs::copy(plane.ca(), folder.join("ca.crt"))?;
    let mut variables = service_account(plane.url(), folder.path(), "tasks");
    variables.extend(database.daemon());
    let file = template.display().to_string();
    variables.insert("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE".into(), file);
    Ok((plane, variables))
}

/// Bad tasks fail alone, each with its reason where the plugin reads it; the good one beside them gets its pod. Then the
/// API server stops to answer, and two SIGTERMs end the daemon at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tasks_fail_alone_and_a_second_sigterm_ends_at_once() -> Result<()> {
    let folder = Folder::new("cluster-daemon")?;
    let database = Database::ready().await?;
    let (plane, mut variables) = plane_with_a_template(&folder, &database).await?;
    for (name, value) in [
        // A create that stays in flight for long: something to finish after SIGTERM.
        ("WINDLASS__TERM__DRAIN_SECONDS", "60".into()),
        ("WINDLASS__TERM__LEASE_MS", "60000".into()),
        ("WINDLASS__CREATE__TIMEOUT_MS", "30000".into()),
    ] {
        variables.insert(name.into(), value);
    }
    let daemon = Daemon::start(&folder, "daemon", &variables).await?;
    daemon.ready_says(200, "leading").await?;
    bad_tasks_fail_alone(&folder, &database, &daemon).await?;
    let apiserver = plane.apiserver().unwrap();
    apiserver.signal(Signal::STOP);
    let ended = a_second_sigterm_ends_at_once(&database, &daemon).await;
    apiserver.signal(Signal::CONT);
    ended
}

const CORRECT: &str = "; correct the file that pod_template_file names";

/// A template without an image.
const POD: &str = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n";

async fn bad_tasks_fail_alone(folder: &Folder, database: &Database, daemon: &Daemon) -> Result<()> {
    let no_image = "container `base` of the pod has no image; set it in the pod template, or set [kubernetes_executor] \
                    worker_container_repository and worker_container_tag, or spec.containers in pod_override; the pod";
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n";
    // Ordered as the query does: the template's text, and how the message begins and ends; FILE is the template's path.
    let templates = [
        (
            "deployment",
            Some(deployment),
            "FILE: the pod template is a Deployment where a Pod is expected",
            CORRECT,
        ),
        ("imageless", Some(POD), no_image, " template is `FILE`"),
        ("list", Some("- neither\n- a pod\n"), "FILE: the pod template holds a list where a pod ", CORRECT),
        ("missing", None, no_image, " template `FILE` does not exist"),
        ("no_yaml", Some("spec: {x: [\n"), "FILE: the pod template is no valid YAML: line 1: ", CORRECT),
    ];
    let mut expected = Vec::new();
    for (task, text, begins, ends) in templates {
        let file = folder.join(format!("{task}.yaml"));
        if let Some(text) = text {
            fs::write(&file, text)?;
        }
        let file = file.display().to_string();
        database.queue(task, &pickled(&[("pod_template_file", &file)]))?;
        let begins = format!("TemplateInvalid: {}", begins.replace("FILE", &file));
        expected.push((task, begins, ends.replace("FILE", &file)));
    }
    database.queue("undecodable", "8005636f730a73797374656d0a2e")?;
    let undecodable = "the class or function os.system where a dict is expected";
    let begins = format!("ExecutorConfigInvalid: executor_config is {undecodable}");
    expected.push(("undecodable", begins, ": {'pod_override': k8s.V1Pod(...)}".into()));
    database.queue("good", "80057d942e")?;
    let failed =
        "SELECT task_id || ' ' || reason || ': ' || message FROM windlass.launch WHERE outcome = 'failure'
                  ORDER BY task_id";
    let failures = until("all failures", async || {
        let rows = database.sql(failed)?;
        Ok((rows.lines().count() == expected.len()).then_some(rows))
    })
    .await?;
    let log = daemon.log();
    for (line, (task, begins, ends)) in failures.lines().zip(&expected) {
        let said = line.strip_prefix(&format!("{task} ")).unwrap_or_default();
        ensure!(said.starts_with(begins) && said.ends_with(ends), "{line}");
        ensure!(log.contains(&format!("etl.{task} r try 1 fails without a pod: {said}")), "{task}:\n{log}");
    }
    until("the good task's pod", async || {
        let stage = database.sql("SELECT stage FROM windlass.launch WHERE task_id = 'good'")?;
        Ok((stage == "created").then_some(()))
    })
    .await
}

async fn a_second_sigterm_ends_at_once(database: &Database, daemon: &Daemon) -> Result<()> {
    database.queue("late", "80057d942e")?;
    until("a create in flight", async || {
        Ok(daemon.get("/metrics").await?.1.contains("\nwindlass_creates_in_flight 1\n").then_some(()))
    })
    .await?;
    daemon.process().signal(Signal::TERM);
    daemon.ready_says(503, "stopping: what is under way is finished").await?;
    let second = Instant::now();
    daemon.process().signal(Signal::TERM);
    let ended = daemon.process().wait(Duration::from_secs(20)).await?;
    let took = second.elapsed();
    ensure!(ended.code() == Some(1) && took < Duration::from_secs(5), "{ended} after {took:?}");
    ensure!(daemon.log().contains("SIGTERM once more: ended at once"), "{}", daemon.log());
    Ok(())
}

/// An Airflow with a `pod_mutation_hook`: without a choice, and without a helper that answers, its tasks wait and say why;
/// with a choice they get their pods. Nothing of it is a failure of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_without_a_choice_or_helper_keeps_tasks_waiting_until_it_has_one() -> Result<()> {
    let folder = Folder::new("cluster-daemon")?;
    let database = Database::ready().await?;
    database.sql("UPDATE windlass.scheduler SET has_pod_mutation_hook = true")?;
    let (_plane, mut variables) = plane_with_a_template(&folder, &database).await?;
    variables.insert("WINDLASS_WAKE_SOCKET".into(), folder.join("wake.sock").display().to_string());
    database.queue("load", "80057d942e")?;
    let away = format!(
        "the helper of pod_mutation_hook cannot be reached at `{}`",
        folder.join("pod-mutation.sock").display()
    );
    let stage = "SELECT stage || coalesce(outcome, '') FROM windlass.launch";
    for (choice, said) in
        [("refuse", "set pod.mutation-hook to `helper` to have it called"), ("helper", &away)]
    {
        variables.insert("WINDLASS__POD__MUTATION_HOOK".into(), choice.to_owned());
        let daemon = Daemon::start(&folder, choice, &variables).await?;
        daemon.log_says(said).await?;
        ensure!(database.sql(stage)? == "claimed");
        let explained = windlass(&variables, &["explain", "etl", "load", "r"])?;
        let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
        ensure!(explained.contains("its pod cannot be made: ") && explained.contains(said), "{explained}");
        daemon.process().stop(Duration::from_secs(10));
    }
    variables.insert("WINDLASS__POD__MUTATION_HOOK".into(), "ignore".into());
    let _daemon = Daemon::start(&folder, "ignore", &variables).await?;
    until("its pod", async || Ok((database.sql(stage)? == "created").then_some(()))).await
}

/// A failed pod is kept, as Airflow's default has it, until `windlass cleanup` removes it; one that waits stays. And the
/// run's pods are shown by `windlass render dag`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleanup_removes_what_has_ended_and_render_shows_a_whole_run() -> Result<()> {
    let folder = Folder::new("cluster-daemon")?;
    let database = Database::ready().await?;
    let (plane, variables) = plane_with_a_template(&folder, &database).await?;
    let _daemon = Daemon::start(&folder, "daemon", &variables).await?;
    database.queue("fails", "80057d942e")?;
    database.queue("waits", "80057d942e")?;
    let created = "SELECT count(*) FROM windlass.launch WHERE stage = 'created'";
    until("both pods", async || Ok((database.sql(created)? == "2").then_some(()))).await?;

    let shown = windlass(&variables, &["render", "dag", "etl"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.matches("kind: Pod\n").count() == 2 && shown.contains("# etl.waits r try 1\n"), "{shown}");

    let pod = database.sql("SELECT pod_name FROM windlass.launch WHERE task_id = 'fails'")?;
    let pods: Api<Pod> = Api::namespaced(plane.client(), "tasks");
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let status = json!({"status": {"phase": "Failed", "containerStatuses": [{
        "name": "base", "image": "airflow:2.11", "imageID": "", "ready": false, "restartCount": 0, "state": ended,
    }]}});
    database.sql("UPDATE task_instance SET state = 'failed' WHERE task_id = 'fails'")?;
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Strategic(&status)).await?;
    let settled = "SELECT count(*) FROM windlass.launch WHERE task_id = 'fails' AND outcome = 'failure'";
    until("its outcome", async || Ok((database.sql(settled)? == "1").then_some(()))).await?;
    // No node has its log: the plugin is told so, for it waits for the log before it tells Airflow.
    let log = "SELECT 'read: ' || log_tail FROM windlass.launch WHERE task_id = 'fails'";
    until("the end of reading its log", async || Ok((database.sql(log)? == "read:").then_some(()))).await?;
    let cleanup = |more: &[&str]| -> Result<String> {
        let done = windlass(&variables, &[&["cleanup", "--older-than", "0"], more].concat())?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    ensure!(cleanup(&[])? == "nothing to delete\n", "its outcome is not delivered");
    database.sql("UPDATE windlass.launch SET delivered_at = now() WHERE task_id = 'fails'")?;
    let said = cleanup(&["--dry-run"])?;
    ensure!(said.starts_with(&format!("pod tasks/{pod} would be deleted: failed (")), "{said}");
    ensure!(pods.get_opt(&pod).await?.is_some(), "a dry run");
    let said = cleanup(&["--kubernetes-executor"])?;
    ensure!(said.lines().count() == 1 && said.starts_with(&format!("pod tasks/{pod} deleted: ")), "{said}");
    until("it is gone", async || Ok(pods.get_opt(&pod).await?.is_none().then_some(()))).await?;
    let left = pods.list(&ListParams::default()).await?.items;
    ensure!(left.len() == 1, "{left:?}");
    Ok(())
}

/// A pickle of a dict of texts, in hexadecimal.
fn pickled(pairs: &[(&str, &str)]) -> String {
    let mut bytes = b"\x80\x02}".to_vec();
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        bytes.push(b'X');
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend("s".repeat(pairs.len()).as_bytes());
    bytes.push(b'.');
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
