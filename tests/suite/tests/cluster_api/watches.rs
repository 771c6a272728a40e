//! Watches.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bodies::{labelled, pod};
use crate::server::Server;

/// `ADDED a`, `MODIFIED a deleting`, ...; bookmarks are left out unless they end the initial events.
fn told(events: &[Value]) -> Vec<String> {
    let ends = "k8s.io~1initial-events-end";
    events
        .iter()
        .filter_map(|event| {
            let kind = event["type"].as_str().unwrap_or_default();
            let object = &event["object"];
            if kind == "BOOKMARK" {
                let end = object.pointer(&format!("/metadata/annotations/{ends}"));
                return end.map(|_| "END".to_owned());
            }
            let deleting = if object["metadata"]["deletionTimestamp"].is_string() { " deleting" } else { "" };
            Some(format!("{kind} {}{deleting}", object["metadata"]["name"].as_str().unwrap_or_default()))
        })
        .collect()
}

async fn version(server: &Server, pods: &str) -> Result<String> {
    Ok(server.get(pods).await?.ok(200)?.text_at("/metadata/resourceVersion"))
}

pub(crate) async fn events_of_a_life(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let from = version(server, &pods).await?;
    server.post(&pods, &pod("unbound")).await?.ok(201)?;
    server.delete(&format!("{pods}/unbound")).await?.ok(200)?;
    server.post(&pods, &pod("bound")).await?.ok(201)?;
    crate::writes::binding_of(server, &pods, "bound").await?;
    server.delete(&format!("{pods}/bound")).await?.ok(200)?;
    server.delete(&format!("{pods}/bound?gracePeriodSeconds=0")).await?.ok(200)?;
    let events = server.watch(&pods, &format!("resourceVersion={from}")).await?;
    let expected = [
        "ADDED unbound",
        // A watcher sees the deletion also where the removal follows at once.
        "MODIFIED unbound deleting",
        "DELETED unbound deleting",
        "ADDED bound",
        "MODIFIED bound",
        "MODIFIED bound deleting",
        "MODIFIED bound deleting",
        "DELETED bound deleting",
    ];
    ensure!(told(&events) == expected, "{:?}", told(&events));
    let versions: Vec<u64> = events
        .iter()
        .filter_map(|e| e["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok())
        .collect();
    ensure!(versions.len() == expected.len() && versions.is_sorted(), "versions are {versions:?}");
    // From the middle only the rest is told.
    let events = server.watch(&pods, &format!("resourceVersion={}", versions[5])).await?;
    ensure!(told(&events) == expected[6..], "{:?}", told(&events));
    Ok(())
}

pub(crate) async fn selected_by_label(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let from = version(server, &pods).await?;
    server.post(&pods, &labelled("moving", json!({ "k": "no" }))).await?.ok(201)?;
    let one = format!("{pods}/moving");
    for label in ["yes", "no", "yes"] {
        let patch = json!({ "metadata": { "labels": { "k": label } } });
        server.patch("merge", &one, &patch).await?.ok(200)?;
    }
    server.patch("merge", &one, &json!({ "metadata": { "labels": { "other": "1" } } })).await?.ok(200)?;
    let query = format!("resourceVersion={from}&labelSelector=k%3Dyes");
    let events = server.watch(&pods, &query).await?;
    ensure!(
        told(&events) == ["ADDED moving", "DELETED moving", "ADDED moving", "MODIFIED moving"],
        "{:?}",
        told(&events)
    );
    // What is no longer selected is told as it last was.
    let left = &events[1]["object"]["metadata"];
    ensure!(left["labels"]["k"] == "yes", "{left}");
    Ok(())
}

pub(crate) async fn streaming_list(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    for name in ["a", "b"] {
        server.post(&pods, &pod(name)).await?.ok(201)?;
    }
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let events = server.watch(&pods, query).await?;
    ensure!(told(&events) == ["ADDED a", "ADDED b", "END"], "{:?}", told(&events));
    let end = events.last().context("an event")?;
    let version: u64 = end["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse()?;
    ensure!(version > 0, "{end}");
    ensure!(end["object"]["kind"] == "Pod", "{end}");
    let events = server.watch(&pods, "").await?;
    ensure!(told(&events) == ["ADDED a", "ADDED b"], "{:?}", told(&events));
    Ok(())
}

pub(crate) async fn refused(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let watch = |query: &str| format!("{pods}?watch=1&timeoutSeconds=1&{query}");
    let invalid = |why: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
    let message = invalid(
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    );
    server.get(&watch("sendInitialEvents=true")).await?.refused(422, "Invalid", &message)?;
    let message = invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list");
    server.get(&format!("{pods}?sendInitialEvents=true")).await?.refused(422, "Invalid", &message)?;
    let answer = server.get(&watch("resourceVersion=abc")).await?;
    answer.refused_with(500, "", "resourceVersion: Invalid value: \"abc\"")?;
    Ok(())
}

pub(crate) async fn compacted(server: &Server, compact: &dyn Fn()) -> Result<()> {
    let pods = server.pods().await?;
    for name in ["a", "b"] {
        server.post(&pods, &pod(name)).await?.ok(201)?;
    }
    let first = server.get(&format!("{pods}?limit=1")).await?.ok(200)?;
    let (from, token) = (first.text_at("/metadata/resourceVersion"), first.text_at("/metadata/continue"));
    server.post(&pods, &pod("c")).await?.ok(201)?;
    compact();
    let events = server.watch(&pods, &format!("resourceVersion={from}")).await?;
    let [event] = events.as_slice() else { anyhow::bail!("events are {events:?}") };
    ensure!(event["type"] == "ERROR", "{event}");
    let status = &event["object"];
    ensure!(status["code"] == 410 && status["reason"] == "Expired", "{status}");
    let text = status["message"].as_str().unwrap_or_default();
    ensure!(text.starts_with(&format!("too old resource version: {from} (")), "{status}");
    let path = format!("{pods}?resourceVersion={from}&resourceVersionMatch=Exact");
    let message = "The resourceVersion for the provided list is too old.";
    server.get(&path).await?.refused(410, "Expired", message)?;
    let answer = server.get(&format!("{pods}?limit=1&continue={token}")).await?;
    let answer = answer.refused_with(410, "Expired", "The provided continue parameter is too old")?;
    let token = answer.text_at("/metadata/continue");
    let rest = server.get(&format!("{pods}?continue={token}")).await?.ok(200)?;
    ensure!(rest.names() == ["b", "c"], "the rest is {:?}", rest.names());
    Ok(())
}
