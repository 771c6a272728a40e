//! A database that lost commits: it failed over to a replica that was behind. Pods may exist whose launches it no longer
//! knows, and the next queueing of their tasks would not be barred by them (I11). So such a term first asks for launches
//! of all pods, once no create of an earlier term can land any more, and creates nothing before. The renewal that an
//! earlier leader trusts in may be lost too: it is given a whole lease.

use windlass_core::ids::Epoch;
use windlass_core::launch::Fact;
use windlass_core::store::LaunchRow;
use windlass_core::time::Millis;

use crate::command::Ask;
use crate::{Engine, Open};

/// What is still to be done of it.
#[derive(Debug)]
pub(crate) struct Recovery {
    next: Millis,
    asked: bool,
}

impl Engine {
    /// A term that may have lost commits begins.
    pub(crate) fn must_recover(&mut self, now: Millis) {
        let next = now.plus(self.settings.lease_ms).plus(self.policy.landing_ms());
        self.reign.recovery = Some(Recovery { next, asked: false });
    }

    pub(crate) fn send_recovery(&mut self, epoch: Epoch, now: Millis) {
        if let Some(recovery) = &mut self.reign.recovery
            && !recovery.asked
            && now >= recovery.next
        {
            recovery.asked = true;
            self.command(Ask::Recover { epoch }, Open::Recover);
        }
    }

    pub(crate) fn recovered(&mut self, answer: Result<Option<Vec<LaunchRow>>, String>, now: Millis) {
        match answer {
            Ok(Some(rows)) => {
                self.reign.recovery = None;
                let unknown = |row: &LaunchRow| self.reign.book.get(&row.launch).is_none();
                for row in rows.into_iter().filter(unknown).collect::<Vec<_>>() {
                    self.counters.recovered += 1;
                    let id = row.launch.clone();
                    self.adopt(row, now);
                    // What the watch showed of it before is gone.
                    self.tell(&id, Fact::PodNotListed, now);
                }
            }
            Ok(None) => self.lose(now),
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
