//! Why a task can't have a pod.

use super::model::FieldError;
use super::template::TemplateError;
use crate::outcome::Reason;

/// Why a task can't have a pod. The launch fails with the text and with [`RenderError::reason`]; no other launch does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template could not be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The task's executor_config could not be decoded; the decoder's sentence.
    #[error("{0}")]
    ExecutorConfig(String),
    /// A field of pod_override with a value that a pod can't have there.
    #[error("executor_config's pod_override is no pod: {0}; correct the k8s.V1Pod in the DAG")]
    Override(FieldError),
    /// Not a command that runs a task.
    #[error(
        "the worker command begins with `{0}` where `airflow tasks run` is expected; \
         it comes from the scheduler's plugin: check that its version fits the daemon"
    )]
    Command(String),
    /// `kind` or `apiVersion` of another object.
    #[error(
        "the pod template is a {kind} ({api_version}) where a Pod (v1) is expected; \
         correct the file that pod_template_file names"
    )]
    NotAPod {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
    },
    /// `pod_mutation_hook` made something that cannot be launched; what.
    #[error("pod_mutation_hook changed the pod: {0}")]
    Hook(String),
    /// A container without an image.
    #[error(
        "container `{container}` of the pod has no image; set it in the pod template, or set [kubernetes_executor] \
         worker_container_repository and worker_container_tag, or spec.containers in pod_override"
    )]
    NoImage {
        /// Its name.
        container: String,
    },
}

impl RenderError {
    /// The stable code of the outcome.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Template(_) | Self::NotAPod { .. } | Self::NoImage { .. } => Reason::TemplateInvalid,
            Self::ExecutorConfig(_) | Self::Override(_) => Reason::ExecutorConfigInvalid,
            Self::Hook(_) => Reason::MutationHookFailed,
            Self::Command(_) => Reason::Unsupported,
        }
    }
}
