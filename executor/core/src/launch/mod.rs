//! The state machine of one launch: facts in, actions out.
//!
//! ```text
//!  Claiming -> Ready -> (Checking) -> Creating -> Alive -> Judging -> Settling -> Settled -> Closing -> Closed
//!                ^  ^                     |         |         |
//!                |  +---- not created ----+         |         +-- pod lost before the task began
//!                +---------------------------- Relaunching <--+
//! ```
//!
//! A launch is in exactly one stage and a stage holds only what is true in it. What may be lost on the way (an
//! answer, an event) is asked for again: each stage with an open question says by `wake_at` when. Nothing is decided
//! about a task instance from a pod alone: `Judging` re-reads the row first (`verdict`).

mod after;
mod alive;
mod before;
mod branch;
mod classify;
mod facts;
mod gate;
mod left;
mod policy;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;

pub use branch::Doom;
pub use classify::{PodEnd, PodStanding, classify};
pub use facts::{Action, Fact};
pub use left::PodLeft;
pub use policy::Policy;
pub use stage::{Alive, Opening, Stage};
pub use verdict::{Judgement, judge_end, judge_unstarted};

use crate::ids::{Attempt, LaunchId, PodRef, PodUid, Queueing};
use crate::pod_view::PodView;
use crate::store::{LaunchRow, QueuedTask, StoredStage};
use crate::task::BranchPool;
use crate::time::Millis;

/// Windlass's view of one queueing, from intake until nothing of it is left.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Which.
    pub id: LaunchId,
    /// Of what.
    pub queueing: Queueing,
    /// Current attempt.
    pub attempt: Attempt,
    /// Its pod's place and name.
    pub pod: PodRef,
    /// Higher is created first.
    pub priority_weight: i32,
    /// Owner of the task instance when it was seen.
    pub scheduler_job_id: i64,
    /// A GET that was begun before this proves no pod gone: a create was begun or answered then, or may have landed.
    pub answered: Millis,
    /// A create that was given up may still land until then.
    pub lands_by: Option<Millis>,
    /// Attempts whose pods admission had made unfit, of this term: nothing was lost with them, so they do not count against
    /// [`Policy::attempts_max`].
    pub unfit: u32,
    /// Nodes whose branch network interfaces its pod competes for; None: it needs none, or it is not known yet (after a
    /// restart, until what to run is read).
    pub branches: Option<BranchPool>,
    /// Where it stands.
    pub stage: Stage,
}

impl Launch {
    /// A queueing just seen: asks for its claim (the engine sends it).
    pub fn seen(task: &QueuedTask, now: Millis) -> Self {
        Self {
            id: task.launch.clone(),
            queueing: task.spec.queueing.clone(),
            attempt: Attempt::FIRST,
            pod: task.pod.clone(),
            priority_weight: task.spec.priority_weight,
            scheduler_job_id: task.spec.scheduler_job_id,
            answered: now,
            lands_by: None,
            unfit: 0,
            branches: task.spec.branches.clone(),
            stage: Stage::Claiming { spec: Some(task.spec.clone()), asked: now },
        }
    }

    /// A row that an earlier term left. What the cluster has of it is not known yet.
    pub fn found(row: LaunchRow, now: Millis) -> Self {
        let stage = match (row.stage, row.uid) {
            (StoredStage::Claimed, _) | (StoredStage::Created | StoredStage::Running, None) => {
                Stage::Ready { spec: None, untried: false, not_before: now, failures: 0 }
            }
            (stage @ (StoredStage::Created | StoredStage::Running), Some(uid)) => {
                Stage::Alive(Alive::new(uid, String::new(), stage == StoredStage::Running, now))
            }
            (StoredStage::Settled, _) => Stage::Settled { left: PodLeft::Doubt, asked: None },
            (StoredStage::Closed, _) => Stage::Closed,
        };
        Self {
            id: row.launch,
            queueing: row.queueing,
            attempt: row.attempt,
            pod: row.pod,
            priority_weight: row.priority_weight,
            scheduler_job_id: row.scheduler_job_id,
            answered: now,
            lands_by: None,
            unfit: 0,
            branches: None,
            stage,
        }
    }

