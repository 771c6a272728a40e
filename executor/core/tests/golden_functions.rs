//! Inputs and outputs of the Python executor's helper functions (`tests/fixtures/functions`), against ours.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads its fixtures")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use windlass_core::ids::TaskKey;
use windlass_core::pod::{self, NeighbourSelectors, TaskLabels};

/// The cases of a file, and the Airflow version that made them.
fn cases(name: &str) -> (Vec<Value>, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/functions").join(name);
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let version = file["versions"]["airflow"].as_str().unwrap_or("2.11.2").to_owned();
    let cases: Vec<Value> = serde_json::from_value(file["cases"].take()).unwrap();
    assert_eq!(Value::from(cases.len()), file["n"]);
    (cases, version)
}

/// A text, "" for null, a number's digits.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> i32 {
    value.as_i64().map_or(-1, |n| i32::try_from(n).unwrap())
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v))).collect()
}

type Function = fn(&str) -> String;

#[test]
fn label_values_slugs_and_suffixes() {
    let functions: [(&str, Function); 4] = [
        ("make_safe_label_value.json", pod::safe_label_value),
        ("slugify.json", pod::slugify),
        ("datetime_to_label.json", pod::safe_label_time),
        ("add_unique_suffix.json", |name| pod::with_suffix(name, "xxxxxxxx", pod::NAME_MAX)),
    ];
    for (file, function) in functions {
        for case in cases(file).0 {
            assert_eq!(Value::String(function(&text(&case["in"]))), case["out"], "{file}: {}", case["in"]);
        }
    }
}

#[test]
fn visible_part_of_names() {
    for case in cases("create_unique_id.json").0 {
        let max = usize::try_from(number(&case["max_length"])).unwrap();
        let visible = pod::visible_part(&text(&case["dag_id"]), &text(&case["task_id"]), max);
        assert_eq!(Value::String(visible.clone()), case["unique_false"], "{case}");
        assert_eq!(pod::with_suffix(&visible, "xxxxxxxx", max), case["unique_true_suffix_fixed_x"], "{case}");
    }
}

fn with_labels<T>(input: &Value, version: Option<&str>, show: impl Fn(TaskLabels<'_>) -> T) -> T {
    let [dag_id, task_id, run_id, worker] =
        ["dag_id", "task_id", "run_id", "airflow_worker"].map(|f| text(&input[f]));
    show(TaskLabels {
        dag_id: &dag_id,
        task_id: &task_id,
        run_id: &run_id,
        try_number: number(&input["try_number"]),
        map_index: number(&input["map_index"]),
        worker: (!input["airflow_worker"].is_null()).then_some(&worker),
        airflow_version: version,
        execution_date: None,
    })
}

#[test]
fn labels_and_selectors_of_a_task() {
    let (labelled, version) = cases("build_labels.json");
    for case in labelled {
        let labels = with_labels(&case["in"], Some(&version), |task| task.labels());
        assert_eq!(serde_json::to_value(labels).unwrap(), case["labels"], "{case}");
    }
    let (selected, version) = cases("build_selector.json");
    for case in selected {
        let both =
            [None, Some(version.as_str())].map(|v| with_labels(&case["in"], v, |task| task.selector()));
        assert_eq!(both, [text(&case["selector"]), text(&case["selector_include_version"])], "{case}");
    }
}

#[test]
fn labels_and_annotations_with_an_execution_date() {
    for case in cases("construct_pod_date.json").0 {
        let (input, metadata) = (&case["in"], &case["pod"]["metadata"]);
        let [dag_id, task_id, run_id, worker, date] =
            ["dag_id", "task_id", "run_id", "scheduler_job_id", "date"].map(|f| text(&input[f]));
        let task = TaskLabels {
            dag_id: &dag_id,
            task_id: &task_id,
            run_id: &run_id,
            try_number: number(&input["try_number"]),
            map_index: number(&input["map_index"]),
            worker: Some(&worker),
            airflow_version: Some("2.11.2"),
            execution_date: (!date.is_empty()).then_some(&date),
        };
        assert_eq!(serde_json::to_value(task.labels()).unwrap(), metadata["labels"]);
        assert_eq!(serde_json::to_value(task.annotations()).unwrap(), metadata["annotations"]);
    }
}

#[test]
fn annotations_name_their_task() {
    for case in cases("annotations_to_key.json").0 {
        let given = texts(&case["in"]);
        let read = pod::annotated_task(&given);
        match &case["out"] {
            Value::Null => {
                let error = read.unwrap_err().to_string();
                let named = given
                    .values()
                    .chain(["dag_id".into(), "task_id".into(), "try_number".into()].iter())
                    .any(|word| error.contains(&format!("`{word}`")));
                assert!(named, "{case}: {error}");
            }
            // Python looks the run up in its database by execution date; that is not the renderer's.
            _ if given.contains_key("execution_date") && !given.contains_key("run_id") => {}
            out => {
                let task = read.unwrap();
                let made = serde_json::json!([
                    task.dag_id,
                    task.task_id,
                    task.run_id,
                    task.try_number,
                    task.map_index
                ]);
                assert_eq!(made, *out, "{case}");
            }
        }
    }
}

#[test]
fn worker_commands() {
    for case in cases("command_2_11.json").0 {
        let input = &case["in"];
        let key = TaskKey {
            dag_id: text(&input["dag_id"]),
            task_id: text(&input["task_id"]),
            run_id: text(&input["run_id"]),
            map_index: number(&input["map_index"]),
        };
        let command = pod::worker_command(&key, input["file_path"].as_str());
        assert_eq!(serde_json::to_value(command).unwrap(), case["command"]);
    }
}

#[test]
fn what_a_python_executor_selects() {
    for case in cases("adoption_selectors.json").0 {
        let made = NeighbourSelectors::of(&text(&case["in"]));
        assert_eq!(made.watch, text(&case["watch_label_selector"]));
        assert_eq!(made.adopt, text(&case["try_adopt_label_selector"]));
        assert_eq!(made.adopt_completed, text(&case["adopt_completed_label_selector_single"]));
        assert_eq!(made.stuck, text(&case["get_pod_map_selector"]));
    }
}
