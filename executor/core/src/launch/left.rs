//! What a decided launch still has in the cluster.

use crate::ids::PodUid;

/// What is left of a pod once its launch is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodLeft {
    /// None exists and none can come.
    Nothing,
    /// A create may have landed: only a GET tells.
    Doubt,
    /// It exists and has not started.
    Waiting {
        /// Which.
        uid: PodUid,
        /// The state that was judged: a delete carries it, so that a start in between is noticed.
        resource_version: String,
        /// A delete was accepted; it is on its way out.
        deleting: bool,
    },
    /// Its worker's container runs: never deleted by us. The worker looks at the row itself; what it begins, it ends.
    Started {
        /// Which.
        uid: PodUid,
        /// As in `Alive`.
        began: bool,
    },
    /// All its containers ended.
    Over {
        /// Which.
        uid: PodUid,
        /// For the deletion policy.
        failed: bool,
    },
}

impl PodLeft {
    /// Whether a task body could still begin in it (I11).
    pub fn may_still_start(&self) -> bool {
        match self {
            Self::Doubt | Self::Waiting { .. } => true,
            Self::Started { began, .. } => !began,
            Self::Nothing | Self::Over { .. } => false,
        }
    }
}
