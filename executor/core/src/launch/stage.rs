//! Where a launch stands, with what is true there and nowhere else.

use std::sync::Arc;

use super::{Doom, PodEnd, PodLeft};
use crate::ids::PodUid;
use crate::outcome::Outcome;
use crate::pod_view::{Branch, PodView};
use crate::task::TaskSpec;
use crate::time::Millis;

/// Where a launch stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// The row is asked for; nothing is durable yet.
    Claiming {
        /// What to run, unless it is to be read again before the create.
        spec: Option<Arc<TaskSpec>>,
        /// When the INSERT was asked for.
        asked: Millis,
    },
    /// Durable, wants its pod; waits for its turn (pacing, barrier I11).
    Ready {
        /// What to run, if it is at hand.
        spec: Option<Arc<TaskSpec>>,
        /// No create of this attempt was ever asked for. With the spec at hand the row need not be read again either.
        untried: bool,
        /// Back-off.
        not_before: Millis,
        /// Creates that came to nothing so far; sets the back-off.
        failures: u32,
    },
    /// Has its turn. Before a create that may be the second one the pod is asked for: the first create may have landed,
    /// and a second one on its way could land once that pod is gone. Then the row is read again, in this order: a row
    /// read before could be from before a body that began and ended in that pod.
    Checking {
        /// When asked.
        asked: Millis,
        /// As in `Ready`.
        untried: bool,
        /// As in `Ready`.
        failures: u32,
        /// There is no pod; the row is being read.
        gone: bool,
    },
    /// The create is under way.
    Creating {
        /// What to run: kept for the next try.
        spec: Arc<TaskSpec>,
        /// When asked.
        asked: Millis,
        /// As in `Ready`.
        failures: u32,
        /// What the watch showed meanwhile. The answer says whether it is of this create.
        seen: Option<Box<PodView>>,
    },
    /// The API server has the pod.
    Alive(Alive),
    /// The pod ended, went, or will never start; the row is being read again to know what that means.
    Judging {
        /// What became of the pod.
        end: PodEnd,
        /// What is left of it.
        left: PodLeft,
        /// When asked.
        asked: Millis,
    },
    /// The pod was lost before the task began; the next attempt is being stored.
    Relaunching {
        /// Why, for people.
        why: String,
        /// The lost pod's object, if it is to go once the next attempt is stored (I3); with the resourceVersion that was
        /// judged, where that counts.
        remove: Option<(PodUid, Option<String>)>,
        /// How long the next attempt waits, in milliseconds.
        pause_ms: u64,
        /// When asked.
        asked: Millis,
    },
    /// The outcome is being stored.
    Settling {
        /// It.
        outcome: Outcome,
        /// What is left of the pod.
        left: PodLeft,
        /// When asked.
        asked: Millis,
    },
    /// The outcome is stored; what is left of the pod is being removed.
    Settled {
        /// What is left of the pod.
        left: PodLeft,
        /// What was asked for, if anything.
        asked: Option<Millis>,
    },
    /// The end is being stored.
    Closing {
        /// When asked.
        asked: Millis,
    },
    /// Nothing left to do.
    Closed,
}

/// A pod that the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Which.
    pub uid: PodUid,
    /// As last seen; empty before the first look after a restart.
    pub resource_version: String,
    /// Its worker's container has started.
    pub started: bool,
    /// Its worker has begun a body: the row has named this pod as the host. A worker begins one at most, so no other
    /// can begin in it (I11). Before that, a worker that is still starting up would take what the row offers.
    pub began: bool,
    /// Since when we know it.
    pub since: Millis,
    /// Since when its deletion is seen to be under way.
    pub deleting_since: Option<Millis>,
    /// Why it does not start, for people.
    pub waits_for: Option<String>,
    /// A GET is under way since then.
    pub asked: Option<Millis>,
    /// It was seen deleting, and only the row tells what to do after `Policy::unreachable_ms`.
    pub held: bool,
    /// Of its scheduling gate.
    pub gate: Opening,
    /// As last seen.
    pub branch: Branch,
    /// Since when it is bound and waits for its branch network interface.
    pub branch_since: Option<Millis>,
    /// What a controller said of it last.
    pub note: Option<String>,
    /// It is to go, and its going is not for people to wonder about.
    pub doom: Option<Doom>,
}

/// What was done about a pod's scheduling gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Nothing yet.
    Unasked,
    /// The whole pod was asked for then.
    Looking(Millis),
    /// Its opening was asked for then.
    Asked(Millis),
    /// It was seen without. A look that shows it again is an older one.
    Done,
}
