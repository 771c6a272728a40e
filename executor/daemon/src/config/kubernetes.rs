//! `[kubernetes_executor]`, typed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use windlass_cluster::{Keepalive, Namespaces, Source};
use windlass_core::ids::InstallationId;
use windlass_core::pod::{PodSettings, WatchedNamespaces};

use super::fault::Fault;
use super::typed::{Values, milliseconds};

const SECTION: &str = "kubernetes_executor";

/// What the Python KubernetesExecutor is told, as far as it applies here.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// Namespace of worker pods.
    pub namespace: String,
    /// Whether pod_override may name another namespace.
    pub multi_namespace_mode: bool,
    /// What is watched.
    pub namespaces: Namespaces,
    /// `repository:tag`, if both are set.
    pub worker_image: Option<String>,
    /// The template of worker pods.
    pub pod_template_file: Option<PathBuf>,
    /// Address and credentials.
    pub source: Source,
    /// Deadline of a call, if set.
    pub request_timeout: Option<Duration>,
    /// For the connection alone, if set.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// Whether the API server's certificate is verified.
    pub verify_tls: bool,
    /// CA instead of the one of the source.
    pub ca_file: Option<PathBuf>,
    /// Whether pods that ended are deleted.
    pub delete_pods: bool,
    /// Whether that holds for failed ones.
    pub delete_failed_pods: bool,
    /// `gracePeriodSeconds` of deletes, if set.
    pub delete_grace_seconds: Option<u32>,
    /// Waiting reasons that fail a pending pod.
    pub fatal_waiting: BTreeSet<String>,
    /// `pod_launch_failure_excluded_container_reasons`.
    pub final_reasons: BTreeSet<String>,
    /// Pods for one launch at most.
    pub attempts_max: u32,
    /// Airflow's ceiling for concurrent creates, where it applies.
    pub creates_max: Option<u32>,
}

impl Kubernetes {
    /// For rendering pods, where nothing hides them.
    pub(super) fn pod_settings(&self, installation: InstallationId) -> PodSettings {
        let watched = match (&self.namespaces, self.multi_namespace_mode) {
            (_, false) => WatchedNamespaces::Own,
            (Namespaces::All, true) => WatchedNamespaces::All,
            (Namespaces::Only(names), true) => WatchedNamespaces::Listed(names.clone()),
        };
        PodSettings {
            namespace: self.namespace.clone(),
            kube_image: self.worker_image.clone(),
            watched,
            installation,
            hide_from_neighbours: false,
        }
    }

    pub(super) fn read(values: &mut Values) -> Self {
        let text = |values: &Values, key: &str| values.filled(SECTION, key);
        let namespace = text(values, "namespace").unwrap_or_else(|| "default".into());
        let multi_namespace_mode = values.flag(SECTION, "multi_namespace_mode");
        let listed = values.list(SECTION, "multi_namespace_mode_namespace_list");
        let image = (text(values, "worker_container_repository"), text(values, "worker_container_tag"));
        let (connect_timeout, request_timeout) = request_timeouts(values);
        let retries = values.number(SECTION, "pod_launch_failure_retries", -1);
        let creates = values.number(SECTION, "pod_creation_max_concurrency", 0);
        let concurrent = values.flag(SECTION, "async_pod_creation");
        Self {
            namespaces: namespaces(&namespace, multi_namespace_mode, listed),
            namespace,
            multi_namespace_mode,
            worker_image: match image {
                (Some(repository), Some(tag)) => Some(format!("{repository}:{tag}")),
                _ => None,
            },
            pod_template_file: text(values, "pod_template_file").map(PathBuf::from),
            source: source(values),
            request_timeout,
            connect_timeout,
            keepalive: keepalive(values),
            verify_tls: values.flag(SECTION, "verify_ssl"),
            ca_file: text(values, "ssl_ca_cert").map(PathBuf::from),
            delete_pods: values.flag(SECTION, "delete_worker_pods"),
            delete_failed_pods: values.flag(SECTION, "delete_worker_pods_on_failure"),
            delete_grace_seconds: delete_grace(values),
            fatal_waiting: values
                .list(SECTION, "worker_pod_pending_fatal_container_state_reasons")
                .into_iter()
                .collect(),
            final_reasons: values
                .list(SECTION, "pod_launch_failure_excluded_container_reasons")
                .into_iter()
                .collect(),
            // -1: without limit; Airflow gives up a task that stays queued anyway.
            attempts_max: u32::try_from(retries).map_or(u32::MAX, |retries| retries.saturating_add(1)),
            creates_max: u32::try_from(creates).ok().filter(|max| concurrent && *max > 0),
        }
    }
}

