//! Whose a queued task instance is: the rule of the intake (`scheduler-bridge/src/airflow/intake.rs`), in words.

use super::facts::{Scheduler, TaskFacts};

/// Who will run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Windlass.
    Ours,
    /// `queued_by_job_id` is NULL.
    Nobody,
    /// The job that queued it never registered.
    Unregistered {
        /// Which job.
        job: i64,
    },
    /// It asks for another executor, or its scheduler's default is another one.
    Other {
        /// As in the row, or what stands for NULL.
        executor: String,
    },
}

/// Decides for a row that is or was queued.
pub fn whose(task: &TaskFacts, schedulers: &[Scheduler]) -> Whose {
    let Some(job) = task.queued_by else { return Whose::Nobody };
    let Some(scheduler) = schedulers.iter().find(|s| s.job_id == job) else {
        return Whose::Unregistered { job };
    };
    match &task.executor {
        Some(name) if scheduler.executor_names.contains(name) => Whose::Ours,
        Some(name) => Whose::Other { executor: name.clone() },
        None if scheduler.is_default => Whose::Ours,
        None => Whose::Other { executor: format!("the default of scheduler {job}") },
    }
}
