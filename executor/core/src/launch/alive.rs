//! While a pod exists, and when it no longer does: `Alive`, `Judging`, `Relaunching`.

use super::classify::code_of_wait;
use super::{Action, Alive, Fact, Judgement, Launch, Opening, PodEnd, PodLeft, PodStanding, Policy, Stage};
use super::{classify, judge_end, judge_unstarted};
use crate::cluster::GetAnswer;
use crate::ids::{Attempt, PodRef, PodUid};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pod_view::{Branch, PodView};
use crate::store::LaunchChange;
use crate::task::TaskView;
use crate::time::Millis;

impl Alive {
    pub(super) fn new(uid: PodUid, resource_version: String, started: bool, now: Millis) -> Self {
        Self {
            uid,
            resource_version,
            started,
            began: false,
            since: now,
            deleting_since: None,
            waits_for: None,
            asked: None,
            held: false,
            gate: Opening::Unasked,
            branch: Branch::NotDemanded,
            branch_since: None,
            note: None,
            doom: None,
        }
    }

    pub(super) fn wake_at(&self, lands_by: Option<Millis>, policy: &Policy) -> Option<Millis> {
        let answer = self.asked.map(|asked| super::ask_again_at(asked, lands_by, policy.answer_ms));
        let pending = (policy.pending_ms > 0 && !self.started).then(|| self.since.plus(policy.pending_ms));
        let unreachable = self.deleting_since.filter(|_| !self.held).map(|t| t.plus(policy.unreachable_ms));
        let opening = self.gate.asked().map(|asked| super::ask_again_at(asked, lands_by, policy.answer_ms));
        let doomed = self.doom.as_ref().filter(|_| self.deleting_since.is_none());
        let doomed = doomed.map(|doom| super::ask_again_at(doom.asked, lands_by, policy.answer_ms));
        [answer, pending, unreachable, opening, doomed, self.branch_by(policy)].into_iter().flatten().min()
    }

    fn left(&self) -> PodLeft {
        if self.started {
            PodLeft::Started { uid: self.uid.clone(), began: self.began }
        } else {
            let resource_version = self.resource_version.clone();
            PodLeft::Waiting {
                uid: self.uid.clone(),
                resource_version,
                deleting: self.deleting_since.is_some(),
            }
        }
    }
}

impl Launch {
    pub(super) fn alive(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        match fact {
            Fact::PodSeen(view) if self.is_other_pod(&view) => self.ask_for_pod(now),
            Fact::PodSeen(view) => self.look(&view, now, policy),
            Fact::GetAnswered(answer) => self.got(answer, now, policy),
            Fact::PodDeleted(uid) => self.deleted(&uid, now),
            Fact::PodNotListed => self.ask_for_pod(now),
            Fact::PodNoted(note) => self.noted(note, now),
            Fact::DeleteAnswered(answer) => self.doomed_answered(&answer, now),
            Fact::TaskSeen(view) => self.task_seen(&view, now, policy),
            Fact::Saved => self.relaunch_saved(now),
            Fact::Tick => self.overdue_alive(now, policy),
            Fact::Claimed
            | Fact::Turn
            | Fact::SpecRead(_)
            | Fact::TurnBack(_)
            | Fact::CreateAnswered(_)
            | Fact::Refused(_) => Vec::new(),
        }
    }

