//! What the cluster is asked for, and what it answers. The Kubernetes client and the simulator both speak this.

use crate::ids::{PodRef, PodUid};
use crate::outcome::Reason;
use crate::pod_view::PodView;

/// Answer to the create of one attempt's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateAnswer {
    /// 201.
    Created(Box<PodView>),
    /// 409 AlreadyExists, and a GET showed a pod with our launch id and attempt: adopt it.
    Adopted(Box<PodView>),
    /// 409 AlreadyExists, and that pod is not ours, or is terminating: wait and create again.
    NameTaken {
        /// What stands in the way.
        why: String,
    },
    /// Nothing was created and nothing will be by asking again: the launch fails.
    Refused {
        /// Code.
        reason: Reason,
        /// The API server's or the renderer's words.
        message: String,
    },
    /// 403 by a ResourceQuota (or 409 Conflict of its admission): this namespace has no room now.
    QuotaFull {
        /// The API server's words.
        message: String,
    },
    /// 403 or 404 of the whole namespace that tends to pass by itself: it is being deleted, it is not there (yet), its
    /// `default` service account or our Role is not. Nothing was created.
    NamespaceNotReady {
        /// The API server's words, and the remedy if it does not pass.
        message: String,
    },
    /// No pod could be made to be sent: what makes it is away, or a choice is missing. Nothing of it is the task's fault,
    /// and the whole namespace is held back.
    NotMade {
        /// What is missing, and the remedy.
        why: String,
    },
    /// Nothing was sent: what this pod needs of the cluster is not there (yet), or not as its rule demands it. Fails if
    /// it stays so.
    NotYet {
        /// Code.
        reason: Reason,
        /// What is missing, and the remedy.
        why: String,
    },
    /// 429, or APF rejected it: everything slows down.
    TooManyRequests {
        /// From `Retry-After`.
        retry_after_ms: Option<u64>,
    },
    /// Not known whether it was created (time-out, connection cut, 5xx).
    Unknown {
        /// For the log and `status`.
        error: String,
    },
}

/// Answer to a GET by name without resourceVersion: the only read that says that a pod is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetAnswer {
    /// It exists. `None` in the view's place: a pod of that name that is not of this launch and attempt.
    Found(Option<Box<PodView>>),
    /// 404.
    Gone,
    /// No answer.
    Failed {
        /// For the log and `status`.
        error: String,
    },
}

/// Answer to a DELETE with a uid (and resourceVersion) precondition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteAnswer {
    /// Accepted; it will go within its grace period.
    Accepted,
    /// 404, or 409 because another pod has the name: the pod of that uid is gone.
    Gone,
    /// 409 because the resourceVersion moved: judge again.
    Moved,
    /// No answer, or 5xx or 429.
    Failed {
        /// For the log and `status`.
        error: String,
    },
}

/// What a controller says of a pod in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNote {
    /// Whose.
    pub pod: PodRef,
    /// Which of that name.
    pub uid: PodUid,
    /// `BranchAllocationFailed`, ...
    pub reason: String,
    /// The controller's words.
    pub message: String,
}

/// One event of the pod watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// A pod as it is now.
    Seen(Box<PodView>),
    /// The object is gone; its last state.
    Deleted(Box<PodView>),
    /// A list is complete: these uids exist in the watched namespaces. What is missing is asked for by GET.
    Listed(Vec<PodUid>),
    /// The watch is down; it comes back by itself.
    Interrupted {
        /// For the log and `status`.
        error: String,
    },
}
