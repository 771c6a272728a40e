//! The validation errors (422) that people and programs meet: names, labels, containers, env, mounts.
//!
//! Not the whole of upstream's validation: what is left out is accepted, never the other way round.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resource::Resource;
use super::status::{ApiError, Cause};

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
     or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Bytes that all annotations of an object may have together.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

/// Checks an object that is about to be stored.
pub(crate) fn check(resource: &Resource, object: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    metadata(resource, object, &mut causes);
    if resource.kind == "Pod" {
        pod_spec(&object["spec"], &mut causes);
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(resource.kind, name, &causes))
}

fn metadata(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if resource.kind == "Namespace" {
        if !is_label(name) {
            causes.push(Cause::invalid("metadata.name", name, &label_error(name)));
        }
    } else if name.len() > 253 {
        causes.push(Cause::invalid("metadata.name", name, "must be no more than 253 bytes"));
    } else if !name.split('.').all(is_dns) {
        causes.push(Cause::invalid("metadata.name", name, SUBDOMAIN_1123));
    }
    labels(&meta["labels"], causes);
    annotations(&meta["annotations"], causes);
}

fn labels(labels: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if !is_qualified(key) {
            let detail = if key.matches('/').count() > 1 {
                format!(
                    "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. \
                         'example.com/MyName')"
                )
            } else {
                format!("name part {QUALIFIED}")
            };
            causes.push(Cause::invalid("metadata.labels", key, &detail));
        }
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            causes.push(Cause::invalid("metadata.labels", value, "must be no more than 63 bytes"));
        } else if !value.is_empty() && !is_name_part(value) {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
}

fn annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", key, &format!("name part {QUALIFIED}")));
        }
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        let detail = format!("may not be more than {ANNOTATIONS_MAX_BYTES} bytes");
        causes.push(Cause::invalid("metadata.annotations", "", &detail));
    }
}

fn pod_spec(spec: &Value, causes: &mut Vec<Cause>) {
    let volumes: BTreeSet<&str> =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|v| v["name"].as_str()).collect();
    let empty = Vec::new();
    let main = spec["containers"].as_array().unwrap_or(&empty);
    if main.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut seen = BTreeSet::new();
    for (list, containers) in
        [("containers", main), ("initContainers", spec["initContainers"].as_array().unwrap_or(&empty))]
    {
        for (i, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{i}]");
            one_container(&path, container, &volumes, causes);
            let name = container["name"].as_str().unwrap_or_default();
            if !name.is_empty() && !seen.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), name));
            }
        }
    }
    one_of(spec, "spec.restartPolicy", "restartPolicy", &["Always", "OnFailure", "Never"], causes);
    one_of(
        spec,
        "spec.dnsPolicy",
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        causes,
    );
    let account = spec["serviceAccountName"].as_str().unwrap_or_default();
    if !account.is_empty() && !account.split('.').all(is_dns) {
        causes.push(Cause::invalid("spec.serviceAccountName", account, SUBDOMAIN_1123));
    }
}

fn one_container(path: &str, container: &Value, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let name = container["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else if !is_label(name) {
        causes.push(Cause::invalid(format!("{path}.name"), name, &label_error(name)));
    }
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        causes.push(Cause::invalid(
            format!("{path}.image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    for (i, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        env(&format!("{path}.env[{i}]"), variable, causes);
    }
    one_of(
        container,
        &format!("{path}.imagePullPolicy"),
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        causes,
    );
    for (i, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let volume = mount["name"].as_str().unwrap_or_default();
        if !volumes.contains(volume) {
            causes.push(Cause::not_found(format!("{path}.volumeMounts[{i}].name"), volume));
        }
        if mount["mountPath"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{path}.volumeMounts[{i}].mountPath"), ""));
        }
    }
}

fn env(path: &str, variable: &Value, causes: &mut Vec<Cause>) {
    let name = variable["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        causes.push(Cause::invalid(format!("{path}.name"), name, detail));
    }
    if !variable["valueFrom"].is_null() && !variable["value"].as_str().unwrap_or_default().is_empty() {
        let detail = "may not be specified when `value` is not empty";
        causes.push(Cause::invalid(format!("{path}.valueFrom"), "", detail));
    }
    if let Some(field) = variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str)
        && !is_field_path(field)
    {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        causes.push(Cause::invalid(format!("{path}.valueFrom.fieldRef.fieldPath"), field, &detail));
    }
}

/// The downward API's paths for environment variables.
fn is_field_path(path: &str) -> bool {
    let subscript = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|p| path.starts_with(p) && path.ends_with("']"));
    subscript
        || matches!(
            path,
            "metadata.name"
                | "metadata.namespace"
                | "metadata.uid"
                | "spec.nodeName"
                | "spec.serviceAccountName"
                | "status.hostIP"
                | "status.hostIPs"
                | "status.podIP"
                | "status.podIPs"
        )
}

fn one_of(object: &Value, path: &str, field: &str, supported: &[&str], causes: &mut Vec<Cause>) {
    if let Some(value) = object[field].as_str()
        && !supported.contains(&value)
    {
        causes.push(Cause::unsupported(path, &format!("{value:?}"), supported));
    }
}

fn label_error(name: &str) -> String {
    if name.len() > 63 { "must be no more than 63 bytes".to_owned() } else { LABEL_1123.to_owned() }
}

fn is_dns(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dns(text)
}

fn is_name_part(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_qualified(key: &str) -> bool {
    match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => is_name_part(name),
        [prefix, name] => is_name_part(name) && prefix.split('.').all(is_dns),
        _ => false,
    }
}
