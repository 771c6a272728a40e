//! From the claim to the pod's existence: `Claiming`, `Ready`, `Checking`, `Creating`.

use std::sync::Arc;

use super::{Action, Fact, Launch, PodEnd, PodLeft, Policy, Stage, judge_unstarted};
use crate::cluster::{CreateAnswer, GetAnswer};
use crate::outcome::Outcome;
use crate::pod_view::PodView;
use crate::task::{BranchPool, TaskSpec, TaskView};
use crate::time::Millis;

impl Launch {
    pub(super) fn before(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        match fact {
            Fact::Claimed => self.claimed(now),
            Fact::Turn => self.turn(now),
            Fact::SpecRead(spec) => self.spec_read(spec, now),
            Fact::TurnBack(pool) => self.turn_back(pool, now),
            Fact::CreateAnswered(answer) => self.create_answered(answer, now, policy),
            Fact::PodSeen(view) => self.seen_before(view),
            Fact::GetAnswered(GetAnswer::Found(Some(view))) => self.found_before(view, now, policy),
            Fact::GetAnswered(GetAnswer::Found(None) | GetAnswer::Gone) => self.gone_before(now),
            Fact::TaskSeen(view) => self.taken_back_before(&view, now),
            Fact::Tick => self.overdue_before(now, policy),
            // Answers to questions of an earlier stage, late and harmless.
            Fact::PodDeleted(_)
            | Fact::PodNoted(_)
            | Fact::PodNotListed
            | Fact::GetAnswered(GetAnswer::Failed { .. })
            | Fact::DeleteAnswered(_)
            | Fact::Saved
            | Fact::Refused(_) => Vec::new(),
        }
    }

    fn claimed(&mut self, now: Millis) -> Vec<Action> {
        if let Stage::Claiming { spec, .. } = &self.stage {
            let spec = spec.clone();
            self.stage = Stage::Ready { spec, untried: true, not_before: now, failures: 0 };
        }
        Vec::new()
    }

    fn turn(&mut self, now: Millis) -> Vec<Action> {
        let Stage::Ready { spec, untried, failures, .. } = &self.stage else { return Vec::new() };
        let (failures, untried) = (*failures, *untried);
        match spec {
            Some(spec) if untried => self.create(spec.clone(), failures, now),
            _ => {
                self.stage = Stage::Checking { asked: now, untried, failures, gone: untried };
                vec![self.check()]
            }
        }
    }

    fn turn_back(&mut self, pool: BranchPool, now: Millis) -> Vec<Action> {
        self.branches = Some(pool);
        if let Stage::Checking { untried, failures, .. } = self.stage {
            self.stage = Stage::Ready { spec: None, untried, not_before: now, failures };
        }
        Vec::new()
    }

    fn create(&mut self, spec: Arc<TaskSpec>, failures: u32, now: Millis) -> Vec<Action> {
        // Turns come only when an earlier create cannot land any more.
        self.lands_by = None;
        self.answered = now;
        self.stage = Stage::Creating { spec, asked: now, failures, seen: None };
        vec![Action::Create]
    }

    /// The watch shows a pod of this attempt. It may lag behind and show one that went before the last create: while
    /// that create is under way its answer tells, else a GET.
    fn seen_before(&mut self, view: Box<PodView>) -> Vec<Action> {
        match &mut self.stage {
            Stage::Creating { seen, .. } => {
                *seen = Some(view);
                Vec::new()
            }
            _ => vec![Action::GetPod],
        }
    }

    fn found_before(&mut self, view: Box<PodView>, now: Millis, policy: &Policy) -> Vec<Action> {
        match self.stage {
            Stage::Creating { .. } => self.seen_before(view),
            _ => self.look(&view, now, policy),
        }
    }

    /// Nothing is there, and nothing is on its way: the engine lets only such answers through.
    fn gone_before(&mut self, now: Millis) -> Vec<Action> {
        match &mut self.stage {
            Stage::Checking { gone, asked, .. } if !*gone => {
                (*gone, *asked) = (true, now);
                vec![Action::ReadSpec]
            }
            _ => Vec::new(),
        }
    }

    /// The question that `Checking` asks now.
    fn check(&self) -> Action {
        match &self.stage {
            Stage::Checking { gone: false, .. } => Action::GetPod,
            _ => Action::ReadSpec,
        }
    }

