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
