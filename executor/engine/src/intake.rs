//! When to look for work: the hand-over when woken, the full pass as ground truth, withdrawals while pods wait.

use std::collections::BTreeSet;

use windlass_core::ids::TaskKey;
use windlass_core::store::IntakePass;
use windlass_core::time::Millis;

use crate::settings::Settings;

/// One kind of look, at most one in flight.
#[derive(Debug, Default)]
struct Look {
    next: Millis,
    asked: Option<Millis>,
}

impl Look {
    fn start(&mut self, now: Millis, give_up_ms: u64) -> bool {
        let busy = self.asked.is_some_and(|asked| now.since(asked) < give_up_ms);
        if busy || now < self.next {
            return false;
        }
        self.asked = Some(now);
        true
    }

    /// The next one comes `period` after this one began, and not before `rest` times its duration has passed.
    fn end(&mut self, now: Millis, period: u64, rest: u64) {
        let began = self.asked.take().unwrap_or(now);
        self.next = began.plus(period).max(now.plus(now.since(began).saturating_mul(rest)));
    }

    fn wake_at(&self, give_up_ms: u64) -> Millis {
        self.asked.map_or(self.next, |asked| asked.plus(give_up_ms))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Intake {
    handover: Look,
    full: Look,
    withdrawn: Look,
    woken: bool,
    /// Keys of launches that were closed while a pass was under way.
    closed: BTreeSet<TaskKey>,
}

impl Intake {
    /// The plugin says that there is something.
    pub(crate) fn wake(&mut self) {
        self.woken = true;
        if self.handover.asked.is_none() {
            self.handover.next = Millis(0);
        }
    }

    /// A pass that is due.
    pub(crate) fn due(&mut self, now: Millis, settings: &Settings) -> Option<IntakePass> {
        if self.full.start(now, settings.answer_ms) {
            return Some(IntakePass::Full);
        }
        if self.handover.start(now, settings.answer_ms) {
            self.woken = false;
            return Some(IntakePass::Handover);
        }
        None
    }

    /// A pass was answered. `more`: it was full to its limit and brought something new.
    pub(crate) fn ended(&mut self, pass: IntakePass, more: bool, now: Millis, settings: &Settings) {
        match pass {
            IntakePass::Full => self.full.end(now, settings.full_pass_ms, settings.pass_rest),
            IntakePass::Handover => self.handover.end(now, settings.handover_ms, 0),
        }
        let look = if pass == IntakePass::Full { &mut self.full } else { &mut self.handover };
        if more || (pass == IntakePass::Handover && self.woken) {
            look.next = now;
        }
        if !self.under_way() {
            self.closed.clear();
        }
    }

    fn under_way(&self) -> bool {
        self.full.asked.is_some() || self.handover.asked.is_some()
    }

    /// A launch was closed. The pass under way may have read its row before the body in its pod began.
    pub(crate) fn closed(&mut self, key: &TaskKey) {
        if self.under_way() {
            self.closed.insert(key.clone());
        }
    }

    /// Whether a launch of this key was closed since the pass now answered began.
    pub(crate) fn closed_meanwhile(&self, key: &TaskKey) -> bool {
        self.closed.contains(key)
    }

    pub(crate) fn withdrawn_due(&mut self, now: Millis, settings: &Settings) -> bool {
        self.withdrawn.start(now, settings.answer_ms)
    }

    /// `more`: it was full and led to something. Those found now are seen again until their ends are stored, so the next
    /// look is not at once.
    pub(crate) fn withdrawn_ended(&mut self, more: bool, now: Millis, settings: &Settings) {
        self.withdrawn.end(now, settings.withdrawn_ms, settings.pass_rest);
        if more {
            self.withdrawn.next = now.plus(settings.save_gap_ms * 3);
        }
    }

    pub(crate) fn wake_at(&self, settings: &Settings) -> Millis {
        self.handover.wake_at(settings.answer_ms).min(self.full.wake_at(settings.answer_ms))
    }

    pub(crate) fn withdrawn_wake_at(&self, settings: &Settings) -> Millis {
        self.withdrawn.wake_at(settings.answer_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_found_as_much_as_it_could_is_followed_by_the_next_one_soon() {
        let (settings, mut intake) = (Settings::default(), Intake::default());
        for (more, next) in [(true, settings.save_gap_ms * 3), (false, settings.withdrawn_ms)] {
            let now = intake.withdrawn_wake_at(&settings);
            assert!(intake.withdrawn_due(now, &settings));
            intake.withdrawn_ended(more, now, &settings);
            assert_eq!(intake.withdrawn_wake_at(&settings), now.plus(next), "more: {more}");
        }
    }
}
