//! The clocks of this host. The only place of the daemon that reads one.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec, clock_gettime};
use windlass_core::time::{Millis, UtcMicros};

/// CLOCK_BOOTTIME: goes on through suspend, so that a host that slept does not trust a term that ended meanwhile.
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    Millis(positive(time.tv_sec) * 1_000 + positive(time.tv_nsec) / 1_000_000)
}

/// CLOCK_REALTIME, for people and for latencies that begin with Airflow's `queued_dttm`. Decides nothing.
pub fn utc() -> UtcMicros {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    UtcMicros(tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1_000))
}

/// The same for libraries that sign with the time.
pub fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(positive(utc().0))
}

fn positive(part: i64) -> u64 {
    u64::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_utc_is_of_this_century() {
        let (a, b) = (now(), now());
        assert!(a.0 > 0 && b >= a);
        assert!(utc() > UtcMicros::parse("2024-01-01T00:00:00Z").unwrap());
    }
}
