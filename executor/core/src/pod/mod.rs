//! From a task to its pod: what the Python KubernetesExecutor would send, field for field.
//!
//! [`Template::parse`] reads the template once; [`render`] merges it with the task and its pod_override; [`check`] says
//! what the API server would refuse. All of it is a function of its arguments.
//!
//! Where the pod differs from the Python executor's, on purpose:
//! - `metadata.name` ends in a hash of launch and attempt, not in random characters, so that a repeated create meets
//!   409. A `metadata.name` in pod_override does not replace it (two tries, or two mapped tasks, would share it); it
//!   is kept in the annotation `windlass.dev/pod-override-name`. `render pod --input`, which shows what Python makes of a
//!   case, shows it as the name.
//! - The annotation `windlass.dev/queued-at`.
//! - Labels `windlass.dev/*`; beside a KubernetesExecutor also `airflow_executor_done=True`.
//! - What `pod_mutation_hook` does to the name, and to the labels and annotations of Windlass, does not hold
//!   ([`sign_again`]); another namespace is an error.
//! - From a template that is a list or a single value no task is launched; Python ignores its content, and so does
//!   `render pod --input`.
//! - YAML tags `!!binary`, `!!set`, `!!omap`, `!!pairs` are an error, and times that are not ISO 8601. U+0085, U+2028 and U+2029 end no
//!   line of a template, as in YAML 1.2; an anchor's name with other characters than libyaml's is an error, and some
//!   texts are read that libyaml refuses (a tab between tokens, an empty key).

mod command;
mod error;
mod labels;
mod merge;
mod model;
mod name;
mod neighbour;
mod python;
mod render;
mod template;
mod yaml;

use crate::ids::InstallationId;

pub use command::{dag_file_argument, worker_command};
pub use error::RenderError;
pub use labels::{
    AnnotatedTask, AnnotationError, TaskLabels, annotated_task, safe_label_time, safe_label_value,
};
pub use model::{FieldError, json_key};
pub use name::{NAME_MAX, pod_name, slugify, visible_part, with_suffix};
pub use neighbour::{LABEL_EXECUTOR_DONE, NeighbourSelectors};
pub use render::{check, namespace_of, pod_ref, render, sign_again};
pub use template::{Template, TemplateError};

/// Name of the container that runs the worker, as the Python KubernetesExecutor gives it. A pod_override can change it: then
/// it is the first.
pub const WORKER_CONTAINER: &str = "base";

/// Annotation with `queued_dttm`: with Airflow's own annotations it tells the queueing that the pod was made for.
pub const ANNOTATION_QUEUED_AT: &str = "windlass.dev/queued-at";

/// Annotation with the name that a pod_override asked for and did not get.
pub const ANNOTATION_OVERRIDE_NAME: &str = "windlass.dev/pod-override-name";

/// What pods are made with, apart from template and task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSettings {
    /// `[kubernetes_executor] namespace`; empty means `default`.
    pub namespace: String,
    /// `worker_container_repository:worker_container_tag`, where both are set.
    pub kube_image: Option<String>,
    /// Namespaces whose pods are watched.
    pub watched: WatchedNamespaces,
    /// Whose pods these are.
    pub installation: InstallationId,
    /// A KubernetesExecutor of the same scheduler sees the namespace: label pods so that it leaves them alone.
    pub hide_from_neighbours: bool,
}

/// `multi_namespace_mode` and its list: where a pod_override may send pods and have them watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchedNamespaces {
    /// `multi_namespace_mode = False`: the one of [`PodSettings::namespace`].
    #[default]
    Own,
    /// `multi_namespace_mode = True` with `multi_namespace_mode_namespace_list`.
    Listed(Vec<String>),
    /// `multi_namespace_mode = True` without a list.
    All,
}

impl PodSettings {
    /// The namespace of pods whose override names none.
    pub fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// Whether pods of `namespace` are watched. A pod elsewhere would run unseen.
    pub fn watches(&self, namespace: &str) -> bool {
        match &self.watched {
            WatchedNamespaces::Own => namespace == self.namespace(),
            WatchedNamespaces::Listed(names) => names.iter().any(|name| name == namespace),
            WatchedNamespaces::All => true,
        }
    }
}
