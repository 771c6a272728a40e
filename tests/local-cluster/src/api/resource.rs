//! The resources that this API serves, and how their bodies are decoded.

use k8s_openapi::api::core::v1 as core;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::status::ApiError;

/// One resource of the core group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// Subresources that discovery names, with their verbs and kind.
    pub(crate) subresources: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

macro_rules! resource {
    ($name:ident, $plural:literal, $singular:literal, $kind:literal, $short:expr, $namespaced:literal, $sub:expr) => {
        pub(crate) static $name: Resource = Resource {
            plural: $plural,
            singular: $singular,
            kind: $kind,
            short: $short,
            namespaced: $namespaced,
            subresources: $sub,
        };
    };
}

resource!(
    PODS,
    "pods",
    "pod",
    "Pod",
    &["po"],
    true,
    &[
        ("status", "Pod", STATUS_VERBS),
        ("binding", "Binding", &["create"]),
        ("eviction", "Eviction", &["create"]),
        ("log", "Pod", &["get"]),
    ]
);
resource!(NODES, "nodes", "node", "Node", &["no"], false, &[("status", "Node", STATUS_VERBS)]);
resource!(
    NAMESPACES,
    "namespaces",
    "namespace",
    "Namespace",
    &["ns"],
    false,
    &[("status", "Namespace", STATUS_VERBS)]
);
resource!(EVENTS, "events", "event", "Event", &["ev"], true, &[]);
resource!(SECRETS, "secrets", "secret", "Secret", &[], true, &[]);
resource!(CONFIG_MAPS, "configmaps", "configmap", "ConfigMap", &["cm"], true, &[]);
resource!(SERVICE_ACCOUNTS, "serviceaccounts", "serviceaccount", "ServiceAccount", &["sa"], true, &[]);
resource!(
    RESOURCE_QUOTAS,
    "resourcequotas",
    "resourcequota",
    "ResourceQuota",
    &["quota"],
    true,
    &[("status", "ResourceQuota", STATUS_VERBS)]
);

/// All of them, in discovery's order.
pub(crate) static ALL: [&Resource; 8] =
    [&CONFIG_MAPS, &EVENTS, &NAMESPACES, &NODES, &PODS, &RESOURCE_QUOTAS, &SECRETS, &SERVICE_ACCOUNTS];

/// By the name in the URL.
pub(crate) fn by_plural(plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|r| r.plural == plural)
}

impl Resource {
    /// Decodes a body through the typed form of its kind, as the real server does: a field of a wrong type is 400,
    /// a null or unknown field is dropped. Returns the pruned object.
    pub(crate) fn decode(&'static self, mut body: Value) -> Result<Value, ApiError> {
        self.check_kind(&body)?;
        if let Some(object) = body.as_object_mut() {
            object.insert("kind".into(), json!(self.kind));
            object.insert("apiVersion".into(), json!("v1"));
        }
        match self.kind {
            "Pod" => typed::<core::Pod>(self.kind, body),
            "Node" => typed::<core::Node>(self.kind, body),
            "Namespace" => typed::<core::Namespace>(self.kind, body),
            "Event" => typed::<core::Event>(self.kind, body),
            "Secret" => typed::<core::Secret>(self.kind, body),
            "ConfigMap" => typed::<core::ConfigMap>(self.kind, body),
            "ServiceAccount" => typed::<core::ServiceAccount>(self.kind, body),
            _ => typed::<core::ResourceQuota>(self.kind, body),
        }
    }

    fn check_kind(&self, body: &Value) -> Result<(), ApiError> {
        if !body.is_object() {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error",
                self.kind
            )));
        }
        let kind = body["kind"].as_str().unwrap_or(self.kind);
        let version = body["apiVersion"].as_str().unwrap_or("v1");
        if kind == self.kind && version == "v1" {
            return Ok(());
        }
        Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: converting ({version}.{kind}) to (core.{}): \
             unknown conversion",
            self.kind, self.kind
        )))
    }
}

fn typed<T: DeserializeOwned + Serialize>(kind: &str, body: Value) -> Result<Value, ApiError> {
    let cannot = |e: serde_json::Error| {
        ApiError::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: json: {e}"))
    };
    let object: T = serde_json::from_value(body).map_err(cannot)?;
    let mut object = serde_json::to_value(object).map_err(cannot)?;
    omit_empty(&mut object);
    for map in ["labels", "annotations"] {
        if let Some(Value::Object(meta)) = object.get_mut("metadata")
            && meta.get(map).is_some_and(is_empty)
        {
            meta.remove(map);
        }
    }
    Ok(object)
}

/// Empty lists are not shown (`omitempty` of upstream's structs); only a pod's containers always are.
fn omit_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, v| key == "containers" || v.as_array().is_none_or(|list| !list.is_empty()));
            fields.values_mut().for_each(omit_empty);
        }
        Value::Array(items) => items.iter_mut().for_each(omit_empty),
        _ => {}
    }
}

/// Fields of `sent` that decoding dropped: with `fieldValidation=Strict` (kubectl's default) they are an error.
pub(crate) fn unknown_fields(sent: &Value, kept: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(sent, kept, "", &mut found);
    found
}

fn collect_unknown(sent: &Value, kept: &Value, path: &str, found: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (key, value) in sent {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match kept.get(key) {
                    Some(kept) => collect_unknown(value, kept, &here, found),
                    None if is_empty(value) => {}
                    None => found.push(format!("unknown field {here:?}")),
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            for (i, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                collect_unknown(sent, kept, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
