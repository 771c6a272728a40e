//! `task_instance.executor_config`: a pickle, read without running any of it.
//!
//! Airflow stores the column with `dill`, in which `pod_override` stands as the JSON of the pod, wrapped in a dict whose
//! keys are members of an enum; an Airflow before 2.4 stored the objects of the Kubernetes client themselves. Both
//! are read. What a DAG author put under other keys is not looked at. Then the rule of
//! `PodGenerator.from_obj`: a V1Pod or nothing.

mod json;
mod machine;
mod opcode;
mod reader;
mod time;
mod value;

#[cfg(test)]
mod tests;

use windlass_core::task::ExecutorConfig;

use value::{Arena, Id, Value};

/// Longest pickle that is read. etcd takes no object beyond 1.5 MB, so no pod needs more.
pub const BYTES_MAX: usize = 1024 * 1024;

/// Why an executor_config can't be used: a sentence for the author of the DAG. The task fails with it, alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than is read.
    #[error("executor_config holds {what}, more than any pod can have; keep data out of executor_config")]
    TooLarge {
        /// Of what.
        what: String,
    },
    /// Not a pickle, or a damaged one.
    #[error(
        "executor_config is no readable pickle (byte {at}: {what}); clear the task so that Airflow writes it anew"
    )]
    Malformed {
        /// Offset in the column.
        at: usize,
        /// What is wrong there.
        what: String,
    },
    /// An opcode that only a program that loads objects can follow.
    #[error(
        "executor_config holds {what} (pickle opcode {opcode} at byte {at}), which can't be read without running \
         code; use plain values"
    )]
    Refused {
        /// Offset in the column.
        at: usize,
        /// Its name.
        opcode: &'static str,
        /// What it stands for.
        what: &'static str,
    },
    /// An object that would have to be made by its own code.
    #[error(
        "executor_config has {found} at {path}, which can't be read without running its code; use a plain value"
    )]
    Foreign {
        /// Such as `pod_override.metadata.labels.team`.
        path: String,
        /// Such as `a mymodule.Team object (REDUCE at byte 12)`.
        found: String,
    },
    /// Nested beyond what a pod can be, or within itself.
    #[error("executor_config is nested too deeply, or contains itself, at {path}; a pod is not")]
    TooDeep {
        /// Where.
        path: String,
    },
    /// Not a dict.
    #[error("executor_config is {found} where a dict is expected: {{'pod_override': k8s.V1Pod(...)}}")]
    NotADict {
        /// What it is.
        found: String,
    },
    /// Wrapped by Airflow, but without content.
    #[error(
        "executor_config's pod_override is stored without its value; clear the task so that Airflow writes it anew"
    )]
    NoValue,
    /// Something else than a pod.
    #[error(
        "executor_config's pod_override is {found} where a pod is expected: {{'pod_override': k8s.V1Pod(...)}}"
    )]
    NotAPod {
        /// What it is.
        found: String,
    },
    /// The form of Airflow 1.10.
    #[error(
        "executor_config has the form {{'KubernetesExecutor': ...}}, which Airflow no longer takes; \
         write {{'pod_override': k8s.V1Pod(...)}}"
    )]
    Legacy,
    /// A template that is no path.
    #[error("executor_config's pod_template_file is {found} where a path is expected; write it as a str")]
    TemplateFile {
        /// What it is.
        found: String,
    },
}

/// Reads the column; None is NULL.
///
/// # Errors
/// Where Airflow's executor refuses the value too, and where it could only be read by running code.
pub fn decode(bytes: Option<&[u8]>) -> Result<ExecutorConfig, DecodeError> {
    let Some(bytes) = bytes else { return Ok(ExecutorConfig::default()) };
    if bytes.len() > BYTES_MAX {
        return Err(DecodeError::TooLarge { what: format!("{} bytes", bytes.len()) });
    }
    let (arena, root) = machine::load(bytes)?;
    let pairs = match arena.get(root) {
        Value::None => return Ok(ExecutorConfig::default()),
        Value::Dict(pairs) => pairs,
        _ => return Err(DecodeError::NotADict { found: arena.describe(root) }),
    };
    let pod_override = match arena.entry(pairs, "pod_override") {
        Some(id) => pod_override(&arena, id),
        None => Ok(None),
    };
    if arena.entry(pairs, "KubernetesExecutor").is_some_and(|legacy| arena.truthy(legacy)) {
        return Err(DecodeError::Legacy);
    }
    let pod_template_file = match arena.entry(pairs, "pod_template_file") {
        Some(id) => template_file(&arena, id)?,
        None => None,
    };
    Ok(ExecutorConfig { pod_override: pod_override?, pod_template_file })
}

/// `pod_override` after `ExecutorConfigType` and `PodGenerator.from_obj`: values that Python takes for false count as
/// none, anything true must be a pod.
fn pod_override(arena: &Arena<'_>, id: Id) -> Result<Option<serde_json::Value>, DecodeError> {
    let wrapped = match arena.get(id) {
        Value::Dict(pairs) => {
            arena.entry(pairs, "__type").filter(|kind| arena.truthy(*kind)).map(|kind| (pairs, kind))
        }
        _ => None,
    };
    if let Some((pairs, kind)) = wrapped {
        let var = arena.entry(pairs, "__var").ok_or(DecodeError::NoValue)?;
        return match arena.text(kind) {
            Some("k8s.V1Pod") => json::to_json(arena, var, "pod_override").map(Some),
            Some("dict" | "set" | "tuple") if !arena.truthy(var) => Ok(None),
            Some(other) => Err(DecodeError::NotAPod {
                found: format!("a {}", other.chars().take(80).collect::<String>()),
            }),
            None => Err(DecodeError::NotAPod { found: arena.describe(id) }),
        };
    }
    if !arena.truthy(id) {
        return Ok(None);
    }
    match json::model_class(arena, id) {
        Some("V1Pod") => json::to_json(arena, id, "pod_override").map(Some),
        _ => Err(DecodeError::NotAPod { found: arena.describe(id) }),
    }
}

/// A path as text, also of a `pathlib` path, which Airflow opens just as well.
fn template_file(arena: &Arena<'_>, id: Id) -> Result<Option<String>, DecodeError> {
    if !arena.truthy(id) {
        return Ok(None);
    }
    let path = match arena.get(id) {
        Value::Str(path) => Some(path.to_string()),
        Value::Object(object) => match arena.global(object.class) {
            Some(("pathlib" | "pathlib._local", "PosixPath" | "PurePosixPath")) => {
                joined(arena, arena.args(object))
            }
            _ => None,
        },
        _ => None,
    };
    path.map(Some).ok_or_else(|| DecodeError::TemplateFile { found: arena.describe(id) })
}

/// `pathlib` pickles a path as its parts: `/`, `opt`, `t.yaml`.
fn joined(arena: &Arena<'_>, parts: &[Id]) -> Option<String> {
    let mut path = String::new();
    for part in parts {
        let part = arena.text(*part)?;
        if part.starts_with('/') {
            path.clear();
        } else if !path.is_empty() && !path.ends_with('/') {
            path.push('/');
        }
        path.push_str(part);
    }
    Some(path)
}
