//! deploy/rbac on a real API server: with the account's own token every call of the client works, nothing else does.

use std::path::Path;
use std::pin::pin;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use windlass_cluster::{Cluster, Finding, Level, Looks, Namespaces, Selection, Source};
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer, PodEvent};
use windlass_core::doctor::Trial;
use windlass_core::ids::{Attempt, PodRef, PodUid};
use windlass_lab::control_plane::{ControlPlane, Options};

use crate::{LIMIT, admin, connect, installation, launch, manifests, pod};

const FIRST: Attempt = Attempt::FIRST;

#[tokio::test]
async fn the_shipped_rbac_allows_what_the_client_does_and_nothing_else() {
    let plane =
        ControlPlane::start(Options { service_account_admission: true, ..Options::default() }).await.unwrap();
    plane.create_namespace("airflow").await.unwrap();
    plane.create_namespace("other").await.unwrap();
    for (file, path) in [
        ("service-account.yaml", "/api/v1/namespaces/airflow/serviceaccounts"),
        ("role.yaml", "/apis/rbac.authorization.k8s.io/v1/namespaces/airflow/roles"),
        ("role-binding.yaml", "/apis/rbac.authorization.k8s.io/v1/namespaces/airflow/rolebindings"),
    ] {
        apply(&plane, file, path).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let cluster = as_windlass(&plane, folder.path()).await;
    let here = Namespaces::Only(vec!["airflow".into()]);
    assert_eq!(
        wrong(cluster.preflight(&here, Looks::default()).await),
        vec![],
        "all that is used is allowed"
    );
    every_call_works(&cluster, &here).await;
    no_other_call_does(&plane, folder.path()).await;
    preflight_names_what_is_missing(&cluster).await;
    each_verb_is_needed(&plane, &cluster).await;
    manifests::are_what_the_api_server_takes(&plane).await;
    rules_need_what_is_shipped_for_them(&plane, &cluster, &here).await;

    for (file, path) in [
        ("cluster/cluster-role.yaml", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        ("cluster/cluster-role-binding.yaml", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ] {
        apply(&plane, file, path).await;
    }
    all_is_allowed(&cluster, &Namespaces::All, Looks::default()).await;
}

async fn all_is_allowed(cluster: &Cluster, namespaces: &Namespaces, looks: Looks) {
    let mut findings = wrong(cluster.preflight(namespaces, looks).await);
    // The authorizer learns of a binding from its own watch.
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !findings.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
        findings = wrong(cluster.preflight(namespaces, looks).await);
    }
    assert_eq!(findings, vec![]);
}

async fn rules_need_what_is_shipped_for_them(plane: &ControlPlane, cluster: &Cluster, here: &Namespaces) {
    let looks = Looks { accounts: true, groups: true };
    // What the tests before took away of the Role may not be seen to be back yet.
    let missing: Vec<Finding> = wrong(cluster.preflight(here, looks).await)
        .into_iter()
        .filter(|found| found.remedy.contains("deploy/rbac/identity"))
        .collect();
    let subjects: Vec<_> = missing.iter().map(|found| found.subject.as_str()).collect();
    let expected = [
        "namespace airflow: list serviceaccounts",
        "namespace airflow: watch serviceaccounts",
        "namespace airflow: list securitygrouppolicies",
        "namespace airflow: watch securitygrouppolicies",
        "namespace airflow: list events",
        "namespace airflow: watch events",
        "cluster: list nodes",
        "cluster: watch nodes",
    ];
    assert_eq!(subjects, expected);
    assert!(missing.iter().all(|found| found.level == Level::Warning), "{missing:?}");
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    for (file, path) in [
        ("identity/role.yaml", format!("{rbac}/namespaces/airflow/roles")),
        ("identity/role-binding.yaml", format!("{rbac}/namespaces/airflow/rolebindings")),
        ("identity/nodes.yaml", format!("{rbac}/clusterroles")),
        ("identity/nodes-binding.yaml", format!("{rbac}/clusterrolebindings")),
    ] {
        apply(plane, file, &path).await;
    }
    let role = ["create", "delete", "get", "list", "patch", "watch"].map(|verb| (verb, "pods"));
    let role = role.into_iter().chain([("get", "pods/log")]);
    put_role(
        plane,
        role.map(|(verb, resource)| json!({ "apiGroups": [""], "resources": [resource], "verbs": [verb] }))
            .collect(),
    )
    .await;
    all_is_allowed(cluster, here, looks).await;
}

fn wrong(findings: Vec<Finding>) -> Vec<Finding> {
    assert!(findings.iter().any(|f| f.subject.starts_with("API server https://")), "{findings:?}");
    findings.into_iter().filter(|f| f.level != Level::Ok).collect()
}

async fn apply(plane: &ControlPlane, file: &str, path: &str) {
    manifests::post(plane, &format!("rbac/{file}"), path).await;
}

/// Connects as the sidecar does: with a folder that holds token and CA.
async fn as_windlass(plane: &ControlPlane, folder: &Path) -> Cluster {
    let token = plane.service_account_token("airflow", "windlass").await.unwrap();
    std::fs::write(folder.join("token"), token).unwrap();
    std::fs::copy(plane.ca(), folder.join("ca.crt")).unwrap();
    let source = Source::ServiceAccount { url: plane.url().to_owned(), directory: folder.to_owned() };
    connect(source).await
}

async fn every_call_works(cluster: &Cluster, namespaces: &Namespaces) {
    let (mine, at) = (launch(1), PodRef { namespace: "airflow".into(), name: "a".into() });
    let answer = cluster.create(&pod("airflow", "a", &mine), &mine, FIRST, LIMIT).await;
    let CreateAnswer::Created(made) = answer else { panic!("{answer:?}") };
    assert!(matches!(cluster.get(&at, &mine, FIRST).await, GetAnswer::Found(Some(_))));
    assert_eq!(cluster.logs(&at, "base", 10, 1_000, LIMIT).await.unwrap(), "");
    let mut events = pin!(cluster.watch(namespaces, &installation()));
    let first = timeout(LIMIT, events.next()).await.unwrap().unwrap();
    assert!(matches!(&first, PodEvent::Seen(view) if view.uid == made.uid), "{first:?}");
    let listed = cluster.list(namespaces, &Selection::Installation(&installation()), 10).await;
    let uids: Vec<_> = listed.pods.iter().map(|pod| pod.view.uid.clone()).collect();
    assert_eq!(
        (uids, listed.broken.len(), listed.faults.len(), listed.cut),
        (vec![made.uid.clone()], 0, 0, false)
    );
    let of = [mine.clone(), launch(3)];
    let of_launches = cluster.list(namespaces, &Selection::Launches(&of), 10).await;
    assert_eq!(of_launches.pods, listed.pods, "{:?}", of_launches.faults);
    // The name is taken, which a dry run does not mind; and it makes nothing.
    assert_eq!(cluster.try_create(&pod("airflow", "a", &mine), &mine, LIMIT).await, Trial::Admitted);
    let nameless = json!({ "metadata": { "namespace": "airflow" }, "spec": { "containers": [] } });
    let refused = cluster.try_create(&nameless, &mine, LIMIT).await;
    assert!(matches!(&refused, Trial::Refused(said) if said.contains("spec.containers")), "{refused:?}");
    assert_eq!(cluster.list(namespaces, &Selection::Installation(&installation()), 10).await.pods.len(), 1);
    assert_eq!(cluster.delete(&at, &made.uid, None, Some(0)).await, DeleteAnswer::Accepted);
}

/// What the server itself derives for this account, beyond what it gives to every account, is exactly the Role; and a
/// few calls that would hurt are tried.
async fn no_other_call_does(plane: &ControlPlane, folder: &Path) {
    let everybody = rules(&Raw::new(plane, "airflow", "default", folder).await).await;
    let client = Raw::new(plane, "airflow", "windlass", folder).await;
    let mut granted = rules(&client).await;
    granted.retain(|rule| !everybody.contains(rule));
    granted.sort_by_key(|rule| rule["resources"].to_string());
    assert_eq!(
        granted,
        vec![
            json!({ "verbs": ["create", "delete", "get", "list", "patch", "watch"], "apiGroups": [""],
                "resources": ["pods"] }),
            json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"] }),
        ]
    );
    for (method, path) in [
        ("DELETE", "/api/v1/namespaces/airflow/pods"),
        ("PATCH", "/api/v1/namespaces/other/pods/a"),
        ("PATCH", "/api/v1/namespaces/airflow/pods/a/status"),
        ("POST", "/api/v1/namespaces/airflow/pods/a/exec?command=sh"),
        ("POST", "/api/v1/namespaces/airflow/pods/a/eviction"),
        ("GET", "/api/v1/namespaces/airflow/secrets"),
        ("POST", "/api/v1/namespaces/airflow/serviceaccounts/windlass/token"),
        ("GET", "/api/v1/namespaces/other/pods"),
        ("POST", "/api/v1/namespaces/other/pods"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/airflow"),
    ] {
        let body = (method != "GET").then(|| json!({}));
        let (status, answer) = client.ask(method, path, body).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
}

async fn preflight_names_what_is_missing(cluster: &Cluster) {
    let findings = wrong(cluster.preflight(&Namespaces::Only(vec!["other".into()]), Looks::default()).await);
    let subjects: Vec<_> = findings.iter().map(|f| (f.level, f.subject.as_str())).collect();
    let expected = ["create pods", "get pods", "list pods", "watch pods", "delete pods"];
    let expected: Vec<_> = expected.map(|what| format!("namespace other: {what}")).into();
    let mut expected: Vec<_> = expected.iter().map(|subject| (Level::Error, subject.as_str())).collect();
    expected.push((Level::Warning, "namespace other: patch pods"));
    expected.push((Level::Warning, "namespace other: get pods/log"));
    assert_eq!(subjects, expected);
    assert!(findings[0].remedy.contains("deploy/rbac"));
    let answer = cluster.create(&pod("other", "a", &launch(2)), &launch(2), FIRST, LIMIT).await;
    let CreateAnswer::NamespaceNotReady { message } = answer else { panic!("{answer:?}") };
    assert!(
        message.contains("system:serviceaccount:airflow:windlass") && message.contains("deploy/rbac"),
        "{message}"
    );
}

/// One verb of the Role is taken away at a time: preflight names it and no other, and one call of the client is refused.
async fn each_verb_is_needed(plane: &ControlPlane, cluster: &Cluster) {
    let here = Namespaces::Only(vec!["airflow".into()]);
    let operator = admin(plane).await;
    let probe = launch(10);
    let answer = operator.create(&pod("airflow", "probe", &probe), &probe, FIRST, LIMIT).await;
    assert!(matches!(answer, CreateAnswer::Created(_)), "{answer:?}");
    let granted: Vec<(&str, &str)> = ["create", "delete", "get", "list", "patch", "watch"]
        .map(|verb| (verb, "pods"))
        .into_iter()
        .chain([("get", "pods/log")])
        .collect();
    for (number, taken) in granted.iter().enumerate() {
        let rules: Vec<Value> = granted
            .iter()
            .filter(|grant| *grant != taken)
            .map(|(verb, resource)| json!({ "apiGroups": [""], "resources": [resource], "verbs": [verb] }))
            .collect();
        put_role(plane, rules).await;
        let subject = format!("namespace airflow: {} {}", taken.0, taken.1);
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let findings = wrong(cluster.preflight(&here, Looks::default()).await);
            match findings.as_slice() {
                [only] if only.subject == subject => break,
                // The authorizer learns of a Role from its own watch.
                _ => assert!(tokio::time::Instant::now() < deadline, "{subject}: {findings:?}"),
            }
        }
        assert_eq!(refused_calls(&operator, cluster, number).await, [*taken]);
    }
}

async fn put_role(plane: &ControlPlane, rules: Vec<Value>) {
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "windlass", "namespace": "airflow" }, "rules": rules });
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/airflow/roles/windlass";
    let request = http::Request::put(path).header("content-type", "application/json");
    plane.client().request_text(request.body(role.to_string().into_bytes()).unwrap()).await.unwrap();
}

