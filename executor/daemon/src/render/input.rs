//! `windlass render pod --input`: a task instance, its configuration and its templates in one document, and the pod, or
//! why there is none, in another. Nothing else counts: no database, no airflow.cfg, no file that a template names.

use std::path::Path;

use scheduler_bridge::airflow::executor_config;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_core::identity::Identity;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::pod::{self, PodSettings, Template, WatchedNamespaces, worker_command};
use windlass_core::task::TaskSpec;

use super::{NO_INSTALLATION, unhex};
use crate::cli::Failure;
use crate::document;
use crate::pods::imaginary;

/// Largest document, in bytes.
const DOCUMENT_MAX: u64 = 64 * 1024 * 1024;
const HINT: &str = "`windlass render pod --help` shows the document";

/// What is rendered.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    input: Input,
    #[serde(default)]
    config: Config,
    airflow_version: Option<String>,
    /// Content of the file that `[kubernetes_executor] pod_template_file` names; null: there is none.
    pod_template_yaml: Option<String>,
    /// Content of the file that executor_config's `pod_template_file` names; null: there is none.
    task_pod_template_yaml: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Input {
    key: Key,
    queue: Option<String>,
    /// A number, or its digits.
    #[serde(default)]
    scheduler_job_id: Value,
    /// The column's bytes; null is NULL.
    executor_config_pickle_hex: Option<String>,
    /// As the scheduler made it; without it, that of a task whose DAG file is not known.
    command: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Key {
    dag_id: String,
    task_id: String,
    run_id: String,
    #[serde(default = "first")]
    try_number: i32,
    #[serde(default = "unmapped")]
    map_index: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    kubernetes_executor: KubernetesExecutor,
}

/// The options that a pod depends on. Others are of no account and may stand there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubernetesExecutor {
    namespace: Option<String>,
    worker_container_repository: Option<String>,
    worker_container_tag: Option<String>,
    /// Repository and tag, as the Python executor puts them together.
    kube_image: Option<String>,
}

const fn first() -> i32 {
    1
}

const fn unmapped() -> i32 {
    -1
}

