//! Pod templates: the YAML file that `[kubernetes_executor] pod_template_file` or a task's executor_config names.

use super::model::{Class, FieldError, Object};
use super::python::Py;
use super::yaml;

/// A pod template, read as the Python executor reads it: YAML 1.1, then the Kubernetes client's types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pub(super) pod: Object,
}

/// A text that is no pod template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not one YAML document.
    #[error(
        "the pod template is no valid YAML: line {line}: {what}; correct the file that pod_template_file names"
    )]
    Yaml {
        /// From 1.
        line: usize,
        /// The parser's words.
        what: String,
    },
    /// A list or a scalar. Airflow would take it for a template without fields.
    #[error(
        "the pod template holds {found} where a pod (apiVersion, kind, metadata, spec) is expected; \
         correct the file that pod_template_file names"
    )]
    NotAPod {
        /// What it holds.
        found: &'static str,
    },
    /// Another kind of object, whose fields are not a pod's.
    #[error(
        "the pod template is a {kind} where a Pod is expected; correct the file that pod_template_file names"
    )]
    OtherKind {
        /// Its `kind`.
        kind: String,
    },
    /// A field with a value that a pod can't have there.
    #[error("the pod template is no pod: {0}; correct the file that pod_template_file names")]
    Field(#[from] FieldError),
}

impl Template {
    /// The template of a file that does not exist: Airflow only logs that and makes the pod from the rest.
    pub fn absent() -> Self {
        Self::default()
    }

    /// Reads a template that pods are made from. An empty text is a template without fields, as in Airflow.
    ///
    /// # Errors
    /// Where PyYAML or the Kubernetes client raise (they end the scheduler's loop), and for a list or scalar.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let value = load(text)?;
        let found = match &value {
            Py::None | Py::Dict(_) => return Self::read(&value),
            Py::List(_) => "a list",
            _ => "a single value",
        };
        Err(TemplateError::NotAPod { found })
    }

    /// Reads a template to show the Python executor's pod: a list or a scalar is a template without fields.
    ///
    /// # Errors
    /// Where PyYAML or the Kubernetes client raise.
    pub fn parse_as_python(text: &str) -> Result<Self, TemplateError> {
        Self::read(&load(text)?)
    }

    fn read(value: &Py) -> Result<Self, TemplateError> {
        let read = Class::named("V1Pod").map(|class| class.read(value)).transpose();
        let pod = read.map_err(|error| other_kind(value).unwrap_or(TemplateError::Field(error)))?;
        Ok(Self { pod: pod.unwrap_or_default() })
    }
}

fn load(text: &str) -> Result<Py, TemplateError> {
    yaml::load(text).map_err(|error| TemplateError::Yaml { line: error.line, what: error.what })
}

/// A field that fails may be right in the kind of object that this is.
fn other_kind(value: &Py) -> Option<TemplateError> {
    let Py::Dict(fields) = value else { return None };
    let named = fields.iter().find_map(|(name, value)| match (name, value) {
        (Py::Str(name), Py::Str(kind)) if name == "kind" => Some(kind),
        _ => None,
    });
    named.filter(|kind| *kind != "Pod").map(|kind| TemplateError::OtherKind { kind: kind.clone() })
}
