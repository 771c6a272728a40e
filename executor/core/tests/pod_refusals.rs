//! What can't become a pod, in words; and what of a pod is Windlass' own.
#![expect(clippy::unwrap_used, reason = "a test that fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_core::identity::Identity;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::outcome::Reason;
use windlass_core::pod::{self, PodSettings, RenderError, Template, WatchedNamespaces};
use windlass_core::task::{DagFacts, ExecutorConfig, TaskSpec};
use windlass_core::time::UtcMicros;

const MINIMAL: &str = "{apiVersion: v1, kind: Pod, spec: {containers: [{name: base, image: i}]}}";

fn settings() -> PodSettings {
    PodSettings {
        namespace: "workers".into(),
        kube_image: None,
        watched: WatchedNamespaces::Own,
        installation: InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into()),
        hide_from_neighbours: false,
    }
}

fn spec(pod_override: Option<Value>) -> TaskSpec {
    let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
    TaskSpec {
        command: pod::worker_command(&key, None),
        queueing: Queueing { key, try_number: 1, queued_at: UtcMicros(1) },
        queue: "default".into(),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: 42,
        airflow_version: "2.11.2+local".into(),
        has_pod_mutation_hook: false,
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
        executor_config: Ok(ExecutorConfig { pod_override, pod_template_file: None }),
    }
}

fn launch_of(spec: &TaskSpec) -> LaunchId {
    LaunchId::of(&settings().installation, &spec.queueing)
}

fn render(template: &str, spec: &TaskSpec) -> Result<Value, RenderError> {
    pod::render(
        &settings(),
        &Template::parse(template)?,
        &Identity::default(),
        spec,
        &launch_of(spec),
        Attempt(2),
    )
}

fn refused(template: &str, spec: &TaskSpec) -> (Reason, String) {
    let error = render(template, spec).and_then(|pod| pod::check(&pod)).unwrap_err();
    (error.reason(), error.to_string())
}

#[test]
fn a_template_that_is_no_pod_is_named_with_the_remedy() {
    let correct = "correct the file that pod_template_file names";
    let no_pod =
        format!("the pod template is no pod: `spec.containers` is missing and must be set; {correct}");
    let list = "where a pod (apiVersion, kind, metadata, spec) is expected";
    let cases = [
        ("spec: {}", no_pod),
        ("- a", format!("the pod template holds a list {list}; {correct}")),
        ("just text", format!("the pod template holds a single value {list}; {correct}")),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}",
            format!("the pod template is a Deployment (apps/v1) where a Pod (v1) is expected; {correct}"),
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, spec: {template: {}}}",
            format!("the pod template is a Deployment where a Pod is expected; {correct}"),
        ),
        (
            "a: 1\nb: !!set {x}\n",
            format!(
                "the pod template is no valid YAML: line 2: the tag `set` makes no value of a pod; {correct}"
            ),
        ),
    ];
    for (template, want) in cases {
        assert_eq!(refused(template, &spec(None)), (Reason::TemplateInvalid, want), "{template}");
    }
}

#[test]
fn a_pod_without_an_image_names_its_container() {
    let (reason, text) = refused("spec: {containers: [{name: base}]}", &spec(None));
    assert_eq!(reason, Reason::TemplateInvalid);
    assert_eq!(
        text,
        "container `base` of the pod has no image; set it in the pod template, or set [kubernetes_executor] \
         worker_container_repository and worker_container_tag, or spec.containers in pod_override"
    );
    let init = "spec: {containers: [{name: base, image: i}], initContainers: [{name: first}]}";
    assert!(refused(init, &spec(None)).1.starts_with("container `first` of the pod has no image"));
}

#[test]
fn an_executor_config_that_is_no_pod_fails_its_task() {
    let wanted = json!({"spec": {"containers": [{"image": "x"}]}});
    let want = "executor_config's pod_override is no pod: `spec.containers[0].name` is missing and must be set; \
                correct the k8s.V1Pod in the DAG";
    assert_eq!(refused(MINIMAL, &spec(Some(wanted))), (Reason::ExecutorConfigInvalid, want.into()));
    let undecoded = TaskSpec { executor_config: Err("not readable".into()), ..spec(None) };
    assert_eq!(refused(MINIMAL, &undecoded), (Reason::ExecutorConfigInvalid, "not readable".into()));
}

#[test]
fn a_command_that_runs_no_task_is_refused() {
    let other = TaskSpec { command: vec!["sh".into(), "-c".into(), "x".into()], ..spec(None) };
    let want = "the worker command begins with `sh -c x` where `airflow tasks run` is expected; it comes from the \
                scheduler's plugin: check that its version fits the daemon";
    assert_eq!(refused(MINIMAL, &other), (Reason::Unsupported, want.into()));
}