/// Every kind of call once; those that RBAC refused, as verb and resource.
async fn refused_calls(
    operator: &Cluster,
    cluster: &Cluster,
    number: usize,
) -> Vec<(&'static str, &'static str)> {
    let mut refused = Vec::new();
    let (at, probe) = (PodRef { namespace: "airflow".into(), name: "probe".into() }, launch(10));
    let mine = launch(100 + number);
    let made = cluster.create(&pod("airflow", &format!("c{number}"), &mine), &mine, FIRST, LIMIT).await;
    if matches!(&made, CreateAnswer::NamespaceNotReady { message } if message.contains("cannot create resource"))
    {
        refused.push(("create", "pods"));
    }
    let deleted = cluster.delete(&at, &PodUid("another".into()), None, Some(0)).await;
    if matches!(&deleted, DeleteAnswer::Failed { error } if error.contains("cannot delete resource")) {
        refused.push(("delete", "pods"));
    }
    let got = cluster.get(&at, &probe, FIRST).await;
    if matches!(&got, GetAnswer::Failed { error } if error.contains("cannot get resource \"pods\"")) {
        refused.push(("get", "pods"));
    }
    if cluster.logs(&at, "base", 10, 1_000, LIMIT).await.is_err_and(|error| error.kind() == "forbidden") {
        refused.push(("get", "pods/log"));
    }
    let patched = cluster.relabel(&at, &PodUid("another".into()), 7, true).await;
    if patched.is_err_and(|error| error.kind() == "forbidden") {
        refused.push(("patch", "pods"));
    }
    let ours = installation();
    let here = Namespaces::Only(vec!["airflow".into()]);
    let listing = cluster.list(&here, &Selection::Installation(&ours), 1).await;
    if listing.faults.iter().any(|error| error.kind() == "forbidden") {
        refused.push(("list", "pods"));
    }
    if watch_is_refused(operator, cluster, number).await {
        refused.push(("watch", "pods"));
    }
    refused
}

