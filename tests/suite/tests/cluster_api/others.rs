//! Namespaces, logs, small kinds, discovery, authentication.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bodies::pod;
use crate::server::Server;

pub(crate) async fn namespace_ends_with_its_content(server: &Server) -> Result<()> {
    let namespace = server.namespace().await?;
    let name = namespace.rsplit('/').next().unwrap_or_default().to_owned();
    let again = json!({ "metadata": { "name": name } });
    server.post("/api/v1/namespaces", &again).await?.refused(
        409,
        "AlreadyExists",
        &format!("namespaces {name:?} already exists"),
    )?;
    server.get(&namespace).await?.ok(200)?.has("/status/phase", json!("Active"))?;
    let pods = format!("{namespace}/pods");
    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(&pods, &held).await?.ok(201)?;
    server.delete(&namespace).await?.ok(200)?.has("/status/phase", json!("Terminating"))?;
    let message = format!(
        "pods \"late\" is forbidden: unable to create new content in namespace {name} because it is being terminated"
    );
    let answer = server.post(&pods, &pod("late")).await?.refused(403, "Forbidden", &message)?;
    answer.has("/details/causes/0/reason", json!("NamespaceTerminating"))?;
    let one = format!("{pods}/held");
    server.eventually(&one, |a| a.body["metadata"]["deletionTimestamp"].is_string()).await?;
    let free = json!({ "metadata": { "finalizers": null } });
    server.patch("merge", &one, &free).await?.ok(200)?;
    server.eventually(&namespace, |a| a.code == 404).await?;
    let answer = server.get("/api/v1/namespaces/no-such-namespace").await?;
    answer.refused(404, "NotFound", "namespaces \"no-such-namespace\" not found")?;
    Ok(())
}

pub(crate) async fn logs_without_a_container(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let mut body = pod("silent");
    body["spec"]["containers"] = json!([{ "name": "a", "image": "x" }, { "name": "b", "image": "x" }]);
    server.post(&pods, &body).await?.ok(201)?;
    server.post(&pods, &pod("single")).await?.ok(201)?;
    let message = "a container name must be specified for pod silent, choose one of: [a b]";
    let answer = server.get_as(&format!("{pods}/silent/log"), "*/*").await?;
    answer.refused(400, "BadRequest", message)?;
    let answer = server.get_as(&format!("{pods}/silent/log?container=c"), "*/*").await?;
    answer.refused(400, "BadRequest", "container c is not valid for pod silent")?;
    let answer = server.get_as(&format!("{pods}/single/log"), "*/*").await?.ok(204)?;
    ensure!(answer.text.is_empty(), "an unbound pod has a log: {}", answer.text);
    let answer = server.get_as(&format!("{pods}/none/log"), "*/*").await?;
    answer.refused(404, "NotFound", "pods \"none\" not found")?;
    Ok(())
}

pub(crate) async fn small_kinds(server: &Server) -> Result<()> {
    let namespace = server.namespace().await?;
    let secrets = format!("{namespace}/secrets");
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "hidden" } });
    let answer = server.post(&secrets, &secret).await?.ok(201)?;
    answer
        .has("/data/k", json!("aGlkZGVu"))?
        .has("/type", json!("Opaque"))?
        .has("/stringData", Value::Null)?;
    let maps = format!("{namespace}/configmaps");
    let map = json!({ "metadata": { "name": "m" }, "data": { "k": "v" } });
    server.post(&maps, &map).await?.ok(201)?.has("/data/k", json!("v"))?;
    let answer = server.delete(&format!("{maps}/m")).await?.ok(200)?;
    answer
        .has("/kind", json!("Status"))?
        .has("/status", json!("Success"))?
        .has("/details/name", json!("m"))?
        .has("/details/kind", json!("configmaps"))?;
    let name = namespace.rsplit('/').next().unwrap_or_default();
    let event = json!({ "metadata": { "name": "e" }, "reason": "Because", "message": "text", "type": "Warning",
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": name } });
    let events = format!("{namespace}/events");
    server.post(&events, &event).await?.ok(201)?;
    let found = server.get(&format!("{events}?fieldSelector=involvedObject.name%3Dp")).await?.ok(200)?;
    ensure!(found.names() == ["e"], "events are {:?}", found.names());
    server.eventually(&format!("{namespace}/serviceaccounts/default"), |a| a.code == 200).await?;
    Ok(())
}

pub(crate) async fn access_review(server: &Server) -> Result<()> {
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "namespace": "default", "verb": "create", "resource": "pods" } } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    server.post(path, &review).await?.ok(201)?.has("/status/allowed", json!(true))?;
    Ok(())
}

pub(crate) async fn unknown_paths(server: &Server) -> Result<()> {
    let message = "the server could not find the requested resource";
    server.get("/api/v1/nonsense").await?.refused(404, "NotFound", message)?;
    ensure!(server.get("/nonsense").await?.ok(404)?.text == "404 page not found\n", "another text");
    let message = "the server does not allow this method on the requested resource";
    let answer = server.put("/api/v1/namespaces/default/pods", &json!({})).await?;
    answer.refused(405, "MethodNotAllowed", message)?;
    ensure!(server.get_as("/readyz", "*/*").await?.ok(200)?.text == "ok", "not ready");
    server.get("/api").await?.ok(200)?.has("/versions/0", json!("v1"))?;
    let core = server.get("/api/v1").await?.ok(200)?.has("/kind", json!("APIResourceList"))?;
    let resources = core.body["resources"].as_array().cloned().unwrap_or_default();
    for name in
        ["pods", "pods/binding", "pods/eviction", "pods/log", "pods/status", "namespaces", "nodes", "events"]
    {
        ensure!(resources.iter().any(|r| r["name"] == name), "{name} is not discovered");
    }
    ensure!(!server.get("/version").await?.ok(200)?.text_at("/gitVersion").is_empty(), "no version");
    Ok(())
}

pub(crate) async fn unauthorized(server: &Server) -> Result<()> {
    let answer = server.get_unauthorized("/api/v1/namespaces/default/pods").await?;
    answer.refused(401, "Unauthorized", "Unauthorized")?;
    Ok(())
}
