//! The server over TLS, in each mode.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use windlass_core::identity::irsa::{Credentials, DEFAULT_AUDIENCE, check};
use windlass_eks::irsa::{Flags, Webhook};
use windlass_eks::review::Verdict;
use windlass_eks::server::{Handler, MUTATE_IRSA, MUTATE_SGP, Mode, VALIDATE_SGP, Webhooks};

const ROLE: &str = "arn:aws:iam::111122223333:role/airflow-worker";

fn irsa() -> Handler {
    let annotations = json!({ "eks.amazonaws.com/role-arn": ROLE });
    let account =
        json!({ "metadata": { "namespace": "airflow", "name": "worker", "annotations": annotations } });
    let webhook =
        Webhook { flags: Flags::on_eks("eu-west-1"), service_accounts: vec![account], ..Webhook::default() };
    Arc::new(move |request| webhook.admit(request).into())
}

fn always(verdict: Verdict) -> Handler {
    Arc::new(move |_| verdict.clone())
}

async fn start(path: &'static str, handler: Handler) -> (Webhooks, Client) {
    // Other tests of this process may have been first.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let webhooks = Webhooks::start([(path, handler)]).await.unwrap();
    let authority = Certificate::from_pem(webhooks.ca_bundle().as_bytes()).unwrap();
    let client = Client::builder()
        .tls_certs_only([authority])
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    (webhooks, client)
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "p", "namespace": "airflow" },
        "spec": { "serviceAccountName": "worker", "containers": [{ "name": "base" }] },
    })
}

async fn ask(webhooks: &Webhooks, client: &Client, path: &str) -> reqwest::Result<Value> {
    let request = json!({ "uid": "u-1", "namespace": "airflow", "operation": "CREATE", "object": pod() });
    let review =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    let answer: Value = client.post(webhooks.url(path)).json(&review).send().await?.json().await?;
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], "u-1");
    Ok(answer["response"].clone())
}

/// The pod with the answer's patch.
fn patched(response: &Value) -> Value {
    let patch = STANDARD.decode(response["patch"].as_str().expect("a patch")).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

fn is_silent(response: &Value) -> bool {
    response["allowed"] == true && response.get("patch").is_none()
}

#[tokio::test]
async fn a_pod_gets_its_role_over_tls() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    let response = ask(&webhooks, &client, MUTATE_IRSA).await.unwrap();
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(check(&patched(&response), ROLE, DEFAULT_AUDIENCE), Ok(Credentials::WebIdentity));
    assert_eq!(webhooks.calls(MUTATE_IRSA), 1);
    let elsewhere = client.post(webhooks.url("/elsewhere")).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
    let text = client.post(webhooks.url(MUTATE_IRSA)).body("{}").send().await.unwrap();
    assert_eq!(text.status(), 415);
}

#[tokio::test]
async fn a_client_without_the_authority_is_not_served() {
    let (webhooks, _) = start(MUTATE_IRSA, irsa()).await;
    let (_other, stranger) = start(MUTATE_IRSA, irsa()).await;
    assert!(ask(&webhooks, &stranger, MUTATE_IRSA).await.unwrap_err().is_connect());
    assert_eq!(webhooks.calls(MUTATE_IRSA), 0);
}

#[tokio::test]
async fn silent_and_back() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    webhooks.set_mode(MUTATE_IRSA, Mode::Silent);
    assert!(is_silent(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap()));
    webhooks.set_mode(MUTATE_IRSA, Mode::Normal);
    patched(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap());
}

#[tokio::test]
async fn silent_until_the_account_is_old_enough() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    webhooks.account_created("airflow", "worker");
    webhooks.set_mode(MUTATE_IRSA, Mode::SilentUntil { age: Duration::from_secs(600) });
    assert!(is_silent(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap()));
    webhooks.set_mode(MUTATE_IRSA, Mode::SilentUntil { age: Duration::from_millis(20) });
    tokio::time::sleep(Duration::from_millis(30)).await;
    patched(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap());
    // Made anew, it is young again.
    webhooks.account_created("airflow", "worker");
    webhooks.set_mode(MUTATE_IRSA, Mode::SilentUntil { age: Duration::from_secs(600) });
    assert!(is_silent(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap()));
}

#[tokio::test]
async fn an_account_that_nobody_told_of_is_as_old_as_its_first_pod() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    webhooks.set_mode(MUTATE_IRSA, Mode::SilentUntil { age: Duration::from_millis(500) });
    assert!(is_silent(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap()));
    tokio::time::sleep(Duration::from_millis(510)).await;
    patched(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap());
}

#[tokio::test]
async fn slow() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    let delay = Duration::from_millis(50);
    webhooks.set_mode(MUTATE_IRSA, Mode::Slow(delay));
    let asked = std::time::Instant::now();
    patched(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap());
    assert!(asked.elapsed() >= delay);
}

#[tokio::test]
async fn denied_with_the_code_and_message() {
    let (webhooks, client) = start(MUTATE_SGP, irsa()).await;
    let mode = Mode::Deny { code: 403, message: "ServiceAccount \"worker\" not found".to_owned() };
    webhooks.set_mode(MUTATE_SGP, mode);
    let response = ask(&webhooks, &client, MUTATE_SGP).await.unwrap();
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"], json!({ "code": 403, "message": "ServiceAccount \"worker\" not found" }));
}

#[tokio::test]
async fn down_closes_the_connection() {
    let (webhooks, client) = start(MUTATE_IRSA, irsa()).await;
    webhooks.set_mode(MUTATE_IRSA, Mode::Down);
    let error = ask(&webhooks, &client, MUTATE_IRSA).await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    webhooks.set_mode(MUTATE_IRSA, Mode::Normal);
    patched(&ask(&webhooks, &client, MUTATE_IRSA).await.unwrap());
}

#[tokio::test]
async fn what_handlers_can_say() {
    let (webhooks, client) = start(VALIDATE_SGP, always(Verdict::Allow)).await;
    assert!(is_silent(&ask(&webhooks, &client, VALIDATE_SGP).await.unwrap()));
    let mut mutated = pod();
    mutated["spec"]["containers"][0]["resources"] = json!({ "limits": { "vpc.amazonaws.com/pod-eni": "1" } });
    mutated["metadata"].as_object_mut().unwrap().remove("name");
    let (webhooks, client) = start(MUTATE_SGP, always(Verdict::Mutated(mutated.clone()))).await;
    assert_eq!(patched(&ask(&webhooks, &client, MUTATE_SGP).await.unwrap()), mutated);
    let (webhooks, client) = start(MUTATE_SGP, always(Verdict::Mutated(pod()))).await;
    assert_eq!(patched(&ask(&webhooks, &client, MUTATE_SGP).await.unwrap()), pod());
    let body = "broken".to_owned();
    let (webhooks, client) = start(MUTATE_SGP, always(Verdict::Http { status: 500, body })).await;
    let review = json!({ "request": { "object": pod() } });
    let answer = client.post(webhooks.url(MUTATE_SGP)).json(&review).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.text().await.unwrap(), "broken");
}