/// Where the server streams the list, a watch needs no other verb. A pod made after the list is seen by the watch alone.
async fn watch_is_refused(operator: &Cluster, cluster: &Cluster, number: usize) -> bool {
    let namespaces = Namespaces::Only(vec!["airflow".into()]);
    let mut events = pin!(cluster.watch(&namespaces, &installation()));
    let (name, later) = (format!("w{number}"), launch(200 + number));
    loop {
        match timeout(LIMIT, events.next()).await.unwrap().unwrap() {
            PodEvent::Interrupted { error } if error.contains("cannot watch resource") => return true,
            PodEvent::Listed(_) => {
                operator.create(&pod("airflow", &name, &later), &later, FIRST, LIMIT).await;
            }
            PodEvent::Seen(view) if view.pod.name == name => return false,
            PodEvent::Seen(_) | PodEvent::Deleted(_) | PodEvent::Interrupted { .. } => {}
        }
    }
}

async fn rules(account: &Raw) -> Vec<Value> {
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": "airflow" } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (status, answer) = account.ask("POST", path, Some(review)).await;
    assert_eq!(status, 201, "{answer}");
    answer["status"]["resourceRules"].as_array().unwrap().clone()
}

/// Any request with an account's token: the client under test has no way to make these.
struct Raw {
    client: kube::Client,
}

impl Raw {
    async fn new(plane: &ControlPlane, namespace: &str, account: &str, folder: &Path) -> Self {
        let file = folder.join(format!("token-{account}"));
        std::fs::write(&file, plane.service_account_token(namespace, account).await.unwrap()).unwrap();
        let mut config = kube::Config::new(plane.url().parse().unwrap());
        config.auth_info.token_file = Some(file.display().to_string());
        config.root_cert_file = Some(plane.ca());
        config.default_retry = false;
        Self { client: kube::Client::try_from(config).unwrap() }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let body = body.map_or_else(Vec::new, |b| b.to_string().into_bytes());
        let response = self.client.send(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}
