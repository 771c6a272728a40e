//! Discovery: what kubectl and client libraries ask before anything else.

use serde_json::{Value, json};

use super::resource::{ALL, Resource};

const OBJECT_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`: the release whose behaviour this server follows.
pub(crate) fn version() -> Value {
    json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0+windlass-local-cluster", "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": "linux/amd64" })
}

/// `/api`.
pub(crate) fn api_versions(address: &str) -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
        { "clientCIDR": "0.0.0.0/0", "serverAddress": address }] })
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] })
}

/// `/apis/authorization.k8s.io`.
pub(crate) fn group() -> Value {
    let version = json!({ "groupVersion": "authorization.k8s.io/v1", "version": "v1" });
    json!({ "kind": "APIGroup", "apiVersion": "v1", "name": "authorization.k8s.io", "versions": [version],
            "preferredVersion": version })
}

/// `/apis/authorization.k8s.io/v1`.
pub(crate) fn authorization() -> Value {
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "authorization.k8s.io/v1", "resources": [{
        "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false,
        "kind": "SelfSubjectAccessReview", "verbs": ["create"] }] })
}

/// `/api/v1`.
pub(crate) fn core() -> Value {
    let resources: Vec<Value> = ALL.iter().copied().flat_map(entries).collect();
    json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": resources })
}

fn entries(resource: &'static Resource) -> Vec<Value> {
    let mut object = json!({ "name": resource.plural, "singularName": resource.singular,
        "namespaced": resource.namespaced, "kind": resource.kind, "verbs": OBJECT_VERBS });
    if !resource.short.is_empty() {
        object["shortNames"] = json!(resource.short);
    }
    let mut all = vec![object];
    for (name, kind, verbs) in resource.subresources {
        all.push(json!({ "name": format!("{}/{name}", resource.plural), "singularName": "",
            "namespaced": resource.namespaced, "kind": kind, "verbs": verbs }));
    }
    all
}

/// `/openapi/v3`: only so much that kubectl sees that this server checks fields itself and does not refuse to create.
pub(crate) fn openapi_index() -> Value {
    json!({ "paths": { "api/v1": { "serverRelativeURL": "/openapi/v3/api/v1?hash=1" } } })
}

/// `/openapi/v3/api/v1`: the PATCH operations with their parameter `fieldValidation`, no schemas.
pub(crate) fn openapi_core() -> Value {
    let paths: serde_json::Map<String, Value> = ALL
        .iter()
        .map(|resource| {
            let scope = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
            let patch = json!({
                "x-kubernetes-action": "patch", "responses": {},
                "x-kubernetes-group-version-kind": { "group": "", "kind": resource.kind, "version": "v1" },
                "parameters": [{ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } }],
            });
            (format!("/api/v1/{scope}{}/{{name}}", resource.plural), json!({ "patch": patch }))
        })
        .collect();
    json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.33.0" }, "paths": paths })
}
