//! Requests and what is expected of their answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

/// How long something that a controller does may take.
const EVENTUALLY: Duration = Duration::from_secs(60);

/// An API server under test.
pub(crate) struct Server {
    client: kube::Client,
    anonymous: kube::Client,
    next: AtomicU32,
    /// Keeps the namespaces of runs against one long-lived server apart.
    run: u32,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    request: String,
    pub(crate) code: u16,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Server {
    pub(crate) fn new(config: kube::Config) -> Result<Self> {
        let mut config = config;
        config.default_retry = false;
        let mut nobody = config.clone();
        nobody.auth_info = kube::config::AuthInfo::default();
        Ok(Self {
            client: kube::Client::try_from(config)?,
            anonymous: kube::Client::try_from(nobody)?,
            next: AtomicU32::new(0),
            run: std::process::id(),
        })
    }

    /// A new namespace; returns the path of its pods.
    pub(crate) async fn pods(&self) -> Result<String> {
        Ok(format!("{}/pods", self.namespace().await?))
    }

    /// A new namespace; returns its path.
    pub(crate) async fn namespace(&self) -> Result<String> {
        let name = format!("c{}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.post("/api/v1/namespaces", &body).await?.ok(201)?;
        Ok(format!("/api/v1/namespaces/{name}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, "application/json", "", "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        self.send("GET", path, accept, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, "application/json", "application/json", &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PUT", path, "application/json", "application/json", &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer> {
        self.send("DELETE", path, "application/json", "", "").await
    }

    pub(crate) async fn delete_with(&self, path: &str, options: &Value) -> Result<Answer> {
        self.send("DELETE", path, "application/json", "application/json", &options.to_string()).await
    }

    /// `kind`: `merge`, `strategic-merge` or `json`.
    pub(crate) async fn patch(&self, kind: &str, path: &str, body: &Value) -> Result<Answer> {
        let content_type = format!("application/{kind}-patch+json");
        self.send("PATCH", path, "application/json", &content_type, &body.to_string()).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Answer> {
        let mut request = http::Request::builder().method(method).uri(path).header("accept", accept);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Body::from(body.as_bytes().to_vec()))?;
        answer(&self.client, format!("{method} {path} {body}"), request).await
    }

    /// A request with a token that nobody has.
    pub(crate) async fn get_unauthorized(&self, path: &str) -> Result<Answer> {
        let request = http::Request::get(path).header("authorization", "Bearer nobodys-token");
        answer(&self.anonymous, format!("GET {path} unauthorized"), request.body(Body::empty())?).await
    }

    /// The events of a watch that ends by itself after a second.
    pub(crate) async fn watch(&self, path: &str, query: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("{path}?watch=1&timeoutSeconds=1&{query}")).await?.ok(200)?;
        answer.text.lines().map(|line| serde_json::from_str(line).context("a line of the watch")).collect()
    }

    /// Asks until `done`; a controller has to act first.
    pub(crate) async fn eventually(&self, path: &str, done: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let deadline = Instant::now() + EVENTUALLY;
        loop {
            let answer = self.get(path).await?;
            if done(&answer) {
                return Ok(answer);
            }
            ensure!(Instant::now() < deadline, "{path} is still {} {}", answer.code, answer.text);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn answer(client: &kube::Client, what: String, request: http::Request<Body>) -> Result<Answer> {
    let response = client.send(request).await.with_context(|| what.clone())?;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8(bytes.to_vec()).context("the answer is text")?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { request: what, code, text, body })
}

impl Answer {
    /// Expects the code.
    pub(crate) fn ok(self, code: u16) -> Result<Self> {
        ensure!(self.code == code, "{}: expected {code}, got {} {}", self.request, self.code, self.text);
        Ok(self)
    }

    /// Expects the value at a JSON pointer; `null` for an absent one.
    pub(crate) fn has(self, pointer: &str, expected: Value) -> Result<Self> {
        let found = self.body.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(*found == expected, "{}: {pointer} is {found}, not {expected}", self.request);
        Ok(self)
    }

    /// Expects a refusal: a Status with exactly this message.
    pub(crate) fn refused(self, code: u16, reason: &str, message: &str) -> Result<Self> {
        let found = self.body["message"].as_str().unwrap_or_default().to_owned();
        let answer = self.refused_kind(code, reason)?;
        ensure!(found == message, "{}: the message is\n{found}\nnot\n{message}", answer.request);
        Ok(answer)
    }

    /// Expects a refusal whose message only begins so: the rest is Go's own wording.
    pub(crate) fn refused_with(self, code: u16, reason: &str, beginning: &str) -> Result<Self> {
        let found = self.body["message"].as_str().unwrap_or_default().to_owned();
        let answer = self.refused_kind(code, reason)?;
        ensure!(found.starts_with(beginning), "{}: the message is\n{found}", answer.request);
        Ok(answer)
    }

    fn refused_kind(self, code: u16, reason: &str) -> Result<Self> {
        let answer = self.ok(code)?.has("/kind", json!("Status"))?.has("/status", json!("Failure"))?;
        answer
            .has("/code", json!(code))?
            .has("/apiVersion", json!("v1"))?
            .has("/reason", if reason.is_empty() { Value::Null } else { json!(reason) })
    }

    pub(crate) fn text_at(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let items = self.body["items"].as_array().into_iter().flatten();
        items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }
}
