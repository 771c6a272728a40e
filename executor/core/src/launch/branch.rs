//! A pod whose rule demands security groups: it cannot start before its branch network interface is there, and must not
//! run without it.
//!
//! The VPC resource controller makes the interface after the pod is bound, and drops the job for good when it fails five
//! times, or once where its caches lag. Nothing says so: the pod waits in ContainerCreating. A new pod is a new job.

use super::{Action, Alive, Launch, PodEnd, Policy, Stage};
use crate::cluster::{DeleteAnswer, PodNote};
use crate::outcome::Reason;
use crate::pod_view::{Branch, PodView};
use crate::time::Millis;

/// The controller's event, as a warning: no policy matches the pod any more, so its interface gets the groups of the node.
const GROUPS_REQUESTED: &str = "SecurityGroupRequested";

/// Why a pod is removed before it ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doom {
    /// Code.
    pub reason: Reason,
    /// One sentence.
    pub why: String,
    /// When its deletion was asked for.
    pub asked: Millis,
}

impl Doom {
    /// What its end says. That it went, or was killed, was our doing.
    fn end(&self, end: PodEnd) -> PodEnd {
        let exit_code = match end {
            PodEnd::Failed { exit_code, .. } => exit_code,
            PodEnd::Gone | PodEnd::Succeeded => None,
            PodEnd::Stuck { .. } | PodEnd::Unfit { .. } | PodEnd::Unreachable | PodEnd::Never => return end,
        };
        let (reason, message) = (self.reason, self.why.clone());
        PodEnd::Failed { reason, message, exit_code, container_reason: String::new() }
    }
}

impl Alive {
    /// When its patience with the controller ends.
    pub(super) fn branch_by(&self, policy: &Policy) -> Option<Millis> {
        let waits = self.doom.is_none() && !self.started && self.deleting_since.is_none();
        self.branch_since.filter(|_| waits && policy.branch_ms > 0).map(|since| since.plus(policy.branch_ms))
    }

    /// What it waits for, for people.
    pub(super) fn with_branch(&self, why: Option<String>, view: &PodView) -> Option<String> {
        if view.branch != Branch::Awaited || !view.bound {
            return why;
        }
        let said = self.note.as_ref().map_or(String::new(), |note| format!(": {note}"));
        Some(format!("its branch network interface{said}"))
    }

    /// The controller had its time.
    pub(super) fn no_branch(&self, policy: &Policy) -> String {
        let said = self.note.as_ref().map_or(String::new(), |note| format!("; last said: {note}"));
        let waited = policy.branch_ms / 1000;
        format!("the pod got no branch network interface within {waited} s of its binding to a node{said}")
    }
}

impl Launch {
    /// Its interface, as the pod shows it.
    pub(super) fn look_at_branch(&mut self, view: &PodView, now: Millis) -> Vec<Action> {
        let Stage::Alive(alive) = &mut self.stage else { return Vec::new() };
        alive.branch = view.branch.clone();
        match &view.branch {
            Branch::Awaited if view.bound => {
                alive.branch_since.get_or_insert(now);
            }
            Branch::NotDemanded | Branch::Awaited => alive.branch_since = None,
            // In the last moment: its deletion does not meet it as it was judged.
            Branch::Attached => {
                alive.branch_since = None;
                alive.doom.take_if(|doom| doom.reason == Reason::NoBranchInterface);
            }
            // What runs with another identity is stopped at once, whatever it does.
            Branch::Bypassed { why } if !view.deleting && alive.doom.is_none() => {
                return self.doom(Reason::IdentityMissing, why.clone(), now);
            }
            Branch::Bypassed { .. } => {}
        }
        Vec::new()
    }

    /// A controller warns.
    pub(super) fn noted(&mut self, note: PodNote, now: Millis) -> Vec<Action> {
        let Stage::Alive(alive) = &mut self.stage else { return Vec::new() };
        if alive.uid != note.uid || alive.branch == Branch::NotDemanded {
            return Vec::new();
        }
        let said = format!("{}: {}", note.reason, note.message);
        if note.reason == GROUPS_REQUESTED && alive.doom.is_none() {
            let why = format!(
                "it gets its node's security groups, as no SecurityGroupPolicy matches it now ({said})"
            );
            return self.doom(Reason::IdentityMissing, why, now);
        }
        alive.note = Some(said);
        Vec::new()
    }

    /// The pod is not who it should be, or will not be: it goes.
    pub(super) fn doom(&mut self, reason: Reason, why: String, now: Millis) -> Vec<Action> {
        let Stage::Alive(alive) = &mut self.stage else { return Vec::new() };
        alive.doom = Some(Doom { reason, why, asked: now });
        vec![self.remove_doomed()].into_iter().flatten().collect()
    }

    /// One that waits goes only as it was judged: it may start at any moment.
    pub(super) fn remove_doomed(&self) -> Option<Action> {
        let Stage::Alive(alive) = &self.stage else { return None };
        let as_judged = alive.doom.as_ref()?.reason == Reason::NoBranchInterface;
        let resource_version = as_judged.then(|| alive.resource_version.clone());
        Some(Action::DeletePod { uid: alive.uid.clone(), resource_version, attempt: self.attempt })
    }

    /// Of a pod that is doomed. One that moved is judged anew.
    pub(super) fn doomed_answered(&mut self, answer: &DeleteAnswer, now: Millis) -> Vec<Action> {
        let Stage::Alive(alive) = &mut self.stage else { return Vec::new() };
        match answer {
            DeleteAnswer::Moved if alive.doom.is_some() => {
                alive.doom = None;
                alive.branch_since = None;
                self.ask_for_pod(now)
            }
            DeleteAnswer::Gone if alive.doom.is_some() => self.ask_for_pod(now),
            _ => Vec::new(),
        }
    }

    /// What an end means that was our doing.
    pub(super) fn as_doomed(&self, end: PodEnd) -> PodEnd {
        match &self.stage {
            Stage::Alive(Alive { doom: Some(doom), .. }) => doom.end(end),
            _ => end,
        }
    }
}