impl Case {
    /// From a file, or standard input (`-`).
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |what: String| Failure::Other {
            what: format!("the input `{}` {what}", path.display()),
            hint: HINT.into(),
        };
        let bytes =
            document::read(path, DOCUMENT_MAX).map_err(|error| failed(format!("cannot be read: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(format!("is not what is rendered: {error}")))
    }

    /// `{"kind": "pod", "pod": ..}` or `{"kind": "error", "reason": ..}`.
    pub(super) fn answer(self) -> Value {
        match self.pod() {
            Ok(pod) => json!({ "kind": "pod", "pod": pod }),
            Err(reason) => json!({ "kind": "error", "reason": reason }),
        }
    }

    fn pod(self) -> Result<Value, String> {
        if let Some(other) = self.airflow_version.as_deref().filter(|version| !version.starts_with("2.")) {
            return Err(format!("Airflow {other}: Windlass makes pods for Airflow 2 (2.10 and 2.11)"));
        }
        let settings = self.config.kubernetes_executor.settings();
        let spec = self.input.spec(self.airflow_version)?;
        // Before a template is looked at: what can't be read here tells which one counts.
        let own = spec.executor_config.as_ref().map_err(String::clone)?.pod_template_file.is_some();
        let yaml = if own { self.task_pod_template_yaml } else { self.pod_template_yaml };
        let template = yaml.as_deref().map_or_else(|| Ok(Template::absent()), Template::parse_as_python);
        let template = template.map_err(|error| error.to_string())?;
        let launch = LaunchId::of(&settings.installation, &spec.queueing);
        pod::render(&settings, &template, &Identity::default(), &spec, &launch, Attempt::FIRST)
            .map(named_as_python_names_it)
            .map_err(|error| error.to_string())
    }
}

/// With the name that pod_override asks for: the document shows the Python executor's pod, to compare with. The daemon
/// gives the pod its own ([`pod::ANNOTATION_OVERRIDE_NAME`]).
fn named_as_python_names_it(mut pod: Value) -> Value {
    let metadata = &mut pod["metadata"];
    if let Some(wanted) = metadata["annotations"].get(pod::ANNOTATION_OVERRIDE_NAME).cloned() {
        metadata["name"] = wanted;
    }
    pod
}

impl Input {
    fn spec(self, airflow_version: Option<String>) -> Result<TaskSpec, String> {
        let Key { dag_id, task_id, run_id, try_number, map_index } = self.key;
        let key = TaskKey { dag_id, task_id, run_id, map_index };
        let pickle = match self.executor_config_pickle_hex {
            None => None,
            Some(hex) => Some(unhex(hex.as_bytes()).ok_or("executor_config_pickle_hex is not hexadecimal")?),
        };
        let usual = imaginary(key.clone());
        let scheduler_job_id = match &self.scheduler_job_id {
            Value::Null => usual.scheduler_job_id,
            Value::String(digits) => digits.parse().map_err(|_| "scheduler_job_id is no number")?,
            number => number.as_i64().ok_or("scheduler_job_id is no number")?,
        };
        Ok(TaskSpec {
            has_pod_mutation_hook: false,
            command_is_own: false,
            branches: None,
            command: self.command.unwrap_or_else(|| worker_command(&key, None)),
            queueing: Queueing { key, try_number, queued_at: usual.queueing.queued_at },
            queue: self.queue.unwrap_or(usual.queue),
            scheduler_job_id,
            airflow_version: airflow_version.unwrap_or(usual.airflow_version),
            executor_config: executor_config::decode(pickle.as_deref()).map_err(|error| error.to_string()),
            ..usual
        })
    }
}

impl KubernetesExecutor {
    fn settings(self) -> PodSettings {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let of_parts = given(self.worker_container_repository)
            .zip(given(self.worker_container_tag))
            .map(|(repository, tag)| format!("{repository}:{tag}"));
        PodSettings {
            namespace: given(self.namespace).unwrap_or_else(|| "default".into()),
            kube_image: given(self.kube_image).or(of_parts),
            watched: WatchedNamespaces::All,
            installation: InstallationId(NO_INSTALLATION.into()),
            hide_from_neighbours: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(case: Value) -> Value {
        serde_json::from_value::<Case>(case).unwrap().answer()
    }

    #[test]
    fn the_least_document_makes_the_plainest_pod() {
        let made = answer(json!({ "input": { "key": { "dag_id": "d", "task_id": "t", "run_id": "r" } } }));
        assert_eq!(made["kind"], "pod");
        assert_eq!(made["pod"]["metadata"]["namespace"], "default");
        assert_eq!(made["pod"]["spec"]["containers"][0]["args"][5], "r");
        assert!(made["pod"]["spec"]["containers"][0].get("image").is_none(), "shown as it is");
    }

    #[test]
    fn options_templates_and_faults_count_as_they_would_in_the_daemon() {
        let key = json!({ "dag_id": "d", "task_id": "t", "run_id": "r", "try_number": 3, "map_index": 7 });
        let options = json!({ "namespace": "etl", "worker_container_repository": "i",
            "worker_container_tag": "1", "multi_namespace_mode": true });
        let mut case = json!({
            "input": { "key": key, "scheduler_job_id": "42", "executor_config_pickle_hex": null },
            "config": { "kubernetes_executor": options },
            "airflow_version": "2.10.5",
            "pod_template_yaml": "metadata: {labels: {team: a}}\nspec: {containers: [{name: base}]}\n",
        });
        let made = answer(case.clone());
        let labels = &made["pod"]["metadata"]["labels"];
        let told =
            (&labels["team"], &labels["airflow-worker"], &labels["airflow_version"], &labels["map_index"]);
        assert_eq!(told, (&json!("a"), &json!("42"), &json!("2.10.5"), &json!("7")));
        assert_eq!(made["pod"]["spec"]["containers"][0]["image"], "i:1");
        case["input"]["executor_config_pickle_hex"] = "8005630a".into();
        assert_eq!(answer(case.clone())["kind"], "error");
        case["input"]["executor_config_pickle_hex"] = "no hex".into();
        assert_eq!(answer(case.clone())["reason"], "executor_config_pickle_hex is not hexadecimal");
        case["input"]["executor_config_pickle_hex"] = Value::Null;
        case["pod_template_yaml"] = "- a list".into();
        assert_eq!(answer(case.clone())["kind"], "pod", "as in Python");
        case["airflow_version"] = "3.3.2".into();
        let other = answer(case);
        assert_eq!(other["reason"], "Airflow 3.3.2: Windlass makes pods for Airflow 2 (2.10 and 2.11)");
    }
}
