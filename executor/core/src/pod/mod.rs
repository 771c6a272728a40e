//! From a task to its pod.

use crate::ids::{Attempt, LaunchId};

/// Name of the pod of one attempt.
pub fn pod_name(dag_id: &str, task_id: &str, launch: &LaunchId, attempt: Attempt) -> String {
    format!("{dag_id}-{task_id}-{}", launch.name_suffix(attempt))
}