    /// The pod of the current attempt, as it is now. Called in every stage up to `Judging`.
    pub(super) fn look(&mut self, view: &PodView, now: Millis, policy: &Policy) -> Vec<Action> {
        let standing = classify(view, policy);
        if let Stage::Relaunching { .. } = self.stage {
            return Vec::new();
        }
        let another = self.is_other_pod(view);
        if let Stage::Judging { end, left, .. } = &mut self.stage {
            // The re-read is under way; what ended meanwhile is judged by it. A pod that turned out to exist after
            // all (its create had been given up) is followed again.
            match (standing, &end) {
                (PodStanding::Ended(ended), _) => {
                    *left = over(view, &ended);
                    *end = ended;
                    return Vec::new();
                }
                (PodStanding::Waiting(_) | PodStanding::Started, PodEnd::Never) => {}
                _ if another => {}
                _ => return Vec::new(),
            }
        }
        let mut actions = self.arrive(view, now);
        if let Some(end) = self.unfit(view) {
            actions.extend(self.judge(end, self.left_of(view), now));
            return actions;
        }
        actions.extend(self.look_at_gate(view, now));
        actions.extend(self.look_at_branch(view, now));
        match classify(view, policy) {
            PodStanding::Waiting(why) => {
                if let Stage::Alive(alive) = &mut self.stage {
                    alive.waits_for = alive.with_branch(why, view);
                }
            }
            PodStanding::Started => {
                if let Stage::Alive(alive) = &mut self.stage
                    && !alive.started
                {
                    alive.started = true;
                    alive.waits_for = None;
                    let change = LaunchChange::Running { attempt: self.attempt, uid: view.uid.clone() };
                    actions.push(Action::Save(change));
                }
            }
            // A container that cannot start while its pod is on its way out: its end is near.
            PodStanding::Stuck { .. } if view.deleting => {}
            PodStanding::Stuck { reason, message } => {
                let left = self.left_of(view);
                actions.extend(self.judge(PodEnd::Stuck { reason, message }, left, now));
            }
            PodStanding::Ended(end) => {
                let left = over(view, &end);
                actions.extend(self.judge(end, left, now));
            }
        }
        actions
    }

    /// Enters or refreshes `Alive`. The first look at a pod is stored.
    fn arrive(&mut self, view: &PodView, now: Millis) -> Vec<Action> {
        let known = matches!(&self.stage, Stage::Alive(alive) if alive.uid == view.uid);
        if !known {
            self.stage = Stage::Alive(Alive::new(view.uid.clone(), String::new(), false, now));
        }
        if let Stage::Alive(alive) = &mut self.stage {
            alive.resource_version.clone_from(&view.resource_version);
            alive.asked = None;
            if view.deleting {
                alive.deleting_since.get_or_insert(now);
            }
        }
        if known {
            return Vec::new();
        }
        vec![Action::Save(LaunchChange::Created { attempt: self.attempt, uid: view.uid.clone() })]
    }

    fn left_of(&self, view: &PodView) -> PodLeft {
        PodLeft::Waiting {
            uid: view.uid.clone(),
            resource_version: view.resource_version.clone(),
            deleting: view.deleting,
        }
    }

    /// The row is read, then `judge_end` says what it means.
    pub(super) fn judge(&mut self, end: PodEnd, left: PodLeft, now: Millis) -> Vec<Action> {
        let end = self.as_doomed(end);
        self.stage = Stage::Judging { end, left, asked: now };
        vec![Action::ReadTask]
    }

    /// The outcome is stored before anything is deleted (I3).
    pub(super) fn settle(&mut self, outcome: Outcome, left: PodLeft, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        if let PodLeft::Over { uid, .. } = &left
            && loses_its_log(&outcome)
        {
            actions.push(Action::KeepLog { uid: uid.clone() });
        }
        self.stage = Stage::Settling { outcome: outcome.clone(), left, asked: now };
        actions.push(Action::Save(LaunchChange::Settle { outcome }));
        actions
    }

    pub(super) fn ask_for_pod(&mut self, now: Millis) -> Vec<Action> {
        match &mut self.stage {
            Stage::Alive(alive) if alive.asked.is_none() => {
                alive.asked = Some(now);
                vec![Action::GetPod]
            }
            Stage::Judging { .. } => vec![Action::GetPod],
            _ => Vec::new(),
        }
    }

