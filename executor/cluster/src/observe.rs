//! What the daemon may count. This crate knows no metrics library.

use std::time::Duration;

use windlass_core::ids::PodRef;

/// What a call does, in the words of Kubernetes RBAC; `Review` is the preflight's access review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// POST of a pod.
    Create,
    /// GET by name.
    Get,
    /// GET of a container's log.
    Logs,
    /// GET of a collection.
    List,
    /// Start of a watch; its latency is the time until the answer's head.
    Watch,
    /// DELETE with preconditions.
    Delete,
    /// PATCH of labels, or of our scheduling gate.
    Patch,
    /// SelfSubjectAccessReview, `/version`, dry runs; the doctor's service accounts and their tokens.
    Review,
}

impl Verb {
    /// As metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Logs => "logs",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Watch => "watch",
            Self::Delete => "delete",
            Self::Review => "review",
        }
    }
}

/// Told of each call. Called on the path of every request: must not block.
pub trait Observer: Send + Sync + 'static {
    /// A call ended. `status` is `None` where no answer came (deadline, connection cut, nothing sent).
    fn call(&self, verb: Verb, status: Option<u16>, took: Duration);

    /// The watch met a pod with the installation's label whose launch or attempt cannot be read. It is left alone.
    fn skipped_pod(&self, pod: &PodRef) {
        let _ = pod;
    }

    /// A watch was opened again after it ended (time-out of the server, cut); `relist`: it had to start from a list.
    fn watch_restarted(&self, relist: bool) {
        let _ = relist;
    }
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn call(&self, _: Verb, _: Option<u16>, _: Duration) {}
}
