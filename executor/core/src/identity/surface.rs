//! All of a pod by which it could have another identity than its service account's, or its node's. The list for people
//! is in docs/IDENTITY.md.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Freedom;
use super::irsa::shadowing_env;
use super::worker_env::SESSION_NAME;
use crate::pod::WORKER_CONTAINER;

/// Prefixes of labels and annotations that AWS's controllers and the CNI plugins act upon.
pub(super) const READ_BY_CONTROLLERS: [&str; 6] = [
    "eks.amazonaws.com/",
    "vpc.amazonaws.com/",
    "fargate.amazonaws.com/",
    "k8s.amazonaws.com/",
    "k8s.v1.cni.cncf.io/",
    "v1.multus-cni.io/",
];

/// Annotations of older clusters for what stands in securityContext now.
pub(super) const CONFINEMENT: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

/// Where tokens are mounted: another volume there would give the pod other ones.
pub(super) const TOKEN_PATHS: [&str; 3] = [
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/var/run/secrets/eks.amazonaws.com",
    "/var/run/secrets/pods.eks.amazonaws.com",
];

/// One thing that a pod has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) field: String,
    pub(super) value: String,
    pub(super) freedom: Freedom,
}

/// What a pod has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surface {
    /// May be missing, and must not be added.
    pub(super) added: BTreeSet<Item>,
    /// Must neither change nor go.
    pub(super) fixed: BTreeMap<String, (Freedom, String)>,
}

impl Surface {
    pub(super) fn of(pod: &Value) -> Self {
        let mut surface = Self::default();
        surface.metadata(&pod["metadata"]);
        surface.spec(&pod["spec"]);
        surface
    }

    fn add(&mut self, freedom: Freedom, field: impl Into<String>, value: impl Into<String>) {
        self.added.insert(Item { field: field.into(), value: value.into(), freedom });
    }

    fn fix(&mut self, freedom: Freedom, field: impl Into<String>, value: impl Into<String>) {
        self.fixed.insert(field.into(), (freedom, value.into()));
    }

    fn metadata(&mut self, metadata: &Value) {
        self.fix(Freedom::Namespace, "metadata.namespace", text(&metadata["namespace"]));
        for field in ["labels", "annotations"] {
            for (key, value) in metadata[field].as_object().into_iter().flatten() {
                if READ_BY_CONTROLLERS.iter().any(|prefix| key.starts_with(prefix)) {
                    self.fix(Freedom::Labels, format!("metadata.{field}[{key}]"), text(value));
                }
                if CONFINEMENT.iter().any(|prefix| key.starts_with(prefix)) {
                    self.fix(Freedom::Privileged, format!("metadata.{field}[{key}]"), text(value));
                }
            }
        }
    }

