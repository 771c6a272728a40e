//! Once the outcome is decided: store it, remove what is left of the pod, close. `Settling`, `Settled`, `Closing`.

use super::{Action, Fact, Launch, PodLeft, PodStanding, Policy, Stage, classify};
use crate::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use crate::ids::PodUid;
use crate::pod_view::PodView;
use crate::store::LaunchChange;
use crate::task::{TaskState, TaskView};
use crate::time::Millis;

impl Launch {
    pub(super) fn after(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        match fact {
            Fact::Saved => self.saved(now, policy),
            Fact::PodSeen(view)
            | Fact::GetAnswered(GetAnswer::Found(Some(view)))
            | Fact::CreateAnswered(CreateAnswer::Created(view) | CreateAnswer::Adopted(view)) => {
                self.left_seen(&view, now, policy)
            }
            Fact::PodDeleted(uid) => self.left_deleted(&uid, now, policy),
            Fact::GetAnswered(GetAnswer::Found(None) | GetAnswer::Gone) => self.left_gone(now, policy),
            Fact::DeleteAnswered(answer) => self.delete_answered(&answer, now, policy),
            Fact::TaskSeen(view) => self.caught(&view, now),
            Fact::Tick => self.overdue_after(now, policy),
            Fact::GetAnswered(GetAnswer::Failed { .. })
            | Fact::Claimed
            | Fact::Turn
            | Fact::SpecRead(_)
            | Fact::CreateAnswered(_)
            | Fact::PodNotListed
            | Fact::Refused(_) => Vec::new(),
        }
    }

