//! Timestamps as the API writes them: UTC, whole seconds.

use jiff::{SignedDuration, Timestamp};

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, as text.
pub(crate) fn now_text() -> String {
    text(now())
}

/// `base` moved by `seconds`; unreadable times stay as they are.
pub(crate) fn shifted(base: &str, seconds: i64) -> String {
    base.parse::<Timestamp>()
        .ok()
        .and_then(|at| at.checked_add(SignedDuration::from_secs(seconds)).ok())
        .map_or_else(|| base.to_owned(), text)
}

/// Seconds since `base`; 0 for unreadable and future times.
pub(crate) fn seconds_since(base: &str) -> i64 {
    base.parse::<Timestamp>().map_or(0, |at| (now().as_second() - at.as_second()).max(0))
}
