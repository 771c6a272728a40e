//! How many creates may be in flight: latency first, refusals second (adaptive concurrency).
//!
//! The API server's priority and fairness queues before it rejects: from 32 to 128 creates in flight the rate grew by
//! 24 % and the latency threefold (measured on two cores). So the window grows while the latency stays near its best
//! and shrinks when it does not, well before a 429.

use std::collections::BTreeMap;

use windlass_core::time::Millis;

/// Creates in flight at the start of a term.
const FIRST_WINDOW: f64 = 8.0;
/// The window never falls below: one slow answer must not stop everything.
const LEAST_WINDOW: f64 = 2.0;
/// Grow below this multiple of the best latency, shrink above `SHRINK_OVER`; between, stay.
const GROW_UNDER: f64 = 4.0;
const SHRINK_OVER: f64 = 8.0;
/// A best latency below this is taken as this, in milliseconds: it is not the API server's health but an idle network
/// and an idle machine. With 5, creates on two cores that answered one call in 3 ms were held at 16 in flight, where 32
/// gave 20 % more; 120 ms (8 times this) is far from what an API server rejects at.
const LATENCY_FLOOR: f64 = 15.0;
/// The best latency forgets: one lucky answer must not be the measure for ever.
const BEST_DECAY: f64 = 1.002;

#[derive(Debug)]
pub(crate) struct Pacing {
    window: f64,
    max: f64,
    best_ms: f64,
    /// No create before this (429).
    pause_until: Millis,
    /// One 429 is answered once, not once for each create that was in flight with it.
    backed_off: Millis,
    /// Namespaces without quota, or not ready, until when they are left alone.
    holds: BTreeMap<String, Millis>,
    /// Namespaces that are not ready.
    unready: BTreeMap<String, Unready>,
}

#[derive(Clone, Copy, Debug)]
struct Unready {
    since: Millis,
    /// When that was last said.
    said: Millis,
}

/// A namespace of which nothing was heard for so long, in milliseconds, is unready anew.
const UNREADY_FORGOTTEN: u64 = 60_000;

impl Pacing {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            window: FIRST_WINDOW.min(f64::from(max)),
            max: f64::from(max),
            best_ms: f64::MAX,
            pause_until: Millis(0),
            backed_off: Millis(0),
            holds: BTreeMap::new(),
            unready: BTreeMap::new(),
        }
    }

    pub(crate) fn window(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 2 and u32 max")]
        let whole = self.window as u32;
        whole
    }

    pub(crate) fn open(&self, in_flight: usize, now: Millis) -> bool {
        now >= self.pause_until && in_flight < self.window() as usize
    }

    pub(crate) fn succeeded(&mut self, took_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one call")]
        let took = (took_ms as f64).max(LATENCY_FLOOR);
        self.best_ms = (self.best_ms * BEST_DECAY).min(took);
        let ratio = took / self.best_ms;
        if ratio < GROW_UNDER {
            self.window = (self.window + 1.0 / self.window).min(self.max);
        } else if ratio > SHRINK_OVER {
            self.window = (self.window - 0.5).max(LEAST_WINDOW);
        }
    }

    /// 429, or no answer: half, and a pause.
    pub(crate) fn overloaded(&mut self, retry_after_ms: Option<u64>, now: Millis, retry_ms: u64) {
        let pause = retry_after_ms.unwrap_or(retry_ms);
        self.pause_until = self.pause_until.max(now.plus(pause));
        if now >= self.backed_off {
            self.window = (self.window / 2.0).max(LEAST_WINDOW);
            self.backed_off = self.pause_until;
        }
    }

    pub(crate) fn hold(&mut self, namespace: &str, until: Millis) {
        self.holds.insert(namespace.to_owned(), until);
    }

    /// Said again: for how long it is so, in milliseconds.
    pub(crate) fn unready_for(&mut self, namespace: &str, now: Millis) -> u64 {
        let known = self.unready.get(namespace).filter(|known| now.since(known.said) < UNREADY_FORGOTTEN);
        let since = known.map_or(now, |known| known.since);
        self.unready.insert(namespace.to_owned(), Unready { since, said: now });
        now.since(since)
    }

    pub(crate) fn namespace_is_ready(&mut self, namespace: &str) {
        self.unready.remove(namespace);
    }

    pub(crate) fn held(&self, namespace: &str, now: Millis) -> bool {
        self.holds.get(namespace).is_some_and(|until| now < *until)
    }

    /// When the next pause or hold ends.
    pub(crate) fn next_end(&self, now: Millis) -> Option<Millis> {
        self.holds.values().copied().chain([self.pause_until]).filter(|until| *until > now).min()
    }

    /// Namespaces that wait for quota, or until they are ready.
    pub(crate) fn held_namespaces(&self, now: Millis) -> Vec<String> {
        self.holds.iter().filter(|(_, until)| **until > now).map(|(namespace, _)| namespace.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_on_steady_latency_and_shrinks_before_any_refusal() {
        let mut pacing = Pacing::new(32);
        for _ in 0..1_000 {
            pacing.succeeded(6);
        }
        assert_eq!(pacing.window(), 32);
        for _ in 0..40 {
            pacing.succeeded(150);
        }
        assert!(pacing.window() < 16, "{}", pacing.window());
    }

    #[test]
    fn one_storm_of_429_halves_once_and_honours_retry_after() {
        let mut pacing = Pacing::new(32);
        for _ in 0..8 {
            pacing.overloaded(Some(3_000), Millis(100), 500);
        }
        assert_eq!(pacing.window(), 4);
        assert!(!pacing.open(0, Millis(3_099)) && pacing.open(0, Millis(3_100)));
        assert_eq!(pacing.next_end(Millis(200)), Some(Millis(3_100)));
    }

    #[test]
    fn a_full_namespace_is_held_alone() {
        let mut pacing = Pacing::new(32);
        pacing.hold("etl", Millis(50));
        assert!(
            pacing.held("etl", Millis(49))
                && !pacing.held("etl", Millis(50))
                && !pacing.held("ml", Millis(0))
        );
    }

    #[test]
    fn a_namespace_is_unready_since_it_was_first_said_until_a_create_is_taken_or_nothing_is_heard() {
        let mut pacing = Pacing::new(32);
        assert_eq!(pacing.unready_for("etl", Millis(1_000)), 0);
        assert_eq!(pacing.unready_for("etl", Millis(60_999)), 59_999);
        assert_eq!(pacing.unready_for("ml", Millis(61_000)), 0, "each for itself");
        pacing.namespace_is_ready("etl");
        assert_eq!(pacing.unready_for("etl", Millis(62_000)), 0);
        assert_eq!(pacing.unready_for("etl", Millis(62_000 + UNREADY_FORGOTTEN)), 0, "long ago");
    }
}
