//! `PodGenerator.construct_pod`: template, then task, then pod_override.

use serde_json::{Map, Value, json};

use super::error::RenderError;
use super::labels::{TaskLabels, safe_label_value};
use super::merge::reconcile;
use super::model::{Class, Object};
use super::name::pod_name;
use super::neighbour::LABEL_EXECUTOR_DONE;
use super::python::Py;
use super::template::Template;
use super::{ANNOTATION_OVERRIDE_NAME, ANNOTATION_QUEUED_AT, PodSettings, WORKER_CONTAINER};
use crate::identity::{Identity, LABEL_RULE, admitted, close_gate};
use crate::ids::{Attempt, LaunchId, PodRef};
use crate::pod_view::{LABEL_ATTEMPT, LABEL_INSTALLATION, LABEL_LAUNCH};
use crate::task::{ExecutorConfig, TaskSpec};
use crate::time::UtcMicros;

/// How a worker command begins: Airflow 2.x, and the Task SDK of 3.x.
const COMMANDS: [&[&str]; 2] =
    [&["airflow", "tasks", "run"], &["python", "-m", "airflow.sdk.execution_time.execute_workload"]];

/// The namespace that the task's pod will be created in: that of pod_override, else its identity's, else the configured
/// one. A namespace in the template never counts.
pub fn namespace_of(settings: &PodSettings, identity: &Identity, config: &ExecutorConfig) -> String {
    let usual = || identity.namespace.as_deref().unwrap_or(settings.namespace()).to_owned();
    let wanted = config.pod_override.as_ref().and_then(|pod| pod.get("metadata")?.get("namespace"));
    match wanted {
        None | Some(Value::Null) => usual(),
        // Read as the Kubernetes client reads a text field: "" is no name, 5 is "5".
        Some(value) => match Py::from(value).to_text() {
            text if text.is_empty() => usual(),
            text => text,
        },
    }
}

/// Namespace and name of the pod of one attempt; [`render`] gives the pod these.
pub fn pod_ref(
    settings: &PodSettings,
    identity: &Identity,
    spec: &TaskSpec,
    launch: &LaunchId,
    attempt: Attempt,
) -> PodRef {
    let key = &spec.queueing.key;
    let namespace = match &spec.executor_config {
        Ok(config) => namespace_of(settings, identity, config),
        // Its launch fails at rendering; until then it needs a place.
        Err(_) => namespace_of(settings, identity, &ExecutorConfig::default()),
    };
    PodRef { namespace, name: pod_name(&key.dag_id, &key.task_id, launch, attempt) }
}

/// The pod of one attempt, as the Python executor would send it, with labels of Windlass' own.
///
/// `template` is the one that the task's `pod_template_file` names, else the configured one; `identity` stands above it and
/// below the pod_override. What the API server would
/// refuse is not looked at here but in [`check`](super::check), so that a pod can be shown that can't be created.
///
/// # Errors
/// Where the Python executor fails too: an executor_config that could not be decoded, a pod_override that does not fit
/// the Kubernetes types, a command that runs no task.
pub fn render(
    settings: &PodSettings,
    template: &Template,
    identity: &Identity,
    spec: &TaskSpec,
    launch: &LaunchId,
    attempt: Attempt,
) -> Result<Value, RenderError> {
    let config = spec.executor_config.as_ref().map_err(|why| RenderError::ExecutorConfig(why.clone()))?;
    if !COMMANDS.iter().any(|begin| {
        spec.command.len() >= begin.len() && spec.command.iter().zip(*begin).all(|(a, b)| a == b)
    }) {
        let begin = spec.command.iter().take(3).map(String::as_str).collect::<Vec<_>>();
        return Err(RenderError::Command(begin.join(" ")));
    }
    let Some(class) = Class::named("V1Pod") else { return Ok(Value::Null) };
    let wanted = match &config.pod_override {
        Some(pod) => Some(class.read(&Py::from(pod)).map_err(RenderError::Override)?),
        None => None,
    };
    let place = pod_ref(settings, identity, spec, launch, attempt);
    let own = task_pod(settings, identity, spec, &place, wanted.as_ref());
    let mut pod = reconcile(class, template.pod.clone(), own);
    identity.apply(&mut pod);
    if let Some(wanted) = wanted {
        pod = reconcile(class, pod, wanted);
    }
    let key = &spec.queueing.key;
    identity.worker_env.apply(&mut pod, &key.dag_id, &key.task_id);
    sign(&mut pod, settings, identity, place.name, (launch, attempt, spec.queueing.queued_at));
    Ok(Value::Object(pod))
}