    /// A create of this launch was begun that nobody waits for any more: by a process that is gone, or it was given up.
    /// The API server ends it by itself until `by`.
    pub fn may_land_until(&mut self, by: Millis) {
        self.lands_by = self.lands_by.max(Some(by));
        // One create at a time: the next one waits until the one before cannot land any more.
        if let Stage::Ready { untried: false, not_before, .. } = &mut self.stage {
            *not_before = by.max(*not_before);
        }
    }

    /// A GET that was begun after that time was answered: what it showed is what there is. One that was begun before, and is
    /// answered later, proves nothing: the create may have landed in between.
    pub fn landed(&mut self) {
        if let Some(by) = self.lands_by.take() {
            self.answered = self.answered.max(by);
        }
    }

    /// Whether a GET begun at `asked` that found nothing proves that there is no pod and that none can come any more.
    pub fn proves_gone(&self, asked: Millis) -> bool {
        asked >= self.answered && self.lands_by.is_none_or(|by| asked >= by)
    }

    /// Takes one fact and returns what to do.
    pub fn apply(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        if let Fact::PodSeen(view) = &fact
            && (view.attempt != self.attempt || view.pod != self.pod)
        {
            return self.other_attempt(view, policy);
        }
        if let Fact::Refused(row) = fact {
            return self.refused(row, now, policy);
        }
        match &self.stage {
            Stage::Claiming { .. }
            | Stage::Ready { .. }
            | Stage::Checking { .. }
            | Stage::Creating { .. } => self.before(fact, now, policy),
            Stage::Alive(_) | Stage::Judging { .. } | Stage::Relaunching { .. } => {
                self.alive(fact, now, policy)
            }
            Stage::Settling { .. } | Stage::Settled { .. } | Stage::Closing { .. } => {
                self.after(fact, now, policy)
            }
            Stage::Closed => Vec::new(),
        }
    }

    /// When to come back with `Tick`, if nothing happens before.
    pub fn wake_at(&self, policy: &Policy) -> Option<Millis> {
        let answer_by = |asked: &Millis| Some(self.ask_again_at(*asked, policy));
        match &self.stage {
            // The engine repeats claims as a batch.
            Stage::Claiming { .. } | Stage::Closed => None,
            Stage::Ready { not_before, .. } => Some(*not_before),
            Stage::Checking { asked, .. }
            | Stage::Relaunching { asked, .. }
            | Stage::Settling { asked, .. }
            | Stage::Closing { asked } => answer_by(asked),
            Stage::Judging { asked, .. } => Some(asked.plus(policy.reread_ms)),
            Stage::Creating { asked, .. } => Some(asked.plus(policy.create_ms + policy.answer_ms)),
            Stage::Alive(alive) => alive.wake_at(self.lands_by, policy),
            Stage::Settled { asked, left } => match (asked, left) {
                (Some(asked), _) => answer_by(asked),
                (None, PodLeft::Started { .. }) => None,
                (None, _) => Some(Millis(0)),
            },
        }
    }

    /// A question asked at `asked` is asked again then. One about the pod gets no proof before `lands_by`.
    fn ask_again_at(&self, asked: Millis, policy: &Policy) -> Millis {
        ask_again_at(asked, self.lands_by, policy.answer_ms)
    }

    /// Whether a question asked then is to be asked again now: by the same rule as `wake_at`, so that each waking finds
    /// something to do.
    fn asks_again(&self, now: Millis, policy: &Policy) -> impl Fn(Millis) -> bool + use<> {
        let (lands_by, answer_ms) = (self.lands_by, policy.answer_ms);
        move |asked| now >= ask_again_at(asked, lands_by, answer_ms)
    }

