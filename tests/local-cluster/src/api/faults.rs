//! Faults on demand, for tests: what a real API server does to its clients on a bad day.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After`, nothing done.
    TooManyRequests {
        /// Seconds of `Retry-After`.
        retry_after_s: u64,
    },
    /// A 5xx before anything is done.
    Error(u16),
    /// The request is served, late.
    Latency(Duration),
    /// The connection is closed before anything is done.
    DropRequest,
    /// The request is done, and the connection closed instead of answering.
    DropAnswer,
}

/// Which requests a fault meets.
#[derive(Debug, Clone)]
pub struct FaultRule {
    method: Option<String>,
    path_contains: String,
    times: Option<u32>,
    fault: Fault,
}

impl FaultRule {
    /// Meets every request until it is cleared.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { method: None, path_contains: String::new(), times: None, fault }
    }

    /// Only requests of this method, as `POST`.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests whose path (without query) contains this.
    #[must_use]
    pub fn path(mut self, contains: &str) -> Self {
        contains.clone_into(&mut self.path_contains);
        self
    }

    /// Only the next so many.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

/// State that running watches follow.
#[derive(Debug, Clone, Default)]
pub(crate) struct WatchControl {
    cuts: Vec<String>,
    silent: Option<String>,
}

impl WatchControl {
    /// Cuts so far: a watch minds only those that come later than itself.
    pub(crate) fn cut_count(&self) -> usize {
        self.cuts.len()
    }

    /// Whether a watch with this query, begun after `born` cuts, is cut.
    pub(crate) fn cuts(&self, born: usize, query: &str) -> bool {
        self.cuts.iter().skip(born).any(|part| query.contains(part))
    }

    pub(crate) fn silences(&self, query: &str) -> bool {
        self.silent.as_ref().is_some_and(|part| query.contains(part))
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Mutex<Vec<FaultRule>>,
    stale: Mutex<Option<u64>>,
    watches: watch::Sender<WatchControl>,
}

impl Faults {
    pub(crate) fn add(&self, rule: FaultRule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    pub(crate) fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.set_stale(None);
        self.silence_watches(None);
    }

    /// The fault that meets this request, if any; counts it.
    pub(crate) fn meet(&self, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|r| {
            r.times != Some(0)
                && r.method.as_deref().is_none_or(|m| m == method)
                && path.contains(&r.path_contains)
        })?;
        if let Some(left) = &mut rule.times {
            *left -= 1;
        }
        Some(rule.fault)
    }

    pub(crate) fn watch_control(&self) -> watch::Receiver<WatchControl> {
        self.watches.subscribe()
    }

    pub(crate) fn cut_watches(&self, query_contains: &str) {
        self.watches.send_modify(|w| w.cuts.push(query_contains.to_owned()));
    }

    pub(crate) fn silence_watches(&self, query_contains: Option<&str>) {
        self.watches.send_modify(|w| w.silent = query_contains.map(str::to_owned));
    }

    pub(crate) fn set_stale(&self, version: Option<u64>) {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    pub(crate) fn stale_version(&self) -> Option<u64> {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