/// As `KubeConfig` has it: the list counts only in multi-namespace mode, and without it that mode means all.
fn namespaces(namespace: &str, multi: bool, listed: Vec<String>) -> Namespaces {
    match (multi, listed.is_empty()) {
        (true, true) => Namespaces::All,
        (true, false) => Namespaces::Only(listed),
        (false, _) => Namespaces::Only(vec![namespace.to_owned()]),
    }
}

fn source(values: &mut Values) -> Source {
    if values.flag(SECTION, "in_cluster") {
        return Source::InCluster;
    }
    let path = values.filled(SECTION, "config_file").map(PathBuf::from);
    Source::Kubeconfig { path, context: values.filled(SECTION, "cluster_context") }
}

fn keepalive(values: &mut Values) -> Option<Keepalive> {
    let mut seconds = |key| u64::try_from(values.number(SECTION, key, 1)).unwrap_or(1);
    let idle = Duration::from_secs(seconds("tcp_keep_idle"));
    let interval = Duration::from_secs(seconds("tcp_keep_intvl"));
    let count = u32::try_from(seconds("tcp_keep_cnt")).unwrap_or(u32::MAX);
    values.flag(SECTION, "enable_tcp_keepalive").then_some(Keepalive { idle, interval, count })
}

/// `_request_timeout` of `kube_client_request_args`: one number, or `[connect, read]`.
fn request_timeouts(values: &mut Values) -> (Option<Duration>, Option<Duration>) {
    const KEY: &str = "kube_client_request_args";
    let arguments = values.object(SECTION, KEY);
    for name in arguments.keys().filter(|name| *name != "_request_timeout") {
        let what = format!("`{name}` cannot be honoured: it is an argument of the Python client");
        values.fault(SECTION, KEY, &what, "keep only `_request_timeout` in the daemon's configuration");
    }
    let seconds = |value: &Value| {
        let seconds = value.as_f64().filter(|s| *s > 0.0 && *s < 1e6)?;
        Some(Duration::from_millis(milliseconds(seconds)))
    };
    let parsed = match arguments.get("_request_timeout") {
        None | Some(Value::Null) => return (None, None),
        Some(Value::Array(pair)) if pair.len() == 2 => (seconds(&pair[0]), seconds(&pair[1])),
        Some(one) => (None, seconds(one)),
    };
    if parsed.1.is_none() {
        let remedy = "write {\"_request_timeout\": 60} or {\"_request_timeout\": [5, 60]}, in seconds";
        values.fault(SECTION, KEY, "`_request_timeout` is no number of seconds", remedy);
    }
    parsed
}

/// `grace_period_seconds` of `delete_option_kwargs`. A pod has no dependents, so a propagation policy changes nothing.
fn delete_grace(values: &mut Values) -> Option<u32> {
    const KEY: &str = "delete_option_kwargs";
    let options = values.object(SECTION, KEY);
    for name in options.keys() {
        if !["grace_period_seconds", "propagation_policy"].contains(&name.as_str()) {
            let what = format!("`{name}` cannot be honoured: each delete carries preconditions of its own");
            values.fault(
                SECTION,
                KEY,
                &what,
                "keep only `grace_period_seconds` in the daemon's configuration",
            );
        }
    }
    let grace = options.get("grace_period_seconds").filter(|value| !value.is_null())?;
    let seconds = grace.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    if seconds.is_none() {
        let what = "`grace_period_seconds` is no whole number from 0 on";
        values.fault(SECTION, KEY, what, "write {\"grace_period_seconds\": 30}");
    }
    seconds
}

/// A service account outside its standard place, for `[kubernetes]` of windlass.toml.
pub(super) fn named_account(url: &str, directory: &std::path::Path) -> Result<Option<Source>, Fault> {
    match (url.is_empty(), directory.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            Ok(Some(Source::ServiceAccount { url: url.to_owned(), directory: directory.into() }))
        }
        _ => Err(Fault::new(
            "kubernetes.api-url, kubernetes.token-directory",
            "one is set without the other",
            "set both, or neither for in-cluster access",
        )),
    }
}
