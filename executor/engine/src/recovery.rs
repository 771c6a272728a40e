//! A database that lost commits: it failed over to a replica that was behind. Pods may exist whose launches it no longer
//! knows, or of an attempt that it does not know, and the next queueing of their tasks would not be barred by them (I11).
//! So such a term begins with launches made again from all pods, in the place of the usual load, once no create of an
//! earlier term can land any more. The renewal that an earlier leader trusts in may be lost too: it is given a whole
//! lease. Nothing is decided before, also of launches that are known: their rows may be behind their pods.

use windlass_core::ids::Epoch;
use windlass_core::store::LaunchRow;
use windlass_core::time::Millis;

use crate::command::Ask;
use crate::{Engine, Open};

/// What is still to be done of it.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) next: Millis,
    asked: bool,
}

impl Engine {
    /// A term that may have lost commits begins.
    pub(crate) fn must_recover(&mut self, now: Millis) {
        let next = now.plus(self.settings.lease_ms).plus(self.policy.landing_ms());
        // Counted from now on: this term has not looked before.
        self.look_at_clock(now);
        self.reign.landing.note(Some(next));
        self.reign.recovery = Some(Recovery { next, asked: false });
    }

    /// What a term begins with.
    pub(crate) fn send_load(&mut self, epoch: Epoch, now: Millis) {
        let asked = self.reign.count_open(|open| matches!(open, Open::Load)) > 0;
        match &mut self.reign.recovery {
            None if !asked => self.command(Ask::Load { epoch }, Open::Load),
            Some(recovery) if !recovery.asked && now >= recovery.next => {
                recovery.asked = true;
                self.command(Ask::Recover { epoch }, Open::Recover);
            }
            _ => {}
        }
    }

    pub(crate) fn recovered(&mut self, answer: Result<Option<(u64, Vec<LaunchRow>)>, String>, now: Millis) {
        match answer {
            Ok(found) => {
                self.reign.recovery = None;
                self.counters.recovered += found.as_ref().map_or(0, |(made, _)| *made);
                self.loaded(Ok(found.map(|(_, rows)| rows)), now);
            }
            Err(error) => {
                self.counters.note_error("recovery", &error);
                let next = now.plus(self.settings.retry_ms);
                self.reign.recovery = Some(Recovery { next, asked: false });
            }
        }
    }

    pub(crate) fn recovery_wake_at(&self) -> Option<Millis> {
        self.reign.recovery.as_ref().filter(|recovery| !recovery.asked).map(|recovery| recovery.next)
    }
}
