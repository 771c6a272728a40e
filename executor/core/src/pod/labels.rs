//! Labels and annotations that name a task, as the Python executor writes and selects them. Dashboards, network
//! policies and SecurityGroupPolicies select by these.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

use super::python::parse_int;

/// Longest label value that Kubernetes takes.
const LABEL_MAX: usize = 63;
/// Characters of the MD5 that end a label value which had to be changed.
const HASH_LEN: usize = 9;

/// `make_safe_label_value`: what of `text` may stand in a label; if anything was lost, cut and marked with a hash.
pub fn safe_label_value(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let kept: String = text.chars().filter(allowed).collect();
    let safe = kept.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if safe.len() <= LABEL_MAX && safe == text {
        return safe.to_owned();
    }
    let hash = Md5::digest(text.as_bytes());
    let hash: String = hash.iter().flat_map(|b| [b >> 4, b & 15]).map(hex_digit).take(HASH_LEN).collect();
    format!("{}-{hash}", &safe[..safe.len().min(LABEL_MAX - HASH_LEN - 1)])
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// `datetime_to_label_safe_datestring` of an ISO time.
pub fn safe_label_time(iso: &str) -> String {
    iso.replace(':', "_").replace('+', "_plus_")
}

/// What labels and annotations are made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskLabels<'a> {
    /// `dag_id`.
    pub dag_id: &'a str,
    /// `task_id`.
    pub task_id: &'a str,
    /// `run_id`; left out when empty.
    pub run_id: &'a str,
    /// `try_number`.
    pub try_number: i32,
    /// Left out below 0.
    pub map_index: i32,
    /// The SchedulerJob's id, in the label `airflow-worker`.
    pub worker: Option<&'a str>,
    /// Airflow's version; its `+` becomes `-`.
    pub airflow_version: Option<&'a str>,
    /// `execution_date` as ISO text. The executor passes none; the helper functions know it.
    pub execution_date: Option<&'a str>,
}

impl TaskLabels<'_> {
    /// `build_labels_for_k8s_executor_pod`.
    pub fn labels(&self) -> BTreeMap<&'static str, String> {
        let mut labels = BTreeMap::from([
            ("dag_id", safe_label_value(self.dag_id)),
            ("task_id", safe_label_value(self.task_id)),
            ("try_number", self.try_number.to_string()),
            ("kubernetes_executor", "True".to_owned()),
        ]);
        if let Some(version) = self.airflow_version {
            labels.insert("airflow_version", version.replace('+', "-"));
        }
        if let Some(worker) = self.worker {
            labels.insert("airflow-worker", safe_label_value(worker));
        }
        if self.map_index >= 0 {
            labels.insert("map_index", self.map_index.to_string());
        }
        if let Some(date) = self.execution_date {
            labels.insert("execution_date", safe_label_time(date));
        }
        if !self.run_id.is_empty() {
            labels.insert("run_id", safe_label_value(self.run_id));
        }
        labels
    }

    /// `build_selector_for_k8s_executor_pod`: sorted, and for pods of any executor at least those of one.
    pub fn selector(&self) -> String {
        let mut parts: Vec<String> =
            self.labels().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if self.worker.is_none_or(str::is_empty) {
            parts.push("airflow-worker".to_owned());
        }
        parts.join(",")
    }

    /// The annotations of `construct_pod`: the same facts unabridged.
    pub fn annotations(&self) -> BTreeMap<&'static str, String> {
        let mut annotations = BTreeMap::from([
            ("dag_id", self.dag_id.to_owned()),
            ("task_id", self.task_id.to_owned()),
            ("try_number", self.try_number.to_string()),
        ]);
        if self.map_index >= 0 {
            annotations.insert("map_index", self.map_index.to_string());
        }
        if let Some(date) = self.execution_date {
            annotations.insert("execution_date", date.to_owned());
        }
        if !self.run_id.is_empty() {
            annotations.insert("run_id", self.run_id.to_owned());
        }
        annotations
    }
}

/// The task that a pod's annotations name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotatedTask {
    /// `dag_id`.
    pub dag_id: String,
    /// `task_id`.
    pub task_id: String,
    /// `run_id`; None in pods of an Airflow before 2.2, which wrote the execution date.
    pub run_id: Option<String>,
    /// `try_number`.
    pub try_number: i32,
    /// -1 for a task that is not mapped.
    pub map_index: i32,
}

/// Annotations that name no task.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// One is missing.
    #[error("the pod has no annotation `{0}`: it was not made by a Kubernetes executor")]
    Missing(&'static str),
    /// One that must be a number is none.
    #[error("the pod's annotation `{name}` is `{value}` where a number is expected")]
    NotANumber {
        /// Which.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

/// `annotations_to_key`, without its look-up of a run by execution date.
///
/// # Errors
/// When `dag_id`, `task_id` or `try_number` is missing, or a number is none.
pub fn annotated_task(annotations: &BTreeMap<String, String>) -> Result<AnnotatedTask, AnnotationError> {
    let text = |name| annotations.get(name).cloned().ok_or(AnnotationError::Missing(name));
    let number = |name: &'static str, value: String| {
        let parsed = parse_int(&value).and_then(|n| i32::try_from(n).ok());
        parsed.ok_or(AnnotationError::NotANumber { name, value })
    };
    let (dag_id, task_id) = (text("dag_id")?, text("task_id")?);
    let try_number = number("try_number", text("try_number")?)?;
    let map_index = match annotations.get("map_index") {
        Some(value) => number("map_index", value.clone())?,
        None => -1,
    };
    let run_id = annotations.get("run_id").cloned();
    Ok(AnnotatedTask { dag_id, task_id, run_id, try_number, map_index })
}