    fn spec_read(&mut self, spec: Option<Arc<TaskSpec>>, now: Millis) -> Vec<Action> {
        // An answer that comes before the pod was found gone is of an earlier turn.
        let Stage::Checking { failures, gone: true, .. } = self.stage else { return Vec::new() };
        match spec {
            Some(spec) => {
                self.branches.clone_from(&spec.branches);
                self.create(spec, failures, now)
            }
            None => self.judge(PodEnd::Never, PodLeft::Doubt, now),
        }
    }

    fn create_answered(&mut self, answer: CreateAnswer, now: Millis, policy: &Policy) -> Vec<Action> {
        let Stage::Creating { seen, .. } = &mut self.stage else { return Vec::new() };
        let seen = seen.take();
        match &answer {
            // Sent before now, so it lands within its server-side timeout from now.
            CreateAnswer::Unknown { .. } => self.may_land_until(now.plus(policy.landing_ms())),
            _ => self.answered = now,
        }
        match answer {
            CreateAnswer::Created(view) | CreateAnswer::Adopted(view) => {
                let mut actions = self.look(&view, now, policy);
                // The watch was faster than the answer.
                if let Some(seen) = seen.filter(|seen| seen.uid == view.uid) {
                    actions.extend(self.apply(Fact::PodSeen(seen), now, policy));
                }
                return actions;
            }
            CreateAnswer::Refused { reason, message } => {
                let left = if seen.is_some() { PodLeft::Doubt } else { PodLeft::Nothing };
                return self.settle(Outcome::failure(reason, message), left, now);
            }
            CreateAnswer::NotYet { reason, why } if self.failures() >= policy.unfit_attempts_max => {
                let left = if seen.is_some() { PodLeft::Doubt } else { PodLeft::Nothing };
                return self.settle(Outcome::failure(reason, why), left, now);
            }
            CreateAnswer::NotYet { .. }
            | CreateAnswer::NameTaken { .. }
            | CreateAnswer::QuotaFull { .. }
            | CreateAnswer::NamespaceNotReady { .. }
            | CreateAnswer::NotMade { .. }
            | CreateAnswer::Unknown { .. } => self.create_failed(now, policy),
            CreateAnswer::TooManyRequests { retry_after_ms } => {
                self.create_failed(now, policy);
                if let Stage::Ready { not_before, .. } = &mut self.stage {
                    *not_before = now.plus(retry_after_ms.unwrap_or(policy.backoff_ms));
                }
            }
        }
        if seen.is_some() { vec![Action::GetPod] } else { Vec::new() }
    }

    fn failures(&self) -> u32 {
        if let Stage::Creating { failures, .. } = self.stage { failures } else { 0 }
    }

    /// Nothing was created, or it is not known: again later, after reading the row.
    fn create_failed(&mut self, now: Millis, policy: &Policy) {
        if let Stage::Creating { failures, .. } = self.stage {
            let not_before = now.plus(policy.backoff(failures)).max(self.lands_by.unwrap_or(now));
            self.stage = Stage::Ready { spec: None, untried: false, not_before, failures: failures + 1 };
        }
    }

    /// Withdrawn while it waited. A create under way is let end first: its answer says what there is to remove.
    fn taken_back_before(&mut self, view: &TaskView, now: Millis) -> Vec<Action> {
        let left = match &self.stage {
            Stage::Ready { untried: true, .. } | Stage::Checking { untried: true, .. } => PodLeft::Nothing,
            Stage::Ready { .. } | Stage::Checking { .. } => PodLeft::Doubt,
            _ => return Vec::new(),
        };
        match judge_unstarted(self, view) {
            // Its body ran in a pod that nobody saw start: the launch's next turn finds what is left of it.
            Some(_) if self.ran_here(view) => Vec::new(),
            Some(outcome) => self.settle(outcome, left, now),
            None => Vec::new(),
        }
    }

    fn overdue_before(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        let again = self.asks_again(now, policy);
        match &mut self.stage {
            Stage::Checking { asked, .. } if again(*asked) => {
                *asked = now;
                vec![self.check()]
            }
            Stage::Creating { asked, .. } if now.since(*asked) >= policy.create_ms + policy.answer_ms => {
                self.may_land_until(now.plus(policy.landing_ms()));
                self.create_failed(now, policy);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
