//! What a worker pod tells of its task, by the annotations and labels that Airflow's executors give it.

use serde::Deserialize;
use windlass_core::ids::TaskKey;

/// The SchedulerJob that looks after a pod (`KubernetesExecutor.adopt_launched_task`).
pub(crate) const LABEL_WORKER: &str = "airflow-worker";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    dag_id: Option<String>,
    task_id: Option<String>,
    run_id: Option<String>,
    map_index: Option<String>,
    try_number: Option<String>,
    /// [`windlass_core::pod::ANNOTATION_QUEUED_AT`]: on pods of Windlass alone.
    #[serde(rename = "windlass.dev/queued-at")]
    pub(crate) queued_at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Labels {
    /// [`LABEL_WORKER`].
    #[serde(rename = "airflow-worker")]
    pub(crate) worker: Option<String>,
}

impl Annotations {
    /// None: they do not say whose the pod is.
    pub(crate) fn task(&self) -> Option<TaskKey> {
        Some(TaskKey {
            dag_id: self.dag_id.clone()?,
            task_id: self.task_id.clone()?,
            run_id: self.run_id.clone()?,
            map_index: self.map_index.as_ref().map_or(Some(-1), |text| text.parse().ok())?,
        })
    }

    pub(crate) fn try_number(&self) -> Option<i32> {
        self.try_number.as_ref()?.parse().ok()
    }
}
