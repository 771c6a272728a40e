use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use windlass_cluster::{Cluster, ClusterConfig, Level, Namespaces, NoObserver, Source, blocked, told};
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, PodRef, PodUid};
use windlass_core::outcome::Reason;
use windlass_lab::control_plane::{ControlPlane, Options};

use crate::{LIMIT, admin, launch, pod};

const FIRST: Attempt = Attempt::FIRST;

fn at(name: &str) -> PodRef {
    PodRef { namespace: "etl".into(), name: name.into() }
}

#[tokio::test]
async fn a_real_api_server_says_what_the_client_expects() {
    let options = Options { service_account_admission: true, controller_manager: true, ..Options::default() };
    let plane = ControlPlane::start(options).await.unwrap();
    plane.create_namespace("etl").await.unwrap();
    let cluster = admin(&plane).await;
    life_of_a_pod(&cluster).await;
    names_that_are_taken(&cluster).await;
    refusals(&cluster).await;
    a_full_quota_holds_and_a_raised_one_lets_go(&plane, &cluster).await;
    a_namespace_that_ends(&plane, &cluster).await;
    a_wrong_certificate_and_a_wrong_token_are_named(&plane).await;
}

async fn life_of_a_pod(cluster: &Cluster) {
    let (name, mine) = (at("life"), launch(1));
    assert_eq!(cluster.get(&name, &mine, FIRST).await, GetAnswer::Gone);
    let CreateAnswer::Created(made) = cluster.create(&pod("etl", "life", &mine), &mine, FIRST, LIMIT).await
    else {
        panic!("not created")
    };
    assert_eq!((&made.pod, &made.launch, made.bound, made.deleting), (&name, &mine, false, false));
    assert_eq!(cluster.get(&name, &mine, FIRST).await, GetAnswer::Found(Some(made.clone())));
    assert_eq!(cluster.get(&name, &mine, FIRST.next()).await, GetAnswer::Found(None));
    // Not bound to a node: no log, and no error.
    assert_eq!(cluster.logs(&name, "base", 10, 1_000, LIMIT).await.unwrap(), "");

    let stale = cluster.delete(&name, &made.uid, Some("1"), Some(0)).await;
    assert_eq!(stale, DeleteAnswer::Moved);
    let other = cluster.delete(&name, &PodUid("another".into()), None, Some(0)).await;
    assert_eq!(other, DeleteAnswer::Gone);
    let judged = cluster.delete(&name, &made.uid, Some(&made.resource_version), None).await;
    assert_eq!(judged, DeleteAnswer::Accepted);
    assert_eq!(cluster.get(&name, &mine, FIRST).await, GetAnswer::Gone);
    assert_eq!(cluster.delete(&name, &made.uid, None, None).await, DeleteAnswer::Gone);
}

async fn names_that_are_taken(cluster: &Cluster) {
    let (mine, other) = (launch(2), launch(3));
    let body = pod("etl", "taken", &mine);
    let first = cluster.create(&body, &mine, FIRST, LIMIT).await;
    let CreateAnswer::Created(made) = first else { panic!("{first:?}") };
    assert_eq!(cluster.create(&body, &mine, FIRST, LIMIT).await, CreateAnswer::Adopted(made.clone()));
    let theirs = cluster.create(&pod("etl", "taken", &other), &other, FIRST, LIMIT).await;
    assert!(matches!(theirs, CreateAnswer::NameTaken { .. }), "{theirs:?}");
    assert_eq!(cluster.delete(&at("taken"), &made.uid, None, Some(0)).await, DeleteAnswer::Accepted);
}

