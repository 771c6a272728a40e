//! The environment and command line of a container: references, `$(NAME)` expansion, precedence.

use std::collections::BTreeMap;

use super::manifest::{Container, EnvFrom, EnvVar, Pod};

/// Why a container cannot be configured (`CreateContainerConfigError`); it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{kind} {name:?} not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error(
        "the local kubelet does not know the source of variable {0:?}; use value, fieldRef, secretKeyRef or configMapKeyRef"
    )]
    UnknownSource(String),
}

/// The secrets and config maps that a container names, as plain text. `None`: the object does not exist.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
    pub(crate) config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// What the node knows of the pod.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) pod_ip: String,
    pub(crate) host_ip: String,
}

/// Names of the secrets and of the config maps that `container` reads.
pub(crate) fn references(container: &Container) -> (Vec<&str>, Vec<&str>) {
    let (mut secrets, mut maps) = (Vec::new(), Vec::new());
    for from in container.env.iter().filter_map(|e| e.value_from.as_ref()) {
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.as_str()));
        maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
    }
    for from in &container.env_from {
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.as_str()));
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.as_str()));
    }
    (secrets, maps)
}

/// The container's variables over `base` (what the image would set).
pub(crate) fn environment(
    base: &BTreeMap<String, String>,
    pod: &Pod,
    container: &Container,
    place: &Place,
    sources: &Sources,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = base.clone();
    env.insert("HOSTNAME".into(), pod.hostname());
    for from in &container.env_from {
        env.extend(whole(from, sources)?);
    }
    // Expansion sees what the pod itself has set so far, not the image's variables.
    let mut own = BTreeMap::new();
    for variable in &container.env {
        if let Some(value) = value(variable, pod, place, sources, &own)? {
            own.insert(variable.name.clone(), value);
        }
    }
    env.extend(own);
    Ok(env)
}

fn whole(from: &EnvFrom, sources: &Sources) -> Result<BTreeMap<String, String>, ConfigError> {
    let found = [
        ("secret", &from.secret_ref, &sources.secrets),
        ("configmap", &from.config_map_ref, &sources.config_maps),
    ];
    let mut all = BTreeMap::new();
    for (kind, reference, objects) in found {
        let Some(reference) = reference else { continue };
        match objects.get(&reference.name).and_then(Option::as_ref) {
            Some(data) => {
                all.extend(data.iter().map(|(k, v)| (format!("{}{k}", from.prefix), v.clone())));
            }
            None if reference.optional => {}
            None => return Err(ConfigError::NoObject { kind, name: reference.name.clone() }),
        }
    }
    Ok(all)
}

/// `None`: an optional reference that leads nowhere; the variable is not set then.
fn value(
    variable: &EnvVar,
    pod: &Pod,
    place: &Place,
    sources: &Sources,
    own: &BTreeMap<String, String>,
) -> Result<Option<String>, ConfigError> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(&variable.value, own)));
    };
    if let Some(field) = &from.field_ref {
        return field_value(&field.field_path, pod, place)
            .map(Some)
            .ok_or_else(|| ConfigError::UnknownSource(variable.name.clone()));
    }
    let (kind, reference, objects) = match (&from.secret_key_ref, &from.config_map_key_ref) {
        (Some(reference), _) => ("secret", reference, &sources.secrets),
        (None, Some(reference)) => ("configmap", reference, &sources.config_maps),
        (None, None) => return Err(ConfigError::UnknownSource(variable.name.clone())),
    };
    let name = reference.name.clone();
    match objects.get(&reference.name).and_then(Option::as_ref) {
        None if reference.optional => Ok(None),
        None => Err(ConfigError::NoObject { kind, name }),
        Some(data) => match data.get(&reference.key) {
            Some(value) => Ok(Some(value.clone())),
            None if reference.optional => Ok(None),
            None => Err(ConfigError::NoKey { kind, name, key: reference.key.clone() }),
        },
    }
}

/// The downward API.
fn field_value(path: &str, pod: &Pod, place: &Place) -> Option<String> {
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        return Some(pod.metadata.labels.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Some(pod.metadata.annotations.get(key).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.podIP" | "status.podIPs" => place.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => place.host_ip.clone(),
        _ => return None,
    })
}

/// `$(NAME)` becomes the value of a known variable; unknown ones stay as they are; `$$` is a dollar sign.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|a| a.split_once(')'));
        match name {
            Some((name, tail)) => {
                match env.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The command line: `command` replaces the image's entrypoint, `args` its arguments.
pub(crate) fn command_line(
    container: &Container,
    entrypoint: &[String],
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let head = if container.command.is_empty() { entrypoint } else { &container.command };
    head.iter().chain(&container.args).map(|part| expand(part, env)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn expansion_follows_kubernetes() {
        let env = map(&[("A", "1"), ("B", "x y")]);
        for (text, expected) in [
            ("$(A)-$(B)", "1-x y"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn variables_come_from_all_sources_in_order() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "labels": { "a.b/c": "label" } },
            "spec": { "nodeName": "node", "containers": [{ "name": "base", "envFrom": [
                { "prefix": "P_", "configMapRef": { "name": "m" } },
                { "secretRef": { "name": "none", "optional": true } } ],
              "env": [
                { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['a.b/c']" } } },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                { "name": "GONE", "valueFrom": { "secretKeyRef": { "name": "s", "key": "z", "optional": true } } },
                { "name": "BOTH", "value": "$(NAME):$(LATER):$(PATH)" },
                { "name": "P_x", "value": "own" } ] }] } }))
        .expect("is a pod");
        let sources = Sources {
            secrets: [("s".to_owned(), Some(map(&[("k", "hidden")])))].into(),
            config_maps: [("m".to_owned(), Some(map(&[("x", "mapped"), ("y", "2")])))].into(),
        };
        let place = Place { pod_ip: "127.64.0.1".into(), host_ip: "127.0.0.1".into() };
        let base = map(&[("PATH", "/bin")]);
        let env = environment(&base, &pod, &pod.spec.containers[0], &place, &sources).expect("resolves");
        let expected = map(&[
            ("BOTH", "p:$(LATER):$(PATH)"),
            ("HOSTNAME", "p"),
            ("IP", "127.64.0.1"),
            ("LABEL", "label"),
            ("NAME", "p"),
            ("PATH", "/bin"),
            ("P_x", "own"),
            ("P_y", "2"),
            ("SECRET", "hidden"),
        ]);
        assert_eq!(env, expected);
    }

    #[test]
    fn a_missing_source_names_the_object() {
        let container: Container = serde_json::from_value(json!({ "name": "c", "env": [
            { "name": "X", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }] }))
        .expect("is a container");
        let place = Place { pod_ip: String::new(), host_ip: String::new() };
        let error = environment(&BTreeMap::new(), &Pod::default(), &container, &place, &Sources::default())
            .expect_err("has no secret");
        assert_eq!(error.to_string(), "secret \"s\" not found");
    }
}
