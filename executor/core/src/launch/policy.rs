//! What an operator can set about a launch.

use std::collections::BTreeSet;

/// Limits and choices of the state machine. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods for one launch at most. `[kubernetes_executor] pod_launch_failure_retries` + 1.
    pub attempts_max: u32,
    /// Pods for one launch at most while a webhook that should give the pod its identity is silent.
    pub unfit_attempts_max: u32,
    /// A create that takes longer is given up. It is also the server's `?timeout=`.
    pub create_ms: u64,
    /// A question that is not answered for so long is asked again.
    pub answer_ms: u64,
    /// A row that says "wait" (the task runs, and its worker's heart beats) is read again after so long.
    pub reread_ms: u64,
    /// First pause after a create that came to nothing; doubles up to `backoff_max_ms`.
    pub backoff_ms: u64,
    /// Longest pause between creates of one launch.
    pub backoff_max_ms: u64,
    /// A pod that has not started for so long fails its launch. 0: never, then Airflow's `task_queued_timeout` rules.
    pub pending_ms: u64,
    /// A bound pod that waits for its branch network interface for so long is replaced. 0: never.
    pub branch_ms: u64,
    /// A pod that has been deleting for so long is on a node that may be lost: the worker's heartbeat decides.
    pub unreachable_ms: u64,
    /// `[kubernetes_executor] delete_worker_pods`.
    pub delete_pods: bool,
    /// `[kubernetes_executor] delete_worker_pods_on_failure`.
    pub delete_failed_pods: bool,
    /// `[kubernetes_executor] worker_pod_pending_fatal_container_state_reasons`.
    pub fatal_waiting: BTreeSet<String>,
    /// `[kubernetes_executor] pod_launch_failure_excluded_container_reasons`: a pod whose container failed so, before
    /// the task began, is not tried again.
    pub final_reasons: BTreeSet<String>,
}

impl Policy {
    /// Whether a pod that ended is deleted, as the Python executor decides it.
    pub fn deletes(&self, failed: bool) -> bool {
        self.delete_pods && (!failed || self.delete_failed_pods)
    }

    /// How long a create that nobody waits for any more may still land. A quarter more than its timeout: the API server
    /// counts by its own clock, and what it had sent to etcd by then may be committed after.
    pub fn landing_ms(&self) -> u64 {
        self.create_ms.saturating_add(self.create_ms / 4)
    }

    /// Pause after the `failures`-th create that came to nothing.
    pub fn backoff(&self, failures: u32) -> u64 {
        self.backoff_ms.saturating_mul(1 << failures.min(16)).min(self.backoff_max_ms)
    }
}

impl Default for Policy {
    /// The Python executor's defaults where it has them (provider cncf-kubernetes 10.25.0).
    fn default() -> Self {
        let fatal = [
            "CreateContainerConfigError",
            "ErrImagePull",
            "CreateContainerError",
            "ImageInspectError",
            "InvalidImageName",
        ];
        Self {
            attempts_max: 2,
            // With the back-off below half a minute: a webhook's cache that lags behind a new service account, or the
            // webhook's own restart.
            unfit_attempts_max: 7,
            create_ms: 2_000,
            answer_ms: 10_000,
            reread_ms: 5_000,
            backoff_ms: 500,
            backoff_max_ms: 30_000,
            pending_ms: 0,
            // A finished pod's interface is free after 60 to 90 s; a controller that works answers within that.
            branch_ms: 150_000,
            unreachable_ms: 120_000,
            delete_pods: true,
            delete_failed_pods: false,
            fatal_waiting: fatal.into_iter().map(str::to_owned).collect(),
            final_reasons: BTreeSet::from(["Error".to_owned()]),
        }
    }
}
