//! Rows for `kubectl get`: the server renders the columns.

use serde_json::{Value, json};

use super::resource::Resource;
use crate::clock;

/// Metadata alone.
pub(crate) fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

/// A Table of objects. `include`: `includeObject` of the query.
pub(crate) fn table(
    resource: &Resource,
    objects: &[&Value],
    meta: &Value,
    include: Option<&str>,
    columns: bool,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let shown = match include {
                Some("None") => Value::Null,
                Some("Object") => (*object).clone(),
                _ => partial(object),
            };
            json!({ "cells": cells(resource, object), "object": shown })
        })
        .collect();
    let definitions = if columns { json!(definitions(resource)) } else { Value::Null };
    json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "columnDefinitions": definitions, "rows": rows })
}

/// Column names and priorities (1: only with `-o wide`).
fn columns(resource: &Resource) -> &'static [(&'static str, u8)] {
    match resource.kind {
        "Pod" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Status", 0),
            ("Restarts", 0),
            ("Age", 0),
            ("IP", 1),
            ("Node", 1),
            ("Nominated Node", 1),
            ("Readiness Gates", 1),
        ],
        "Node" => &[("Name", 0), ("Status", 0), ("Roles", 0), ("Age", 0), ("Version", 0), ("Internal-IP", 1)],
        "Namespace" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        "Event" => {
            &[("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0), ("Name", 1)]
        }
        "Secret" => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        "ConfigMap" => &[("Name", 0), ("Data", 0), ("Age", 0)],
        "ResourceQuota" => &[("Name", 0), ("Request", 0), ("Limit", 0), ("Age", 0)],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn definitions(resource: &Resource) -> Vec<Value> {
    columns(resource)
        .iter()
        .map(|(name, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({ "name": name, "type": "string", "format": format, "description": "", "priority": priority })
        })
        .collect()
}

fn cells(resource: &Resource, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let age = json!(age(&object["metadata"]["creationTimestamp"]));
    let text = |v: &Value| json!(v.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>"));
    let entries = |v: &Value| json!(v.as_object().map_or(0, serde_json::Map::len));
    match resource.kind {
        "Pod" => pod_cells(object, name, age),
        "Node" => {
            let ready = condition(object, "Ready").is_some_and(|c| c["status"] == "True");
            let status = if ready { "Ready" } else { "NotReady" };
            let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
            let internal =
                addresses.filter(|a| a["type"] == "InternalIP").map(|a| a["address"].clone()).next();
            let version = object["status"]["nodeInfo"]["kubeletVersion"].clone();
            vec![name, json!(status), json!("<none>"), age, version, internal.unwrap_or(json!("<none>"))]
        }
        "Namespace" => vec![name, object["status"]["phase"].clone(), age],
        "Event" => {
            let about = &object["involvedObject"];
            let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
            let target = format!("{kind}/{}", about["name"].as_str().unwrap_or_default());
            vec![
                age,
                text(&object["type"]),
                text(&object["reason"]),
                json!(target),
                text(&object["message"]),
                name,
            ]
        }
        "Secret" => vec![name, text(&object["type"]), entries(&object["data"]), age],
        "ConfigMap" => vec![name, entries(&object["data"]), age],
        "ResourceQuota" => {
            let hard = object["status"]["hard"].as_object().into_iter().flatten();
            let used = &object["status"]["used"];
            let pairs: Vec<String> = hard
                .map(|(k, h)| {
                    format!("{k}: {}/{}", used[k].as_str().unwrap_or("0"), h.as_str().unwrap_or("0"))
                })
                .collect();
            vec![name, json!(pairs.join(", ")), json!(""), age]
        }
        _ => vec![name, age],
    }
}

fn pod_cells(pod: &Value, name: Value, age: Value) -> Vec<Value> {
    let statuses: Vec<&Value> = pod["status"]["containerStatuses"].as_array().into_iter().flatten().collect();
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let ready = statuses.iter().filter(|s| s["ready"] == true).count();
    let restarts: u64 = statuses.iter().filter_map(|s| s["restartCount"].as_u64()).sum();
    let text = |v: &Value| json!(v.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>"));
    vec![
        name,
        json!(format!("{ready}/{total}")),
        json!(pod_status(pod, &statuses)),
        json!(restarts.to_string()),
        age,
        text(&pod["status"]["podIP"]),
        text(&pod["spec"]["nodeName"]),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// The word in the STATUS column, found as upstream's printer finds it.
fn pod_status(pod: &Value, statuses: &[&Value]) -> String {
    let reason = pod["status"]["reason"].as_str();
    let mut word = reason.or(pod["status"]["phase"].as_str()).unwrap_or("Unknown").to_owned();
    if let Some(gated) = condition(pod, "PodScheduled").filter(|c| c["reason"] == "SchedulingGated") {
        word = gated["reason"].as_str().unwrap_or_default().to_owned();
    }
    let init = pod["status"]["initContainerStatuses"].as_array();
    let pending =
        init.into_iter().flatten().enumerate().find(|(_, s)| s["state"]["terminated"]["exitCode"] != 0);
    if let Some((i, status)) = pending {
        let total = pod["spec"]["initContainers"].as_array().map_or(0, Vec::len);
        let inner = container_word(status).filter(|w| w != "PodInitializing");
        word = inner.map_or_else(|| format!("Init:{i}/{total}"), |w| format!("Init:{w}"));
    } else {
        for status in statuses.iter().rev() {
            if let Some(inner) = container_word(status) {
                word = inner;
            }
        }
        if word == "Completed" && statuses.iter().any(|s| s["state"]["running"].is_object()) {
            word = "Running".to_owned();
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        word = if reason == Some("NodeLost") { "Unknown" } else { "Terminating" }.to_owned();
    }
    word
}

fn container_word(status: &Value) -> Option<String> {
    let state = &status["state"];
    if let Some(reason) = state["waiting"]["reason"].as_str() {
        return Some(reason.to_owned());
    }
    let ended = state["terminated"].as_object()?;
    if let Some(reason) = ended.get("reason").and_then(Value::as_str).filter(|r| !r.is_empty()) {
        return Some(reason.to_owned());
    }
    let signal = ended.get("signal").and_then(Value::as_i64).unwrap_or(0);
    let code = ended.get("exitCode").and_then(Value::as_i64).unwrap_or(0);
    Some(if signal != 0 { format!("Signal:{signal}") } else { format!("ExitCode:{code}") })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// `42s`, `3m5s`, `12m`, `3h5m`, `12h`, `5d`.
fn age(created: &Value) -> String {
    let Some(created) = created.as_str() else { return "<unknown>".to_owned() };
    let seconds = clock::seconds_since(created);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{}d", hours / 24),
    }
}