    fn spec(&mut self, spec: &Value) {
        // The old name of the field counts where the new one is empty; without any it is `default`.
        let account = [&spec["serviceAccountName"], &spec["serviceAccount"]].map(text);
        let account = account.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
        self.fix(Freedom::ServiceAccount, "spec.serviceAccountName", account);
        let automount = &spec["automountServiceAccountToken"];
        self.fix(Freedom::Tokens, "spec.automountServiceAccountToken", text(automount));
        for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            if spec[field] == true {
                self.add(Freedom::Host, format!("spec.{field}"), "true");
            }
        }
        for field in ["nodeName", "runtimeClassName"] {
            if let Some(name) = filled(&spec[field]) {
                self.add(Freedom::Host, format!("spec.{field}"), name);
            }
        }
        for secret in list(&spec["imagePullSecrets"]) {
            self.add(Freedom::ImagePullSecrets, "spec.imagePullSecrets", text(&secret["name"]));
        }
        self.security("spec.securityContext", &spec["securityContext"]);
        let sensitive = self.volumes(spec);
        for field in ["containers", "initContainers", "ephemeralContainers"] {
            for container in list(&spec[field]) {
                self.container(field, container, &sensitive);
            }
        }
    }

    /// Volumes that show the node or hold tokens: by name, with what their mounts fall under.
    fn volumes(&mut self, spec: &Value) -> BTreeMap<String, Freedom> {
        let mut sensitive = BTreeMap::new();
        for volume in list(&spec["volumes"]) {
            let name = text(&volume["name"]);
            let at = format!("spec.volumes[{name}]");
            if let Some(path) = volume["hostPath"].as_object() {
                let path = path.get("path").map(text).unwrap_or_default();
                self.add(Freedom::Host, format!("{at}.hostPath"), path);
                sensitive.insert(name.clone(), Freedom::Host);
            }
            // Its driver is a program of the node's.
            if volume["flexVolume"].is_object() {
                let driver = text(&volume["flexVolume"]["driver"]);
                self.add(Freedom::Host, format!("{at}.flexVolume"), driver);
                sensitive.insert(name.clone(), Freedom::Host);
            }
            for source in list(&volume["projected"]["sources"]) {
                if source["serviceAccountToken"].is_object() {
                    let audience = text(&source["serviceAccountToken"]["audience"]);
                    self.add(Freedom::Tokens, format!("{at}.projected.serviceAccountToken"), audience);
                    sensitive.insert(name.clone(), Freedom::Tokens);
                }
            }
        }
        sensitive
    }

    fn container(&mut self, list_field: &str, container: &Value, sensitive: &BTreeMap<String, Freedom>) {
        let name = text(&container["name"]);
        let at = format!("spec.{list_field}[{name}]");
        let before = self.added.len();
        self.security(&format!("{at}.securityContext"), &container["securityContext"]);
        for port in list(&container["ports"]) {
            if port["hostPort"].as_i64().is_some_and(|port| port > 0) {
                self.add(Freedom::Host, format!("{at}.ports.hostPort"), text(&port["hostPort"]));
            }
        }
        let mut mounts_sensitive = false;
        for mount in list(&container["volumeMounts"]) {
            let (volume, path) = (text(&mount["name"]), text(&mount["mountPath"]));
            let at = format!("{at}.volumeMounts[{volume}]");
            if let Some(freedom) = sensitive.get(&volume) {
                mounts_sensitive |= *freedom == Freedom::Host;
                self.add(*freedom, at.clone(), format!("{path} {}", text(&mount["subPath"])));
            }
            if TOKEN_PATHS.iter().any(|token| is_at_or_below(&path, token)) {
                self.add(Freedom::Tokens, at, path);
            }
        }
        // What runs in a container of the template's that may do more than the worker must stay what it was.
        if name != WORKER_CONTAINER && (self.added.len() > before || mounts_sensitive) {
            self.fix(Freedom::Privileged, at.clone(), without_session_name(container).to_string());
        }
        for variable in list(&container["env"]) {
            let name = text(&variable["name"]);
            if shadowing_env().contains(&name.as_str()) {
                self.add(Freedom::AwsEnv, format!("{at}.env[{name}]"), variable.to_string());
            }
        }
    }

    /// Of a pod or of a container.
    fn security(&mut self, at: &str, context: &Value) {
        if context["privileged"] == true {
            self.add(Freedom::Privileged, format!("{at}.privileged"), "true");
        }
        for capability in list(&context["capabilities"]["add"]) {
            self.add(Freedom::Privileged, format!("{at}.capabilities.add"), text(capability));
        }
        if let Some(mount) = filled(&context["procMount"]).filter(|mount| mount != "Default") {
            self.add(Freedom::Privileged, format!("{at}.procMount"), mount);
        }
        for profile in ["seccompProfile", "appArmorProfile"] {
            if context[profile]["type"] == "Unconfined" {
                self.add(Freedom::Privileged, format!("{at}.{profile}.type"), "Unconfined");
            }
        }
        if context["windowsOptions"]["hostProcess"] == true {
            self.add(Freedom::Privileged, format!("{at}.windowsOptions.hostProcess"), "true");
        }
        for part in ["user", "role", "type", "level"] {
            if let Some(value) = filled(&context["seLinuxOptions"][part]) {
                self.add(Freedom::Privileged, format!("{at}.seLinuxOptions.{part}"), value);
            }
        }
        for sysctl in list(&context["sysctls"]) {
            let name = text(&sysctl["name"]);
            self.add(Freedom::Privileged, format!("{at}.sysctls[{name}]"), text(&sysctl["value"]));
        }
    }
}

/// The rule gives each task its own, and the measure is another task's.
fn without_session_name(container: &Value) -> Value {
    let mut container = container.clone();
    if let Some(env) = container["env"].as_array_mut() {
        env.retain(|entry| entry["name"] != SESSION_NAME);
    }
    container
}

/// Whether something is mounted at `token` or below. What is mounted above does not hide it: runtimes mount by depth.
/// A path with `..` may lead anywhere, by links of the image too.
fn is_at_or_below(path: &str, token: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.map(str::to_owned).collect()
    };
    // `/var/run` is a link to `/run` in most images.
    let real = |mut parts: Vec<String>| {
        if parts.starts_with(&["var".into(), "run".into()]) {
            parts.remove(0);
        }
        parts
    };
    let path = parts(path);
    path.iter().any(|part| part == "..") || real(path).starts_with(&real(parts(token)))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Null and a missing field are the empty text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn filled(value: &Value) -> Option<String> {
    Some(text(value)).filter(|text| !text.is_empty())
}