    fn saved(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        match &self.stage {
            Stage::Settling { left, .. } => {
                self.stage = Stage::Settled { left: left.clone(), asked: None };
                self.clear_away(now, policy)
            }
            Stage::Closing { .. } => {
                self.stage = Stage::Closed;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Asks for the next step that removes what is left, or closes.
    fn clear_away(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        let Stage::Settled { left, asked } = &mut self.stage else { return Vec::new() };
        let attempt = self.attempt;
        let action = match left {
            PodLeft::Nothing => return self.close(now),
            PodLeft::Over { failed, .. } if !policy.deletes(*failed) => return self.close(now),
            PodLeft::Started { caught: false, .. } => {
                *asked = None;
                return Vec::new();
            }
            PodLeft::Started { caught: true, .. } => Action::ReadTask,
            PodLeft::Doubt | PodLeft::Waiting { deleting: true, .. } => Action::GetPod,
            PodLeft::Over { uid, .. } => {
                Action::DeletePod { uid: uid.clone(), resource_version: None, attempt }
            }
            PodLeft::Waiting { uid, resource_version, .. } => {
                // Loaded after a restart, the state that was judged is not known: look first.
                if resource_version.is_empty() {
                    Action::GetPod
                } else {
                    let resource_version = Some(resource_version.clone());
                    Action::DeletePod { uid: uid.clone(), resource_version, attempt }
                }
            }
        };
        *asked = Some(now);
        vec![action]
    }

    fn close(&mut self, now: Millis) -> Vec<Action> {
        self.stage = Stage::Closing { asked: now };
        vec![Action::Save(LaunchChange::Close)]
    }

    /// What is left of the pod has changed.
    fn left_seen(&mut self, view: &PodView, now: Millis, policy: &Policy) -> Vec<Action> {
        let seen = match classify(view, policy) {
            PodStanding::Ended(end) => {
                PodLeft::Over { uid: view.uid.clone(), failed: end != super::PodEnd::Succeeded }
            }
            PodStanding::Started => {
                PodLeft::Started { uid: view.uid.clone(), caught: !view.deleting && self.was_waiting() }
            }
            PodStanding::Waiting(_) | PodStanding::Stuck { .. } => PodLeft::Waiting {
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
                deleting: view.deleting,
            },
        };
        match &mut self.stage {
            Stage::Settling { left, .. } => {
                *left = seen;
                Vec::new()
            }
            // A delete under way answers for what it judged; asking twice for the same state brings nothing.
            Stage::Settled { left, asked } => {
                let news = kind(left) != kind(&seen) || asked.is_none();
                let deleting = matches!(seen, PodLeft::Waiting { deleting: true, .. });
                *left = seen;
                if news && !deleting { self.clear_away(now, policy) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn was_waiting(&self) -> bool {
        match &self.stage {
            Stage::Settling { left, .. } | Stage::Settled { left, .. } => {
                matches!(
                    left,
                    PodLeft::Waiting { .. } | PodLeft::Doubt | PodLeft::Started { caught: true, .. }
                )
            }
            _ => false,
        }
    }

    fn left_deleted(&mut self, gone: &PodUid, now: Millis, policy: &Policy) -> Vec<Action> {
        match self.uid() {
            Some(uid) if uid == gone => self.left_gone(now, policy),
            _ => Vec::new(),
        }
    }

    fn left_gone(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        match &mut self.stage {
            Stage::Settling { left, .. } => {
                *left = PodLeft::Nothing;
                Vec::new()
            }
            Stage::Settled { left, .. } => {
                *left = PodLeft::Nothing;
                self.clear_away(now, policy)
            }
            _ => Vec::new(),
        }
    }

    fn delete_answered(&mut self, answer: &DeleteAnswer, now: Millis, policy: &Policy) -> Vec<Action> {
        let Stage::Settled { left, asked } = &mut self.stage else { return Vec::new() };
        match (answer, left) {
            (DeleteAnswer::Gone, left) => {
                *left = PodLeft::Nothing;
                self.clear_away(now, policy)
            }
            // It ended: it can start nothing any more, and the API server will see it out.
            (DeleteAnswer::Accepted, PodLeft::Over { .. }) => self.close(now),
            // An unbound pod is gone with the answer, a bound one when its kubelet says so: the watch or a GET tells.
            (DeleteAnswer::Accepted, PodLeft::Waiting { deleting, .. }) => {
                *deleting = true;
                *asked = Some(now);
                vec![Action::GetPod]
            }
            (DeleteAnswer::Accepted, PodLeft::Started { caught, .. }) => {
                *caught = false;
                *asked = None;
                Vec::new()
            }
            (DeleteAnswer::Moved, PodLeft::Waiting { .. }) => {
                *asked = Some(now);
                vec![Action::GetPod]
            }
            // Repeated when overdue.
            (DeleteAnswer::Accepted | DeleteAnswer::Moved | DeleteAnswer::Failed { .. }, _) => Vec::new(),
        }
    }

    /// It started while it was being withdrawn. If the task runs in it, it belongs to the newer queueing now (I11).
    fn caught(&mut self, view: &TaskView, now: Millis) -> Vec<Action> {
        let name = &self.pod.name;
        let Stage::Settled { left: PodLeft::Started { uid, caught: caught @ true }, asked } = &mut self.stage
        else {
            return Vec::new();
        };
        let runs_here = view.row.as_ref().is_some_and(|row| {
            row.state == TaskState::Running
                && row.hostname.as_deref().is_none_or(|host| host.starts_with(name.as_str()))
        });
        if runs_here {
            *caught = false;
            *asked = None;
            return Vec::new();
        }
        *asked = Some(now);
        vec![Action::DeletePod { uid: uid.clone(), resource_version: None, attempt: self.attempt }]
    }

    fn overdue_after(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        let overdue = |asked: &Millis| now.since(*asked) >= policy.answer_ms;
        match &mut self.stage {
            Stage::Settling { outcome, asked, .. } if overdue(asked) => {
                *asked = now;
                vec![Action::Save(LaunchChange::Settle { outcome: outcome.clone() })]
            }
            Stage::Settled { asked, .. } if asked.as_ref().is_none_or(overdue) => {
                self.clear_away(now, policy)
            }
            Stage::Closing { asked } if overdue(asked) => self.close(now),
            _ => Vec::new(),
        }
    }
}

/// Which variant: two looks of the same kind need the same step.
fn kind(left: &PodLeft) -> u8 {
    match left {
        PodLeft::Nothing => 0,
        PodLeft::Doubt => 1,
        PodLeft::Waiting { .. } => 2,
        PodLeft::Started { .. } => 3,
        PodLeft::Over { .. } => 4,
    }
}