/// What the task itself asks for: name, labels, annotations, and one container with the command.
fn task_pod(
    settings: &PodSettings,
    identity: &Identity,
    spec: &TaskSpec,
    place: &PodRef,
    wanted: Option<&Object>,
) -> Object {
    let key = &spec.queueing.key;
    let worker = spec.scheduler_job_id.to_string();
    let facts = TaskLabels {
        dag_id: &key.dag_id,
        task_id: &key.task_id,
        run_id: &key.run_id,
        try_number: spec.queueing.try_number,
        map_index: key.map_index,
        worker: Some(&worker),
        airflow_version: Some(&spec.airflow_version),
        execution_date: None,
    };
    let mut container = Map::new();
    container.insert("name".into(), WORKER_CONTAINER.into());
    container.insert("args".into(), spec.command.clone().into());
    container.insert("env".into(), json!([{"name": "AIRFLOW_IS_K8S_EXECUTOR_POD", "value": "True"}]));
    if let Some(image) =
        wanted_image(wanted).or(settings.kube_image.as_deref()).filter(|image| !image.is_empty())
    {
        container.insert("image".into(), image.into());
    }
    let texts = |texts: std::collections::BTreeMap<&str, String>| {
        Value::Object(texts.into_iter().map(|(k, v)| (k.to_owned(), Value::String(v))).collect())
    };
    let mut metadata = Map::new();
    metadata.insert("name".into(), place.name.clone().into());
    metadata.insert("namespace".into(), namespace_of(settings, identity, &ExecutorConfig::default()).into());
    metadata.insert("labels".into(), texts(facts.labels()));
    metadata.insert("annotations".into(), texts(facts.annotations()));
    let mut pod = Map::new();
    pod.insert("metadata".into(), Value::Object(metadata));
    pod.insert("spec".into(), json!({"containers": [container]}));
    pod
}

/// The image of the override's first container.
fn wanted_image(wanted: Option<&Object>) -> Option<&str> {
    wanted?.get("spec")?.get("containers")?.get(0)?.get("image")?.as_str().filter(|image| !image.is_empty())
}

/// A rendered pod that `pod_mutation_hook` has changed, with Windlass's own name, labels and annotations set again.
///
/// # Errors
/// The hook has moved it to another namespace: the launch is recorded in the one that it was claimed for.
pub fn sign_again(
    pod: Value,
    settings: &PodSettings,
    identity: &Identity,
    spec: &TaskSpec,
    launch: &LaunchId,
    attempt: Attempt,
) -> Result<Value, RenderError> {
    let place = pod_ref(settings, identity, spec, launch, attempt);
    let Value::Object(mut pod) = pod else {
        return Err(RenderError::Hook("it left no pod".into()));
    };
    let moved = pod.get("metadata").and_then(|metadata| metadata.get("namespace"));
    if moved.and_then(Value::as_str) != Some(&place.namespace) {
        let moved = moved.map_or_else(|| "none".into(), Value::to_string);
        let what = format!(
            "it set metadata.namespace to {moved} where the task's pod belongs into \"{}\"; name the namespace in \
             pod_override instead",
            place.namespace
        );
        return Err(RenderError::Hook(what));
    }
    sign(&mut pod, settings, identity, place.name, (launch, attempt, spec.queueing.queued_at));
    Ok(Value::Object(pod))
}

/// Sets what the override must not: the name, by which a repeated create is known, the labels that the watch selects and
/// reads, what a database that has lost the launch cannot tell, and what admission has to make of the pod before it may
/// start. A name that the override asked for is kept in an annotation.
fn sign(
    pod: &mut Object,
    settings: &PodSettings,
    identity: &Identity,
    name: String,
    (launch, attempt, queued_at): (&LaunchId, Attempt, UtcMicros),
) {
    let mut metadata = take_object(pod, "metadata");
    let mut labels = take_object(&mut metadata, "labels");
    labels.insert(LABEL_LAUNCH.into(), launch.as_str().into());
    labels.insert(LABEL_ATTEMPT.into(), attempt.0.to_string().into());
    labels.insert(LABEL_INSTALLATION.into(), settings.installation.short().into());
    match &identity.rule {
        Some(rule) => drop(labels.insert(LABEL_RULE.into(), safe_label_value(rule).into())),
        None => drop(labels.remove(LABEL_RULE)),
    }
    if settings.hide_from_neighbours {
        labels.insert(LABEL_EXECUTOR_DONE.into(), "True".into());
    }
    metadata.insert("labels".into(), Value::Object(labels));
    let mut annotations = take_object(&mut metadata, "annotations");
    annotations.insert(ANNOTATION_QUEUED_AT.into(), queued_at.to_string().into());
    admitted::demand(&mut annotations, identity);
    let name = Value::String(name);
    if let Some(wanted) = metadata.insert("name".into(), name.clone()).filter(|wanted| *wanted != name) {
        annotations.insert(ANNOTATION_OVERRIDE_NAME.into(), wanted);
    }
    metadata.insert("annotations".into(), Value::Object(annotations));
    pod.insert("metadata".into(), Value::Object(metadata));
    if identity.demands() {
        close_gate(pod);
    }
}

fn take_object(object: &mut Object, field: &str) -> Object {
    match object.remove(field) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    }
}

/// What the API server would refuse of a rendered pod, said in Airflow's words: another kind of object, a container
/// without image.
///
/// # Errors
/// Names the field and what to set.
pub fn check(pod: &Value) -> Result<(), RenderError> {
    let text = |field, default: &str| pod.get(field).and_then(Value::as_str).unwrap_or(default).to_owned();
    let (kind, api_version) = (text("kind", "Pod"), text("apiVersion", "v1"));
    if kind != "Pod" || api_version != "v1" {
        return Err(RenderError::NotAPod { kind, api_version });
    }
    let spec = pod.get("spec");
    for field in ["initContainers", "containers"] {
        let containers = spec.and_then(|spec| spec.get(field)).and_then(Value::as_array);
        for (at, container) in containers.into_iter().flatten().enumerate() {
            if container.get("image").and_then(Value::as_str).is_none_or(str::is_empty) {
                let name = container.get("name").and_then(Value::as_str);
                let container = name.map_or_else(|| format!("{field}[{at}]"), str::to_owned);
                return Err(RenderError::NoImage { container });
            }
        }
    }
    Ok(())
}
