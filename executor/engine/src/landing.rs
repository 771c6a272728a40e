//! Creates that nobody waits for any more may land for a while (`Launch::lands_by`), and nothing of their tasks may begin
//! elsewhere before (I11). That while is the API server's, and it is counted here by a clock that may jump ahead: a host
//! that was suspended, or set right. So while anything may land, the clock is looked at often, and a step that is longer
//! than the looks are apart does not count.

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

/// The longest step of the clock that counts. The wait is a quarter longer than a create may take
/// ([`Policy::landing_ms`]): one jump that is not noticed takes half of that.
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
        let passed = now.since(self.seen);
        let waits = self.seen < self.until;
        self.seen = now;
        if !waits || passed <= step_ms {
            return None;
        }
        self.until = self.until.plus(passed);
        Some(passed)
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
    fn a_step_that_nobody_saw_pass_does_not_count_while_something_may_land() {
        let mut landing = Landing { until: Millis(0), seen: Millis(1_000) };
        assert_eq!(landing.look(Millis(60_000), 100), None, "nothing may land");
        landing.note(Some(Millis(61_000)));
        assert_eq!(landing.look(Millis(60_100), 100), None, "a usual step");
        assert_eq!(landing.look(Millis(60_201), 100), Some(101));
        assert_eq!(landing.look(Millis(60_300), 100), None);
        assert_eq!(landing.until, Millis(61_101));
        assert_eq!(landing.look(Millis(90_000), 100), Some(29_700), "past the end, in one step");
    }
}
