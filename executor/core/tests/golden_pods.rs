//! Pods that the real Python executor made (`tests/fixtures/pods`), against the renderer, field by field. The
//! differences meant are listed in `windlass_core::pod`; `normalised` takes them out of both sides.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads its fixtures")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use windlass_core::identity::Identity;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::pod::{self, PodSettings, RenderError, Template, WatchedNamespaces};
use windlass_core::task::{DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(folder)
}

fn cases() -> Vec<(String, Value)> {
    let mut files: Vec<_> =
        std::fs::read_dir(fixtures("pods")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn settings(case: &Value) -> PodSettings {
    let config = &case["config"]["kubernetes_executor"];
    PodSettings {
        namespace: text(&config["namespace"]),
        kube_image: config["kube_image"].as_str().map(str::to_owned),
        watched: WatchedNamespaces::Own,
        installation: InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into()),
        hide_from_neighbours: false,
    }
}

/// executor_config from the form in which the cases show it (the bridge's tests decode the pickles). An override that
/// is no pod stands for the decoder's refusal.
fn executor_config(shown: &Value) -> Result<ExecutorConfig, String> {
    let wanted = &shown["pod_override"];
    let legacy = shown["KubernetesExecutor"].as_object().is_some_and(|config| !config.is_empty());
    let is_pod = wanted["__type"] == "k8s.V1Pod";
    let is_empty = wanted.is_null() || wanted["__var"].as_object().is_some_and(serde_json::Map::is_empty);
    let pod_override = match &wanted["__python_object__"] {
        Value::Null if is_pod => Some(wanted["__var"].clone()),
        Value::Null if is_empty && !legacy => None,
        Value::Null => return Err("not a pod".into()),
        _ => Some(wanted["sanitized"].clone()),
    };
    let pod_template_file =
        shown["pod_template_file"].as_str().filter(|path| !path.is_empty()).map(str::to_owned);
    Ok(ExecutorConfig { pod_override, pod_template_file })
}

fn spec(case: &Value) -> TaskSpec {
    let (input, key) = (&case["input"], &case["input"]["key"]);
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    let key = TaskKey {
        dag_id: text(&key["dag_id"]),
        task_id: text(&key["task_id"]),
        run_id: text(&key["run_id"]),
        map_index: number(&key["map_index"]),
    };
    TaskSpec {
        queueing: Queueing { key, try_number: number(&input["key"]["try_number"]), queued_at: UtcMicros(1) },
        queue: text(&input["queue"]),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: text(&input["scheduler_job_id"]).parse().unwrap(),
        airflow_version: text(&case["versions"]["airflow"]),
        has_pod_mutation_hook: false,
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
        command: serde_json::from_value(input["command"].clone()).unwrap(),
        executor_config: executor_config(&input["executor_config_stored_object"]),
    }
}

fn rendered(case: &Value) -> Result<Value, RenderError> {
    let (settings, spec) = (settings(case), spec(case));
    let own = spec.executor_config.as_ref().is_ok_and(|config| config.pod_template_file.is_some());
    let yaml = &case[if own { "task_pod_template_yaml" } else { "pod_template_yaml" }];
    let template = yaml.as_str().map_or_else(|| Ok(Template::absent()), Template::parse)?;
    let launch = LaunchId::of(&settings.installation, &spec.queueing);
    let pod = pod::render(&settings, &template, &Identity::default(), &spec, &launch, Attempt::FIRST)?;
    let place = pod::pod_ref(&settings, &Identity::default(), &spec, &launch, Attempt::FIRST);
    assert_eq!(pod["metadata"]["name"], Value::String(place.name));
    assert_eq!(pod["metadata"]["namespace"], Value::String(place.namespace));
    Ok(pod)
}

/// Without labels and annotations of Windlass, with the end of the name as the cases have it; a name that the
/// override asked for put back where Python puts it.
fn normalised(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    let name = text(&metadata["name"]);
    let mut shown = Value::String(format!("{}-xxxxxxxx", &name[..name.len() - 9]));
    for field in ["labels", "annotations"] {
        let texts = metadata[field].as_object_mut().unwrap();
        if let Some(wanted) = texts.remove(pod::ANNOTATION_OVERRIDE_NAME) {
            shown = wanted;
        }
        texts.retain(|name, _| !name.starts_with("windlass.dev/"));
    }
    metadata.insert("name".into(), shown);
    pod
}

#[test]
fn every_case_comes_out_as_python_made_it() {
    let cases = cases();
    assert!(cases.len() >= 101, "only {} cases found", cases.len());
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let expected = &case["expected"];
        match (rendered(&case), expected["kind"].as_str()) {
            (Ok(pod), Some("pod")) => {
                let made = normalised(pod);
                if made != expected["pod"] {
                    wrong.push(format!("{name}\n  made     {made}\n  expected {}", expected["pod"]));
                }
            }
            (Err(_), Some("error")) => {}
            (made, _) => wrong.push(format!("{name}\n  made {made:?}\n  expected {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pod_that_the_api_server_would_refuse_is_named_before() {
    for (name, case) in cases() {
        let Ok(pod) = rendered(&case) else { continue };
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let complete = containers.iter().all(|container| container["image"].is_string());
        assert_eq!(pod::check(&pod).is_ok(), complete, "{name}");
    }
}
