//! Errors of the running daemon, so that an operator sees them and a long outage does not fill the log.

use std::collections::BTreeMap;

use windlass_core::time::Millis;
use windlass_engine::Counters;

/// The same source is told again this long after the last time, in milliseconds.
const AGAIN_MS: u64 = 10_000;
/// An error is of the present for this long, in milliseconds: the slowest retry comes sooner.
const FRESH_MS: u64 = 30_000;

/// Of tasks whose pod cannot be: each is logged by its own name, and none is a trouble of the daemon.
const TASKS: &str = "pod";

/// What has been told of each source (`database`, `kubernetes`, `watch`, ...).
#[derive(Debug, Default)]
pub(super) struct Troubles {
    sources: BTreeMap<&'static str, Source>,
}

#[derive(Debug, Default)]
struct Source {
    /// Errors counted at the last look.
    seen: u64,
    /// Errors that were told of.
    told: u64,
    told_at: Option<Millis>,
    last_at: Option<Millis>,
    text: String,
}

impl Troubles {
    /// Takes the engine's counts and returns what to log now: source, errors since the last line of it, the last one.
    pub(super) fn take(&mut self, counters: &Counters, now: Millis) -> Vec<(&'static str, u64, String)> {
        let mut lines = Vec::new();
        for (name, count) in counters.errors.iter().filter(|(name, _)| **name != TASKS) {
            let source = self.sources.entry(name).or_default();
            if *count > source.seen {
                source.seen = *count;
                source.last_at = Some(now);
                source.text = counters.last_errors.get(name).cloned().unwrap_or_default();
            }
            let waited = source.told_at.is_none_or(|at| now.since(at) >= AGAIN_MS);
            if source.seen > source.told && waited {
                lines.push((*name, source.seen - source.told, source.text.clone()));
                source.told = source.seen;
                source.told_at = Some(now);
            }
        }
        lines
    }

    /// What goes wrong at present, one line per source. Empty: nothing.
    pub(super) fn present(&self, now: Millis) -> String {
        let fresh = |source: &&Source| source.last_at.is_some_and(|at| now.since(at) < FRESH_MS);
        let lines = self.sources.iter().filter(|(_, source)| fresh(source));
        lines.map(|(name, source)| format!("\n{name}: {}", source.text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(count: u64, text: &str) -> Counters {
        let mut counters = Counters::default();
        counters.errors.insert("kubernetes", count);
        counters.last_errors.insert("kubernetes", text.to_owned());
        counters
    }

    #[test]
    fn an_error_is_told_at_once_and_a_flood_every_ten_seconds() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.take(&counters(1, "a"), Millis(0)), [("kubernetes", 1, "a".into())]);
        assert_eq!(troubles.take(&counters(1, "a"), Millis(20_000)), []);
        assert_eq!(troubles.take(&counters(2, "b"), Millis(21_000)), [("kubernetes", 1, "b".into())]);
        assert_eq!(troubles.take(&counters(7, "c"), Millis(22_000)), []);
        assert_eq!(troubles.take(&counters(9, "d"), Millis(31_000)), [("kubernetes", 7, "d".into())]);
    }

    #[test]
    fn what_is_over_is_not_of_the_present() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.present(Millis(0)), "");
        troubles.take(&counters(1, "refused"), Millis(1_000));
        assert_eq!(troubles.present(Millis(30_000)), "\nkubernetes: refused");
        assert_eq!(troubles.present(Millis(31_000)), "");
    }
}