#[test]
fn name_and_labels_of_windlass_hold_against_an_override() {
    let labels = json!({"windlass.dev/launch": "forged", "team": "ml"});
    let wanted = json!({"metadata": {"name": "mine", "namespace": "elsewhere", "labels": labels}});
    let spec = spec(Some(wanted));
    let metadata = render(MINIMAL, &spec).unwrap()["metadata"].take();
    let place = pod::pod_ref(&settings(), &Identity::default(), &spec, &launch_of(&spec), Attempt(2));
    assert_eq!(metadata["name"], json!(place.name));
    assert_eq!((&metadata["namespace"], place.namespace.as_str()), (&json!("elsewhere"), "elsewhere"));
    assert_eq!(place.name, pod::pod_name("d", "t", &launch_of(&spec), Attempt(2)));
    assert_eq!(metadata["annotations"][pod::ANNOTATION_OVERRIDE_NAME], "mine");
    assert_eq!(metadata["labels"]["windlass.dev/launch"], launch_of(&spec).as_str());
    assert_eq!(metadata["labels"]["windlass.dev/attempt"], "2");
    assert_eq!(metadata["labels"]["windlass.dev/installation"], "6f1c0f8e");
    assert_eq!(
        (&metadata["labels"]["team"], &metadata["labels"]["airflow_version"]),
        (&json!("ml"), &json!("2.11.2-local"))
    );
    assert_eq!(metadata["labels"].get(pod::LABEL_EXECUTOR_DONE), None);
    assert!(!settings().watches("elsewhere"));
}

#[test]
fn what_a_mutation_hook_made_is_signed_again_and_stays_in_its_namespace() {
    let spec = spec(None);
    let made = render(MINIMAL, &spec).unwrap();
    let again = |pod: Value| {
        pod::sign_again(pod, &settings(), &Identity::default(), &spec, &launch_of(&spec), Attempt(2))
    };
    let mut changed = made.clone();
    changed["metadata"]["name"] = json!("mine");
    changed["metadata"]["labels"] = json!({"team": "ml"});
    changed["metadata"]["annotations"] = Value::Null;
    let signed = again(changed).unwrap();
    assert_eq!(signed["metadata"]["name"], made["metadata"]["name"]);
    assert_eq!(signed["metadata"]["labels"]["team"], "ml");
    assert_eq!(signed["metadata"]["labels"]["windlass.dev/launch"], launch_of(&spec).as_str());
    assert_eq!(signed["metadata"]["annotations"][pod::ANNOTATION_OVERRIDE_NAME], "mine");
    assert_eq!(again(made.clone()), Ok(made.clone()), "a hook that changes nothing");
    let mut moved = made;
    moved["metadata"]["namespace"] = json!("else");
    let error = again(moved).unwrap_err();
    assert_eq!(error.reason(), Reason::MutationHookFailed);
    let want = "pod_mutation_hook changed the pod: it set metadata.namespace to \"else\" where the task's pod belongs into \
                \"workers\"; name the namespace in pod_override instead";
    assert_eq!(error.to_string(), want);
    assert_eq!(
        again(Value::Null).unwrap_err().to_string(),
        "pod_mutation_hook changed the pod: it left no pod"
    );
}

#[test]
fn beside_a_kubernetes_executor_pods_are_hidden_from_its_selectors() {
    let settings = PodSettings { hide_from_neighbours: true, ..settings() };
    let spec = spec(None);
    let template = Template::parse(MINIMAL).unwrap();
    let pod =
        pod::render(&settings, &template, &Identity::default(), &spec, &launch_of(&spec), Attempt::FIRST)
            .unwrap();
    let labels = &pod["metadata"]["labels"];
    let selects = |selector: &str| {
        selector.split(',').all(|term| match term.split_once("!=") {
            Some((name, value)) => labels[name] != value,
            None => term.split_once('=').is_some_and(|(name, value)| labels[name] == value),
        })
    };
    let neighbour = pod::NeighbourSelectors::of("42");
    assert!(!selects(&neighbour.watch) && !selects(&neighbour.adopt) && !selects(&neighbour.adopt_completed));
    assert!(selects("kubernetes_executor=True,airflow-worker=42"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_template_panic(text in "[a-z0-9ü'\"{}\\[\\],:&*!#|>%@<=~._+\\- \n\t-]{0,80}") {
        let _ = Template::parse(&text);
    }

    #[test]
    fn no_scalar_makes_a_template_panic(scalar in "[0-9a-fxobTZ:._+\\-é ]{0,20}") {
        let _ = Template::parse(&format!("metadata: {{labels: {{a: {scalar}}}, generation: {scalar}}}"));
    }

    #[test]
    fn no_id_makes_a_name_too_long_or_panic(dag in any::<String>(), task in any::<String>()) {
        let spec = spec(None);
        let name = pod::pod_name(&dag, &task, &launch_of(&spec), Attempt::FIRST);
        prop_assert!(name.len() <= pod::NAME_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        prop_assert!(pod::safe_label_value(&dag).len() <= 63);
    }
}
