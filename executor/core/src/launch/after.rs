//! Once the outcome is decided: store it, remove what is left of the pod, close. `Settling`, `Settled`, `Closing`.

use super::{Action, Fact, Launch, PodLeft, PodStanding, Policy, Stage, classify};
use crate::cluster::{DeleteAnswer, GetAnswer};
use crate::ids::PodUid;
use crate::pod_view::PodView;
use crate::store::LaunchChange;
use crate::task::TaskView;
use crate::time::Millis;

impl Launch {
    pub(super) fn after(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        match fact {
            Fact::Saved => self.saved(now, policy),
            Fact::PodSeen(view) if self.is_other_pod(&view) => self.in_doubt(now, policy),
            Fact::PodSeen(view) | Fact::GetAnswered(GetAnswer::Found(Some(view))) => {
                self.left_seen(&view, now, policy)
            }
            Fact::PodDeleted(uid) => self.left_deleted(&uid, now, policy),
            Fact::GetAnswered(GetAnswer::Found(None) | GetAnswer::Gone) => self.left_gone(now, policy),
            Fact::DeleteAnswered(answer) => self.delete_answered(&answer, now, policy),
            Fact::TaskSeen(view) => self.begun(&view),
            Fact::Tick => self.overdue_after(now, policy),
            // A gap may have hidden its end.
            Fact::PodNotListed => self.left_unlisted(now),
            Fact::GetAnswered(GetAnswer::Failed { .. })
            | Fact::Claimed
            | Fact::Turn
            | Fact::SpecRead(_)
            | Fact::TurnBack(_)
            | Fact::PodNoted(_)
            | Fact::CreateAnswered(_)
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
        let lands_by = self.lands_by;
        let Stage::Settled { left, asked } = &mut self.stage else { return Vec::new() };
        let attempt = self.attempt;
        let action = match left {
            PodLeft::Nothing => return self.close(now),
            // It stays and holds the name, unless somebody has removed it and a create landed since.
            PodLeft::Over { failed, .. } if !policy.deletes(*failed) => match lands_by {
                None => return self.close(now),
                Some(by) if now < by => {
                    *asked = Some(now);
                    return Vec::new();
                }
                Some(_) => Action::GetPod,
            },
            PodLeft::Started { .. } => {
                *asked = None;
                return Vec::new();
            }
            PodLeft::Doubt | PodLeft::Waiting { deleting: true, .. } => Action::GetPod,
            // While it is there, it holds the name against a create that may still land.
            PodLeft::Over { .. } if lands_by.is_some_and(|by| now < by) => {
                *asked = Some(now);
                return Vec::new();
            }
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
            PodStanding::Started => PodLeft::Started { uid: view.uid.clone(), began: self.began() },
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
                let kept = matches!(seen, PodLeft::Over { failed, .. } if !policy.deletes(failed));
                let news = kind(left) != kind(&seen) || asked.is_none() || kept;
                let deleting = matches!(seen, PodLeft::Waiting { deleting: true, .. });
                *left = seen;
                if news && !deleting { self.clear_away(now, policy) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn began(&self) -> bool {
        match &self.stage {
            Stage::Settling { left, .. } | Stage::Settled { left, .. } => {
                matches!(left, PodLeft::Started { began: true, .. })
            }
            _ => false,
        }
    }

    fn left_unlisted(&mut self, now: Millis) -> Vec<Action> {
        match &mut self.stage {
            Stage::Settled { asked: asked @ None, .. } => {
                *asked = Some(now);
                vec![Action::GetPod]
            }
            _ => Vec::new(),
        }
    }

    fn left_deleted(&mut self, gone: &PodUid, now: Millis, policy: &Policy) -> Vec<Action> {
        match self.uid() {
            Some(uid) if uid == gone => self.known_gone(now, policy),
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

    /// The pod that was known is gone. Whether another has its name, or may yet have it, only a GET tells.
    fn known_gone(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        if self.lands_by.is_none() {
            return self.left_gone(now, policy);
        }
        self.in_doubt(now, policy)
    }

    fn in_doubt(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        if let Stage::Settling { left, .. } | Stage::Settled { left, .. } = &mut self.stage {
            *left = PodLeft::Doubt;
        }
        self.clear_away(now, policy)
    }

    fn delete_answered(&mut self, answer: &DeleteAnswer, now: Millis, policy: &Policy) -> Vec<Action> {
        let sure = self.lands_by.is_none();
        let Stage::Settled { left, asked } = &mut self.stage else { return Vec::new() };
        match (answer, left) {
            (DeleteAnswer::Gone, _) => self.known_gone(now, policy),
            // It ended: it can start nothing any more, and the API server will see it out.
            (DeleteAnswer::Accepted, PodLeft::Over { .. }) if sure => self.close(now),
            (DeleteAnswer::Accepted, left @ PodLeft::Over { .. }) => {
                *left = PodLeft::Doubt;
                self.clear_away(now, policy)
            }
            // An unbound pod is gone with the answer, a bound one when its kubelet says so: the watch or a GET tells.
            (DeleteAnswer::Accepted, PodLeft::Waiting { deleting, .. }) => {
                *deleting = true;
                *asked = Some(now);
                vec![Action::GetPod]
            }
            (DeleteAnswer::Moved, PodLeft::Waiting { .. }) => {
                *asked = Some(now);
                vec![Action::GetPod]
            }
            // Repeated when overdue.
            (DeleteAnswer::Accepted | DeleteAnswer::Moved | DeleteAnswer::Failed { .. }, _) => Vec::new(),
        }
    }

    /// The row tells whether a body has begun in the pod that still runs: no other will (I11).
    fn begun(&mut self, view: &TaskView) -> Vec<Action> {
        let begins_here = self.is_host(view);
        if let Stage::Settling { left, .. } | Stage::Settled { left, .. } = &mut self.stage
            && let PodLeft::Started { began, .. } = left
        {
            *began |= begins_here;
        }
        Vec::new()
    }

    fn overdue_after(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        let again = self.asks_again(now, policy);
        match &mut self.stage {
            Stage::Settling { outcome, asked, .. } if again(*asked) => {
                *asked = now;
                vec![Action::Save(LaunchChange::Settle { outcome: outcome.clone() })]
            }
            Stage::Settled { asked, .. } if asked.is_none_or(&again) => self.clear_away(now, policy),
            Stage::Closing { asked } if again(*asked) => self.close(now),
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