    /// The watch says it is gone; a GET makes sure (I11: lists and events alone decide nothing).
    fn deleted(&mut self, uid: &PodUid, now: Millis) -> Vec<Action> {
        match &mut self.stage {
            Stage::Alive(alive) if alive.uid == *uid => self.ask_for_pod(now),
            Stage::Judging { end, left, .. } => {
                let known = match left {
                    PodLeft::Waiting { uid, .. }
                    | PodLeft::Started { uid, .. }
                    | PodLeft::Over { uid, .. } => Some(&*uid),
                    PodLeft::Nothing | PodLeft::Doubt => None,
                };
                if known == Some(uid) {
                    if matches!(end, PodEnd::Stuck { .. } | PodEnd::Unreachable) {
                        *end = PodEnd::Gone;
                    }
                    *left = PodLeft::Nothing;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn got(&mut self, answer: GetAnswer, now: Millis, policy: &Policy) -> Vec<Action> {
        match answer {
            GetAnswer::Found(Some(view)) => self.look(&view, now, policy),
            GetAnswer::Found(None) | GetAnswer::Gone => match &mut self.stage {
                // Only an answer to a question asked in this stage counts: an older one may be of before the create.
                Stage::Alive(alive) if alive.asked.is_some() => {
                    self.judge(PodEnd::Gone, PodLeft::Nothing, now)
                }
                // It was given up while it was there, and what is judged is no longer so.
                Stage::Judging { end: end @ (PodEnd::Unreachable | PodEnd::Stuck { .. }), left, .. } => {
                    (*end, *left) = (PodEnd::Gone, PodLeft::Nothing);
                    vec![Action::ReadTask]
                }
                _ => Vec::new(),
            },
            // Asked again when `asked` is overdue.
            GetAnswer::Failed { .. } => Vec::new(),
        }
    }

    fn task_seen(&mut self, view: &TaskView, now: Millis, policy: &Policy) -> Vec<Action> {
        let begins_here = self.is_host(view);
        if let Stage::Alive(alive) = &mut self.stage {
            alive.began |= begins_here;
        }
        match &self.stage {
            // Where the row names this pod as the host it has started, whatever the watch has seen of it so far: its
            // end is waited for, as logs may still be uploaded from it.
            Stage::Alive(alive) if !alive.started && !begins_here => match judge_unstarted(self, view) {
                Some(outcome) => {
                    let outcome = with_wait(outcome, alive.waits_for.as_deref());
                    let left = alive.left();
                    self.settle(outcome, left, now)
                }
                None => Vec::new(),
            },
            Stage::Judging { end, left, .. } => {
                let (end, left) = (end.clone(), left.clone());
                match judge_end(self, &end, view, policy) {
                    Judgement::Settle(outcome) => self.settle(outcome, left, now),
                    // A create of this attempt may still land beside the next one's: the row is read again later.
                    Judgement::Relaunch(_) if self.lands_by.is_some() => {
                        if self.proves_gone(now) {
                            vec![Action::GetPod]
                        } else {
                            Vec::new()
                        }
                    }
                    Judgement::Relaunch(why) => self.relaunch(why, &left, now, policy),
                    Judgement::Wait if end == PodEnd::Never => vec![Action::GetPod],
                    Judgement::Wait => Vec::new(),
                    Judgement::StillWanted => {
                        let not_before = now.plus(policy.backoff_ms).max(self.lands_by.unwrap_or(now));
                        self.stage = Stage::Ready { spec: None, untried: false, not_before, failures: 1 };
                        Vec::new()
                    }
                }
            }
            _ => Vec::new(),
        }
    }

    /// The next attempt is stored before its pod is created and before the lost pod's object goes (I3).
    fn relaunch(&mut self, why: String, left: &PodLeft, now: Millis, policy: &Policy) -> Vec<Action> {
        // What stands behind its gate can start nothing and is of no use to anybody. If a person has opened it meanwhile,
        // it has another resourceVersion and stays.
        let unfit = matches!(self.stage, Stage::Judging { end: PodEnd::Unfit { .. }, .. });
        let remove = match left {
            PodLeft::Over { uid, .. } if policy.deletes(true) => Some((uid.clone(), None)),
            PodLeft::Waiting { uid, resource_version, .. } if unfit => {
                Some((uid.clone(), Some(resource_version.clone())))
            }
            _ => None,
        };
        let pause_ms = if unfit { policy.backoff(self.attempt.0 - 1) } else { 0 };
        self.unfit += u32::from(unfit);
        let save = self.save_relaunch(&why);
        self.stage = Stage::Relaunching { why, remove, pause_ms, asked: now };
        vec![save]
    }

    fn save_relaunch(&self, why: &str) -> Action {
        let attempt = self.attempt.next();
        Action::Save(LaunchChange::Relaunch { attempt, pod: self.pod_of(attempt), why: why.to_owned() })
    }

    /// Where the pod of `attempt` goes: the same namespace, the name of that attempt.
    fn pod_of(&self, attempt: Attempt) -> PodRef {
        let key = &self.queueing.key;
        let name = crate::pod::pod_name(&key.dag_id, &key.task_id, &self.id, attempt);
        PodRef { namespace: self.pod.namespace.clone(), name }
    }

    fn relaunch_saved(&mut self, now: Millis) -> Vec<Action> {
        let Stage::Relaunching { remove, pause_ms, .. } = &mut self.stage else { return Vec::new() };
        let (lost, attempt, not_before) = (remove.take(), self.attempt, now.plus(*pause_ms));
        self.attempt = attempt.next();
        self.pod = self.pod_of(self.attempt);
        // Nobody has used this name yet; the row is read again all the same.
        self.stage = Stage::Ready { spec: None, untried: true, not_before, failures: 0 };
        let delete = |(uid, resource_version)| Action::DeletePod { uid, resource_version, attempt };
        lost.map(delete).into_iter().collect()
    }

    fn overdue_alive(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        let again = self.asks_again(now, policy);
        match &mut self.stage {
            Stage::Alive(alive) => {
                if alive.gate.asked().is_some_and(&again) {
                    alive.gate = Opening::Looking(now);
                    return vec![Action::GetPod];
                }
                if alive.asked.is_some_and(&again) {
                    alive.asked = Some(now);
                    return vec![Action::GetPod];
                }
                if alive.deleting_since.is_none()
                    && let Some(doom) = alive.doom.as_mut().filter(|doom| again(doom.asked))
                {
                    doom.asked = now;
                    return self.remove_doomed().into_iter().collect();
                }
                if alive.branch_by(policy).is_some_and(|by| by <= now) {
                    let why = alive.no_branch(policy);
                    return self.doom(Reason::NoBranchInterface, why, now);
                }
                if policy.pending_ms > 0 && !alive.started && now.since(alive.since) >= policy.pending_ms {
                    let (end, left) = (too_long_pending(alive, policy), alive.left());
                    return self.judge(end, left, now);
                }
                let deleting = alive.deleting_since.is_some_and(|t| now.since(t) >= policy.unreachable_ms);
                if deleting && !alive.held {
                    alive.held = true;
                    let left = alive.left();
                    return self.judge(PodEnd::Unreachable, left, now);
                }
                Vec::new()
            }
            // What the row says hangs on the pod's end, and that of an unreachable one may have gone unseen.
            Stage::Judging { end, asked, .. } if now.since(*asked) >= policy.reread_ms => {
                *asked = now;
                match end {
                    PodEnd::Unreachable => vec![Action::ReadTask, Action::GetPod],
                    _ => vec![Action::ReadTask],
                }
            }
            Stage::Relaunching { why, asked, .. } if again(*asked) => {
                *asked = now;
                let why = why.clone();
                vec![self.save_relaunch(&why)]
            }
            _ => Vec::new(),
        }
    }
}

fn over(view: &PodView, end: &PodEnd) -> PodLeft {
    PodLeft::Over { uid: view.uid.clone(), failed: *end != PodEnd::Succeeded }
}

fn too_long_pending(alive: &Alive, policy: &Policy) -> PodEnd {
    let waited = policy.pending_ms / 1000;
    let why = alive.waits_for.as_deref().unwrap_or("its containers have not started");
    let reason = code_of_wait(why).unwrap_or(Reason::PendingTimeout);
    PodEnd::Stuck { reason, message: format!("the pod did not start within {waited} s: {why}") }
}

/// What the pod had been waiting for belongs into the story of a withdrawn launch.
fn with_wait(mut outcome: Outcome, waits_for: Option<&str>) -> Outcome {
    if let Some(why) = waits_for {
        outcome.message = format!("{}; its pod waited for: {why}", outcome.message);
    }
    outcome
}

/// Whether what the pod wrote is nowhere else: a worker that ended by itself has handed in the task's log.
fn loses_its_log(outcome: &Outcome) -> bool {
    outcome.kind == OutcomeKind::Failure && outcome.reason != Some(Reason::TaskFailed)
}
