//! From the claim to the pod's existence: `Claiming`, `Ready`, `Checking`, `Creating`.

use std::sync::Arc;

use super::{Action, Fact, Launch, PodEnd, PodLeft, Policy, Stage, judge_unstarted};
use crate::cluster::{CreateAnswer, GetAnswer};
use crate::outcome::Outcome;
use crate::task::{TaskSpec, TaskView};
use crate::time::Millis;

impl Launch {
    pub(super) fn before(&mut self, fact: Fact, now: Millis, policy: &Policy) -> Vec<Action> {
        match fact {
            Fact::Claimed => self.claimed(now),
            Fact::Turn => self.turn(now),
            Fact::SpecRead(spec) => self.spec_read(spec, now),
            Fact::CreateAnswered(answer) => self.create_answered(answer, now, policy),
            Fact::PodSeen(view) => self.look(&view, now, policy),
            Fact::GetAnswered(GetAnswer::Found(Some(view))) => self.look(&view, now, policy),
            Fact::TaskSeen(view) => self.taken_back_before(&view, now),
            Fact::Tick => self.overdue_before(now, policy),
            // Answers to questions of an earlier stage, late and harmless.
            Fact::PodDeleted(_)
            | Fact::PodNotListed
            | Fact::GetAnswered(_)
            | Fact::DeleteAnswered(_)
            | Fact::Saved
            | Fact::Refused(_) => Vec::new(),
        }
    }

    fn claimed(&mut self, now: Millis) -> Vec<Action> {
        if let Stage::Claiming { spec, .. } = &self.stage {
            let spec = Some(spec.clone());
            self.stage = Stage::Ready { spec, untried: true, not_before: now, failures: 0 };
        }
        Vec::new()
    }

    fn turn(&mut self, now: Millis) -> Vec<Action> {
        let Stage::Ready { spec, untried, failures, .. } = &self.stage else { return Vec::new() };
        let failures = *failures;
        match spec {
            Some(spec) if *untried => self.create(spec.clone(), failures, now),
            _ => {
                self.stage = Stage::Checking { asked: now, failures };
                vec![Action::ReadSpec]
            }
        }
    }

    fn create(&mut self, spec: Arc<TaskSpec>, failures: u32, now: Millis) -> Vec<Action> {
        self.stage = Stage::Creating { spec, asked: now, failures };
        vec![Action::Create]
    }

    fn spec_read(&mut self, spec: Option<Arc<TaskSpec>>, now: Millis) -> Vec<Action> {
        let Stage::Checking { failures, .. } = self.stage else { return Vec::new() };
        match spec {
            Some(spec) => self.create(spec, failures, now),
            None => self.judge(PodEnd::Never, PodLeft::Doubt, now),
        }
    }

    fn create_answered(&mut self, answer: CreateAnswer, now: Millis, policy: &Policy) -> Vec<Action> {
        match &answer {
            // Sent before now, so it lands within its server-side timeout from now.
            CreateAnswer::Unknown { .. } => self.may_land_until(now.plus(policy.create_ms)),
            _ => self.answered = now,
        }
        let Stage::Creating { .. } = self.stage else {
            // Given up before; whether it landed, the next look at the pod tells.
            return match answer {
                CreateAnswer::Created(view) | CreateAnswer::Adopted(view) => self.look(&view, now, policy),
                _ => Vec::new(),
            };
        };
        match answer {
            CreateAnswer::Created(view) | CreateAnswer::Adopted(view) => self.look(&view, now, policy),
            CreateAnswer::Refused { reason, message } => {
                self.settle(Outcome::failure(reason, message), PodLeft::Nothing, now)
            }
            CreateAnswer::NameTaken { .. }
            | CreateAnswer::QuotaFull { .. }
            | CreateAnswer::Unknown { .. } => self.create_failed(now, policy),
            CreateAnswer::TooManyRequests { retry_after_ms } => {
                let actions = self.create_failed(now, policy);
                if let Stage::Ready { not_before, .. } = &mut self.stage {
                    *not_before = now.plus(retry_after_ms.unwrap_or(policy.backoff_ms));
                }
                actions
            }
        }
    }

    /// Nothing was created, or it is not known: again later, after reading the row.
    fn create_failed(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        if let Stage::Creating { failures, .. } = self.stage {
            let not_before = now.plus(policy.backoff(failures));
            self.stage = Stage::Ready { spec: None, untried: false, not_before, failures: failures + 1 };
        }
        Vec::new()
    }

    /// Withdrawn while it waited. A create under way is let end first: its answer says what there is to remove.
    fn taken_back_before(&mut self, view: &TaskView, now: Millis) -> Vec<Action> {
        let left = match &self.stage {
            Stage::Ready { untried: true, .. } => PodLeft::Nothing,
            Stage::Ready { untried: false, .. } | Stage::Checking { .. } => PodLeft::Doubt,
            _ => return Vec::new(),
        };
        match judge_unstarted(self, view) {
            Some(outcome) => self.settle(outcome, left, now),
            None => Vec::new(),
        }
    }

    fn overdue_before(&mut self, now: Millis, policy: &Policy) -> Vec<Action> {
        match &mut self.stage {
            Stage::Checking { asked, .. } if now.since(*asked) >= policy.answer_ms => {
                *asked = now;
                vec![Action::ReadSpec]
            }
            Stage::Creating { asked, .. } if now.since(*asked) >= policy.create_ms + policy.answer_ms => {
                self.may_land_until(now.plus(policy.create_ms));
                self.create_failed(now, policy)
            }
            _ => Vec::new(),
        }
    }
}