async fn refusals(cluster: &Cluster) {
    let mine = launch(4);
    let refused = async |body: Value| match cluster.create(&body, &mine, FIRST, LIMIT).await {
        CreateAnswer::Refused { reason: Reason::PodRejected, message } => message,
        other => panic!("not refused: {other:?}"),
    };
    let nowhere = cluster.create(&pod("nowhere", "a", &mine), &mine, FIRST, LIMIT).await;
    let CreateAnswer::NamespaceNotReady { message } = nowhere else { panic!("{nowhere:?}") };
    assert!(message.starts_with("namespaces \"nowhere\" not found (create the namespace"), "{message}");
    let mut imageless = pod("etl", "a", &mine);
    imageless["spec"]["containers"][0]["image"] = json!("");
    let message = refused(imageless).await;
    assert!(message.contains("spec.containers[0].image: Required value"), "{message}");
    let mut ghost = pod("etl", "a", &mine);
    ghost["spec"]["serviceAccountName"] = json!("ghost");
    let message = refused(ghost).await;
    assert!(message.contains("etl/ghost") && message.contains("create the service account"), "{message}");
    let mut shapeless = pod("etl", "a", &mine);
    shapeless["spec"]["containers"] = json!({ "base": {} });
    assert!(refused(shapeless).await.contains("cannot be handled as a Pod"));
    // Beyond what the API server reads of a request (3 MiB), and beyond what etcd stores (1.5 MiB).
    for size in [4_000_000, 2_000_000] {
        let mut big = pod("etl", "a", &mine);
        big["spec"]["containers"][0]["args"] = json!(["x".repeat(size)]);
        let message = refused(big).await;
        assert!(message.contains("make the pod smaller"), "{size}: {message}");
    }
    let nameless = cluster.create(&json!({ "metadata": { "namespace": "etl" } }), &mine, FIRST, LIMIT).await;
    assert!(
        matches!(nameless, CreateAnswer::Refused { reason: Reason::TemplateInvalid, .. }),
        "{nameless:?}"
    );
}

async fn post(plane: &ControlPlane, path: &str, body: Value) {
    let request = http::Request::post(path).header("content-type", "application/json");
    plane.client().request_text(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap();
}

async fn a_full_quota_holds_and_a_raised_one_lets_go(plane: &ControlPlane, cluster: &Cluster) {
    plane.create_namespace("small").await.unwrap();
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "one" },
        "spec": { "hard": { "pods": "1" } } });
    post(plane, "/api/v1/namespaces/small/resourcequotas", quota).await;
    // The controller has to count before the quota holds anything back.
    let deadline = Instant::now() + LIMIT;
    let mut number = 10;
    let message = loop {
        let mine = launch(number);
        match cluster.create(&pod("small", &format!("q{number}"), &mine), &mine, FIRST, LIMIT).await {
            CreateAnswer::Created(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            CreateAnswer::QuotaFull { message } => break message,
            other => panic!("neither created nor held: {other:?}"),
        }
        number += 1;
    };
    assert!(message.contains("quota"), "{message}");
    // A daemon that starts now leads, and says what its tasks wait for.
    let findings =
        cluster.preflight(&Namespaces::Only(vec!["small".into()]), windlass_cluster::Looks::default()).await;
    assert_eq!(blocked(&findings), None);
    let warnings: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Warning).collect();
    let told = told(&warnings);
    assert!(
        told.starts_with("namespace small: its quota is full: ") && told.contains("exceeded quota"),
        "{told}"
    );
    assert!(
        told.ends_with("(hint: its tasks wait until there is room; raise the quota if it stays so)"),
        "{told}"
    );
}

async fn a_namespace_that_ends(plane: &ControlPlane, cluster: &Cluster) {
    let ending = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "ending" },
        "spec": { "finalizers": ["kubernetes", "example.com/hold"] } });
    post(plane, "/api/v1/namespaces", ending).await;
    let delete = http::Request::delete("/api/v1/namespaces/ending").body(Vec::new()).unwrap();
    plane.client().request_text(delete).await.unwrap();
    let mine = launch(5);
    let answer = cluster.create(&pod("ending", "a", &mine), &mine, FIRST, LIMIT).await;
    let CreateAnswer::NamespaceNotReady { message } = answer else { panic!("{answer:?}") };
    assert!(message.contains("the namespace is being deleted"), "{message}");
}

async fn a_wrong_certificate_and_a_wrong_token_are_named(plane: &ControlPlane) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "nobody").unwrap();
    std::fs::copy(plane.ca(), folder.path().join("ca.crt")).unwrap();
    let source = Source::ServiceAccount { url: plane.url().to_owned(), directory: folder.path().to_owned() };
    let asked = async |config: ClusterConfig| {
        let cluster = Cluster::connect(config, std::sync::Arc::new(NoObserver)).await.unwrap();
        match cluster.get(&at("a"), &launch(6), FIRST).await {
            GetAnswer::Failed { error } => error,
            other => panic!("{other:?}"),
        }
    };
    let config = ClusterConfig { source, ..ClusterConfig::default() };
    let token = asked(config.clone()).await;
    assert!(token.contains("with 401: Unauthorized (hint: the token has expired"), "{token}");

    let other_ca = ControlPlane::start(Options::default()).await.unwrap();
    let certificate = asked(ClusterConfig { ca_file: Some(other_ca.ca()), ..config }).await;
    assert!(
        certificate
            .starts_with(&format!("the TLS certificate of the API server {} is not accepted", plane.url())),
        "{certificate}"
    );
}
