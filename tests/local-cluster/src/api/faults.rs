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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WatchControl {
    pub(crate) cuts: u64,
    pub(crate) silent: bool,
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
        self.silence_watches(false);
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

    pub(crate) fn cut_watches(&self) {
        self.watches.send_modify(|w| w.cuts += 1);
    }

    pub(crate) fn silence_watches(&self, silent: bool) {
        self.watches.send_modify(|w| w.silent = silent);
    }

    pub(crate) fn set_stale(&self, version: Option<u64>) {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    pub(crate) fn stale_version(&self) -> Option<u64> {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
