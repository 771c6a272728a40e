//! One rule as the policy has it: what its pods must and may have, as texts that the expressions of [`super::cel`] make
//! of a pod too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::admitted::{ANNOTATION_AUDIENCE, ANNOTATION_GROUPS, ANNOTATION_ROLE};
use super::super::rules::Rule;
use super::super::surface::{Item, READ_BY_CONTROLLERS, Surface};
use super::super::{Freedom, GATE};

/// Lists by their names in the expressions. Empty ones are left out.
pub(super) type Row = BTreeMap<&'static str, Vec<String>>;

/// What the webhook for IRSA and EKS Pod Identity puts into containers (amazon-eks-pod-identity-webhook). What these
/// name is judged by itself.
pub(super) const INJECTED_ENV: [&str; 7] = [
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// Variables that hold a secret themselves: their values stay out of the policy, which many may read.
pub(super) const SECRET_ENV: [&str; 7] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
];

/// Between the texts of a container's program.
pub(super) const BETWEEN: &str = "\u{1f}";
/// Between its parts.
pub(super) const PART: &str = "\u{1e}";

/// Where a container has commands of its own beside its program's.
pub(super) const HOOKS: [[&str; 2]; 5] = [
    ["lifecycle", "postStart"],
    ["lifecycle", "preStop"],
    ["livenessProbe", ""],
    ["readinessProbe", ""],
    ["startupProbe", ""],
];

/// `plain`: the pod of a task without executor_config. `admitted`: pods with what webhooks add.
pub(super) fn row<'a>(rule: &Rule, plain: &Value, admitted: impl Iterator<Item = &'a Value>) -> Row {
    let mut row = Row::new();
    let free = |freedom| rule.may_override.contains(&freedom);
    let measure = Surface::of(plain);
    let one = |field: &str| measure.fixed.get(field).map(|(_, value)| value.clone()).into_iter().collect();
    row.insert("name", vec![rule.name.clone()]);
    for (key, field, freedom) in [
        ("account", "spec.serviceAccountName", Freedom::ServiceAccount),
        ("namespace", "metadata.namespace", Freedom::Namespace),
        ("automount", "spec.automountServiceAccountToken", Freedom::Tokens),
    ] {
        row.insert(key, if free(freedom) { Vec::new() } else { one(field) });
    }
    let gates = plain["spec"]["schedulingGates"].as_array().into_iter().flatten();
    row.insert("gate", gates.filter(|gate| gate["name"] == GATE).map(|_| GATE.to_owned()).collect());
    row.insert("role", rule.gives.role_arn.iter().cloned().collect());
    row.insert("free", rule.may_override.iter().map(ToString::to_string).collect());
    for (key, given) in [("labels", &rule.gives.labels), ("annotations", &rule.gives.annotations)] {
        let held = |name: &str| given.contains_key(name) || is_read_by_controllers(name);
        let kept = pairs(&plain["metadata"][key], |name| !free(Freedom::Labels) && held(name));
        row.insert(key, kept);
    }
    row.insert("audience", rule.gives.token_audience.iter().cloned().collect());
    let demanded = |name: &str| [ANNOTATION_ROLE, ANNOTATION_AUDIENCE, ANNOTATION_GROUPS].contains(&name);
    row.insert("demands", pairs(&plain["metadata"]["annotations"], demanded));
    let given = |name: &str| rule.gives.node_selector.contains_key(name);
    let nodes = pairs(&plain["spec"]["nodeSelector"], |name| !free(Freedom::NodeSelector) && given(name));
    row.insert("nodes", nodes);
    let (mut may, mut sidecars) = (BTreeSet::new(), BTreeSet::new());
    add(&measure, plain, |_| true, &mut may, &mut sidecars);
    for pod in admitted {
        // What the webhook gave that pod's account is not for all.
        let own = |item: &Item| !INJECTED_ENV.iter().any(|name| item.field.ends_with(&format!("[{name}]")));
        add(&Surface::of(pod), pod, own, &mut may, &mut sidecars);
    }
    row.insert("may", may.into_iter().collect());
    row.insert("sidecars", if free(Freedom::Privileged) { Vec::new() } else { Vec::from_iter(sidecars) });
    row.retain(|_, texts| !texts.is_empty());
    row
}

/// What a pod has, as texts.
fn add(
    surface: &Surface,
    pod: &Value,
    counts: impl Fn(&Item) -> bool,
    may: &mut BTreeSet<String>,
    sidecars: &mut BTreeSet<String>,
) {
    may.extend(surface.added.iter().filter(|item| counts(item)).map(item));
    for (field, (_, value)) in &surface.fixed {
        if field.starts_with("metadata.labels[") || field.starts_with("metadata.annotations[") {
            may.insert(format!("{field} is `{value}`"));
        }
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let at = format!("spec.{list}[{}]", text(&container["name"]));
            if surface.fixed.contains_key(&at) {
                sidecars.insert(program(&at, container));
            }
            // An API server writes the old annotation beside the new field.
            if surface.added.iter().any(|item| item.field.ends_with("appArmorProfile.type")) {
                let annotation = format!(
                    "metadata.annotations[container.apparmor.security.beta.kubernetes.io/{}]",
                    text(&container["name"])
                );
                may.insert(format!("{annotation} is `unconfined`"));
            }
        }
    }
}

/// As the guard tells it; of a variable its name alone where the value is a secret or comes from elsewhere.
fn item(item: &Item) -> String {
    if item.freedom != Freedom::AwsEnv {
        return format!("{} is `{}`", item.field, item.value);
    }
    let variable: Value = serde_json::from_str(&item.value).unwrap_or_default();
    let name = variable["name"].as_str().unwrap_or_default();
    match variable["value"].as_str() {
        Some(value) if !SECRET_ENV.contains(&name) => format!("{}={value}", item.field),
        _ => item.field.clone(),
    }
}

/// All by which a container's program could become another one.
fn program(at: &str, container: &Value) -> String {
    let texts = |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(text).collect() };
    let part = || PART.to_owned();
    let mut all = vec![at.to_owned(), text(&container["image"])];
    all.extend(texts(&container["command"]));
    all.push(part());
    all.extend(texts(&container["args"]));
    all.extend([part(), text(&container["workingDir"])]);
    let env = container["env"].as_array().into_iter().flatten().map(|variable| text(&variable["name"]));
    all.extend(env.filter(|name| !INJECTED_ENV.contains(&name.as_str())));
    all.extend([part(), container["envFrom"].as_array().map_or(0, Vec::len).to_string()]);
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    all.extend(mounts.map(|mount| format!("{}:{}", text(&mount["name"]), text(&mount["mountPath"]))));
    for [hook, inner] in HOOKS {
        let hook = if inner.is_empty() { &container[hook] } else { &container[hook][inner] };
        all.push(part());
        all.extend(texts(&hook["exec"]["command"]));
    }
    all.join(BETWEEN)
}

fn is_read_by_controllers(key: &str) -> bool {
    READ_BY_CONTROLLERS.iter().any(|prefix| key.starts_with(prefix))
}

/// `key=value` of those that count.
fn pairs(map: &Value, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let all = map.as_object().into_iter().flatten();
    all.filter(|(key, _)| counts(key)).map(|(key, value)| format!("{key}={}", text(value))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
