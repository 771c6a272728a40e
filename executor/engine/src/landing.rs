//! Creates that nobody waits for any more may land for a while (`Launch::lands_by`), and nothing of their tasks may begin
//! elsewhere before (I11). That while is the API server's, and it is counted here by a clock that may jump ahead: a host
//! that was suspended, or set right. So while anything may land, the clock is looked at often, and of a step that is
//! longer than the looks are apart no more counts than one between two looks: a host that is merely slow goes on too.

use windlass_core::launch::Policy;
use windlass_core::time::Millis;

use crate::Engine;

/// What may land, and how far its time has been seen to pass.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    /// Of all launches, the latest.
    until: Millis,
    seen: Millis,
}

/// What counts of a step at most. The wait is a quarter longer than a create may take ([`Policy::landing_ms`]): a jump
/// takes half of that.
fn step_ms(policy: &Policy) -> u64 {
    policy.create_ms / 8
}

impl Landing {
    /// A create may land until then.
    pub(crate) fn note(&mut self, by: Option<Millis>) {
        self.until = self.until.max(by.unwrap_or_default());
    }

    /// Looks at the clock. Returns the time that passed unseen, if anything may still land.
    fn look(&mut self, now: Millis, step_ms: u64) -> Option<u64> {
        let unseen = now.since(self.seen).saturating_sub(step_ms);
        let waits = self.seen < self.until;
        self.seen = now;
        if !waits || unseen == 0 {
            return None;
        }
        self.until = self.until.plus(unseen);
        Some(unseen)
    }

    /// When to look again. Twice as often as must be: to be woken late is nothing strange.
    pub(crate) fn wake_at(&self, now: Millis, policy: &Policy) -> Option<Millis> {
        (now < self.until).then(|| now.plus(step_ms(policy) / 2))
    }
}

impl Engine {
    /// Before anything is decided by `now`.
    pub(crate) fn look_at_clock(&mut self, now: Millis) {
        let seen = self.reign.landing.seen;
        let Some(unseen) = self.reign.landing.look(now, step_ms(&self.policy)) else { return };
        let waits = |by: Option<Millis>| by.is_some_and(|by| by > seen);
        if let Some(recovery) = self.reign.recovery.as_mut().filter(|recovery| recovery.next > seen) {
            recovery.next = recovery.next.plus(unseen);
        }
        let waiting = self.reign.book.iter().filter(|launch| waits(launch.lands_by));
        for id in waiting.map(|launch| launch.id.clone()).collect::<Vec<_>>() {
            if let Some(launch) = self.reign.book.get_mut(&id) {
                launch.lands_by = launch.lands_by.map(|by| by.plus(unseen));
            }
            self.file(&id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_step_that_nobody_saw_pass_little_counts_while_something_may_land() {
        let mut landing = Landing { until: Millis(0), seen: Millis(1_000) };
        assert_eq!(landing.look(Millis(60_000), 100), None, "nothing may land");
        landing.note(Some(Millis(61_000)));
        assert_eq!(landing.look(Millis(60_100), 100), None, "a usual step");
        assert_eq!(landing.look(Millis(60_400), 100), Some(200));
        assert_eq!(landing.look(Millis(60_500), 100), None);
        assert_eq!(landing.until, Millis(61_200));
        assert_eq!(landing.look(Millis(90_000), 100), Some(29_400), "past the end, in one step");
    }
}
