//! Lists: selectors, shapes, paging, resourceVersions.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bodies::{labelled, pod};
use crate::server::Server;

pub(crate) async fn selectors(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    for (name, labels) in [("a", json!({ "k": "1", "z": "" })), ("b", json!({ "k": "2" })), ("c", json!({}))]
    {
        server.post(&pods, &labelled(name, labels)).await?.ok(201)?;
    }
    crate::writes::binding_of(server, &pods, "b").await?;
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=k%3D1", vec!["a"]),
        ("labelSelector=k%3D%3D1", vec!["a"]),
        ("labelSelector=k%21%3D1", vec!["b", "c"]),
        ("labelSelector=k%20in%20(1,2)", vec!["a", "b"]),
        ("labelSelector=k%20notin%20(1)", vec!["b", "c"]),
        ("labelSelector=k,%21z", vec!["b"]),
        ("labelSelector=%21k", vec!["c"]),
        ("labelSelector=z%3D", vec!["a"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=spec.nodeName%3Dsome-node", vec!["b"]),
        ("fieldSelector=spec.nodeName%3D", vec!["a", "c"]),
        ("fieldSelector=spec.nodeName%3D,metadata.name%21%3Da", vec!["c"]),
        ("fieldSelector=status.phase%3DPending&labelSelector=k", vec!["a", "b"]),
        ("fieldSelector=status.phase%21%3DPending", vec![]),
    ] {
        let answer = server.get(&format!("{pods}?{query}")).await?.ok(200)?.has("/kind", json!("PodList"))?;
        ensure!(answer.names() == expected, "{query}: {:?}", answer.names());
    }
    let namespace = pods.split('/').nth(4).unwrap_or_default();
    let path = format!("/api/v1/pods?fieldSelector=metadata.namespace%3D{namespace}");
    ensure!(server.get(&path).await?.ok(200)?.names() == ["a", "b", "c"], "not all of the namespace");
    let unknown = server.get(&format!("{pods}?fieldSelector=foo%3Dbar")).await?;
    unknown.refused(400, "BadRequest", "field label not supported: foo")?;
    let broken = server.get(&format!("{pods}?labelSelector=a%20in%20(b")).await?;
    broken.refused(400, "BadRequest", "unable to parse requirement: found '', expected: ',' or ')'")?;
    let empty = server.get("/api/v1/namespaces/no-such-namespace/pods").await?.ok(200)?;
    ensure!(empty.names().is_empty(), "a namespace that does not exist has pods");
    Ok(())
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

pub(crate) async fn shapes(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    server.post(&pods, &pod("shown")).await?.ok(201)?;
    let table = server.get_as(&pods, TABLE).await?.ok(200)?.has("/kind", json!("Table"))?;
    let columns: Vec<&str> = table.body["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    let expected =
        ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"];
    ensure!(columns == expected, "columns are {columns:?}");
    let mut cells = table.body["rows"][0]["cells"].clone();
    cells[4] = json!("age");
    let expected = json!(["shown", "0/1", "Pending", "0", "age", "<none>", "<none>", "<none>", "<none>"]);
    ensure!(cells == expected, "cells are {cells}");
    table.has("/rows/0/object/kind", json!("PartialObjectMetadata"))?;
    let partial = server.get_as(&pods, PARTIAL).await?.ok(200)?;
    partial
        .has("/kind", json!("PartialObjectMetadataList"))?
        .has("/items/0/metadata/name", json!("shown"))?
        .has("/items/0/spec", Value::Null)?;
    let answer = server.get_as(&format!("{pods}/shown"), "text/plain").await?;
    answer.refused_with(406, "NotAcceptable", "406: Not Acceptable")?;
    Ok(())
}

pub(crate) async fn paging_is_consistent(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    for name in ["a", "b", "d", "e", "f"] {
        server.post(&pods, &pod(name)).await?.ok(201)?;
    }
    let first = server.get(&format!("{pods}?limit=2")).await?.ok(200)?;
    ensure!(first.names() == ["a", "b"], "the first page is {:?}", first.names());
    let token = first.text_at("/metadata/continue");
    let version = first.text_at("/metadata/resourceVersion");
    ensure!(!token.is_empty(), "there is no token");
    first.has("/metadata/remainingItemCount", json!(3))?;
    // What happens in between is not in the next page.
    server.post(&pods, &pod("c")).await?.ok(201)?;
    server.delete(&format!("{pods}/e")).await?.ok(200)?;
    let path = format!("{pods}?limit=2&continue={token}");
    let second = server.get(&path).await?.ok(200)?;
    ensure!(second.names() == ["d", "e"], "the second page is {:?}", second.names());
    let token = second.text_at("/metadata/continue");
    second.has("/metadata/resourceVersion", json!(version))?;
    let third = server.get(&format!("{pods}?limit=2&continue={token}")).await?.ok(200)?;
    ensure!(third.names() == ["f"], "the third page is {:?}", third.names());
    third.has("/metadata/continue", Value::Null)?;
    let selected = server.get(&format!("{pods}?limit=1&labelSelector=app%3Dx")).await?.ok(200)?;
    selected.has("/metadata/remainingItemCount", Value::Null)?;
    let answer = server.get(&format!("{pods}?continue=abc")).await?;
    answer.refused_with(400, "BadRequest", "invalid continue token: continue key is not valid: ")?;
    Ok(())
}

pub(crate) async fn resource_versions(server: &Server) -> Result<()> {
    let pods = server.pods().await?;
    let one = server.post(&pods, &pod("one")).await?.ok(201)?;
    let then = one.text_at("/metadata/resourceVersion");
    server.post(&pods, &pod("two")).await?.ok(201)?;
    for (query, expected) in [
        ("resourceVersion=0".to_owned(), vec!["one", "two"]),
        (format!("resourceVersion={then}"), vec!["one", "two"]),
        (format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"), vec!["one", "two"]),
        (format!("resourceVersion={then}&resourceVersionMatch=Exact"), vec!["one"]),
        // From before resourceVersionMatch: a first page is exact.
        (format!("resourceVersion={then}&limit=5"), vec!["one"]),
    ] {
        // A read from the watch cache may wait for the cache; it never shows less than asked for.
        let path = format!("{pods}?{query}");
        let answer = if query == "resourceVersion=0" {
            server.eventually(&path, |a| a.names() == expected).await?
        } else {
            server.get(&path).await?.ok(200)?
        };
        let fresher = !query.contains("Exact") && !query.contains("limit");
        let fits = answer.names() == expected || (fresher && answer.names() == ["one"]);
        ensure!(fits, "{query}: {:?}", answer.names());
    }
    let list = |query: &str| format!("{pods}?{query}");
    let invalid = |why: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
    let message = invalid(
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
    );
    server.get(&list("resourceVersionMatch=Exact")).await?.refused(422, "Invalid", &message)?;
    let message = invalid(
        "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
    );
    let answer = server.get(&list("resourceVersion=0&resourceVersionMatch=Exact")).await?;
    answer.refused(422, "Invalid", &message)?;
    let message = "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \
                   \"abc\": invalid syntax";
    server.get(&list("resourceVersion=abc")).await?.refused(400, "BadRequest", message)?;
    let answer = server.get(&list("resourceVersion=999999999")).await?;
    answer
        .refused_with(504, "Timeout", "Timeout: Too large resource version: 999999999, current: ")?
        .has("/details/causes/0/reason", json!("ResourceVersionTooLarge"))?
        .has("/details/retryAfterSeconds", json!(1))?;
    server.get(&list("limit=abc")).await?.refused_with(
        400,
        "BadRequest",
        "strconv.ParseInt: parsing \"abc\"",
    )?;
    Ok(())
}
