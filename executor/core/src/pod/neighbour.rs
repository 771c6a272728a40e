//! What a Python KubernetesExecutor of the same scheduler selects. All executors of a scheduler share its job id, so
//! in a hybrid one these selectors would match our pods too, and it would relabel or delete them.

use super::labels::safe_label_value;

/// Label (with the value `True`) that all of these selectors exclude.
pub const LABEL_EXECUTOR_DONE: &str = "airflow_executor_done";

/// Label selectors of the Python executor for one scheduler job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourSelectors {
    /// `KubernetesJobWatcher`: the raw job id.
    pub watch: String,
    /// `try_adopt_task_instances`: live pods of a dead scheduler (with `status.phase!=Succeeded`).
    pub adopt: String,
    /// `_adopt_completed_pods`: finished pods of any other scheduler (with `status.phase=Succeeded`).
    pub adopt_completed: String,
    /// `cleanup_stuck_queued_tasks`, which excludes nothing.
    pub stuck: String,
}

impl NeighbourSelectors {
    /// Those of the SchedulerJob `job_id`.
    pub fn of(job_id: &str) -> Self {
        let worker = safe_label_value(job_id);
        Self {
            watch: format!("airflow-worker={job_id},{LABEL_EXECUTOR_DONE}!=True"),
            adopt: format!("kubernetes_executor=True,airflow-worker={worker},{LABEL_EXECUTOR_DONE}!=True"),
            adopt_completed: format!(
                "kubernetes_executor=True,airflow-worker!={worker},{LABEL_EXECUTOR_DONE}!=True"
            ),
            stuck: format!("airflow-worker={worker}"),
        }
    }
}
