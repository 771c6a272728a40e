//! Time as values. Nothing here reads a clock: the driver does and passes the reading in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds of a clock of this host that only goes forward and counts through suspend (CLOCK_BOOTTIME).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// This time plus `ms` milliseconds.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here, 0 if that lies ahead.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds since 1970-01-01 UTC: the resolution of PostgreSQL's `timestamptz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UtcMicros(pub i64);

impl UtcMicros {
    /// Reads RFC 3339, as Kubernetes and `--queued-at` write it.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }

    /// Milliseconds from `earlier` to here; negative if that lies ahead.
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// This time plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000)))
    }
}

/// RFC 3339 to the microsecond, or cut to as many digits as the precision says: `{time:.3}` to the millisecond.
impl fmt::Display for UtcMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(6);
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.digits$}"),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_written_as_airflow_logs_it_and_read_back() {
        let time = UtcMicros::parse("2026-11-24T02:40:17.123456Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-24T02:40:17.123456Z");
        assert_eq!(UtcMicros::parse("yesterday"), None);
        let late = UtcMicros::parse("2026-11-24T02:40:17.999999Z").unwrap();
        assert_eq!(format!("{late:.3} {late:.0}"), "2026-11-24T02:40:17.999Z 2026-11-24T02:40:17Z");
    }
}
