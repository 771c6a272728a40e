//! What may be mended from outside while a leader works, and why that is safe.
//!
//! Each repair is one guarded write that stays right whatever the leader does meanwhile: its condition, once true,
//! never becomes false again, and the write itself checks it. So no repair needs the term (I4 fences writes that
//! depend on being the only writer; these do not).

use std::fmt;

use serde::Serialize;

use crate::ids::{LaunchId, PodRef, PodUid};

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Deletes a pod that no node has, of a launch whose outcome is stored or of an attempt that was given up.
    ///
    /// Safe: an outcome once stored never changes and attempts only grow, so the pod stays unwanted (I3: the outcome
    /// is committed before the delete). The delete carries uid and resourceVersion: a pod that nobody has bound runs
    /// nothing, and binding it moves the resourceVersion, so the delete then meets 409 and does nothing. A leader that
    /// deletes it at the same time meets 404, which is what it wants. A bound pod is left to the leader: its kubelet
    /// may have started the worker and not told yet.
    DeleteUnboundPod {
        /// Which.
        pod: PodRef,
        /// Precondition.
        uid: PodUid,
        /// Precondition.
        resource_version: String,
    },
    /// Deletes a pod that has ended, whose launch is closed (or purged, and its task is no live queueing), where
    /// delete_worker_pods and delete_worker_pods_on_failure say so.
    ///
    /// Safe: what has ended starts nothing again (workers have restartPolicy Never; the resourceVersion shows that
    /// nothing has changed since the look), its outcome is committed (I3), and no leader waits for it: closed launches
    /// are forgotten. A pod of a live queueing without a launch is not touched: its end is all that is known.
    DeleteEndedPod {
        /// Which.
        pod: PodRef,
        /// Precondition.
        uid: PodUid,
        /// Precondition.
        resource_version: String,
    },
    /// Sets `delivered_at` of an outcome that its task instance does not wait for any more.
    ///
    /// Safe: it is what any scheduler does after a minute. The statement itself compares the rows: the task instance
    /// is gone, of another queueing, or in no state that belongs to an executor. A queueing that is over never comes
    /// back (a new one has another queued_dttm), so nothing is left to deliver (I3, I6). Airflow's rows are only read
    /// (I5), the leader never writes this column, and a row that somebody has locked is skipped.
    MarkDelivered {
        /// Which.
        launch: LaunchId,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteUnboundPod { pod, .. } => write!(f, "delete pod {pod}, which is bound to no node"),
            Self::DeleteEndedPod { pod, .. } => write!(f, "delete pod {pod}, which has ended"),
            Self::MarkDelivered { launch } => write!(f, "mark the outcome of launch {launch} as delivered"),
        }
    }
}