    /// Barrier I11: whether a task body of this launch could still begin.
    pub fn may_still_start(&self) -> bool {
        match &self.stage {
            Stage::Claiming { .. }
            | Stage::Ready { .. }
            | Stage::Checking { .. }
            | Stage::Creating { .. }
            | Stage::Relaunching { .. } => true,
            Stage::Alive(alive) => !alive.began,
            Stage::Judging { left, .. } | Stage::Settling { left, .. } | Stage::Settled { left, .. } => {
                left.may_still_start() || self.lands_by.is_some()
            }
            Stage::Closing { .. } | Stage::Closed => false,
        }
    }

    /// Whether it may have a pod: its create was asked for at least once.
    pub fn is_tried(&self) -> bool {
        let untried = matches!(
            self.stage,
            Stage::Claiming { .. }
                | Stage::Ready { untried: true, .. }
                | Stage::Checking { untried: true, .. }
        );
        !untried
    }

    /// The watch shows a pod that is not the one known. It may be behind or ahead: only a GET tells.
    fn is_other_pod(&self, view: &PodView) -> bool {
        match (self.uid(), &self.stage) {
            (Some(known), _) => *known != view.uid,
            (None, Stage::Judging { end, .. }) => *end != PodEnd::Never,
            (None, _) => false,
        }
    }

    /// The uid of the pod, where one is known.
    pub fn uid(&self) -> Option<&PodUid> {
        match &self.stage {
            Stage::Alive(alive) => Some(&alive.uid),
            Stage::Judging { left, .. } | Stage::Settling { left, .. } | Stage::Settled { left, .. } => {
                match left {
                    PodLeft::Waiting { uid, .. }
                    | PodLeft::Started { uid, .. }
                    | PodLeft::Over { uid, .. } => Some(uid),
                    PodLeft::Nothing | PodLeft::Doubt => None,
                }
            }
            _ => None,
        }
    }

    /// A pod of an attempt that was given up. It must not start; once it has ended it goes as the policy says.
    fn other_attempt(&self, view: &PodView, policy: &Policy) -> Vec<Action> {
        let resource_version = match classify(view, policy) {
            _ if view.deleting || view.attempt > self.attempt => return Vec::new(),
            PodStanding::Waiting(_) | PodStanding::Stuck { .. } => Some(view.resource_version.clone()),
            PodStanding::Ended(end) if policy.deletes(end != PodEnd::Succeeded) => None,
            PodStanding::Ended(_) | PodStanding::Started => return Vec::new(),
        };
        vec![Action::DeletePod { uid: view.uid.clone(), resource_version, attempt: view.attempt }]
    }

    /// What the intake read of its row may be old by the time of its create, and is read again then: another pod of its
    /// key may have run the body meanwhile.
    pub fn read_before_create(&mut self) {
        if let Stage::Claiming { spec, .. } | Stage::Ready { spec, .. } = &mut self.stage {
            *spec = None;
        }
    }

    /// A guarded write found the row elsewhere. If that is where the write led, an earlier answer was lost.
    fn refused(&mut self, row: LaunchRow, now: Millis, policy: &Policy) -> Vec<Action> {
        let arrived = match &self.stage {
            Stage::Settling { .. } => row.stage == StoredStage::Settled,
            Stage::Relaunching { .. } => {
                row.stage == StoredStage::Claimed && row.attempt == self.attempt.next()
            }
            Stage::Closing { .. } => row.stage == StoredStage::Closed,
            // Progress that is refused is behind the row or ahead of nothing: the row is not taken back.
            _ => return Vec::new(),
        };
        if arrived {
            return self.apply(Fact::Saved, now, policy);
        }
        let lands_by = self.lands_by;
        *self = Self::found(row, now);
        if let Some(by) = lands_by {
            self.may_land_until(by);
        }
        self.apply(Fact::Tick, now, policy)
    }
}

fn ask_again_at(asked: Millis, lands_by: Option<Millis>, answer_ms: u64) -> Millis {
    let overdue = asked.plus(answer_ms);
    lands_by.filter(|by| asked < *by).map_or(overdue, |by| overdue.min(by))
}
