//! A daemon's own clock: an offset, a drift, and jumps forward (CLOCK_BOOTTIME never goes back).

/// Reads local milliseconds from true ones.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    true_origin: u64,
    local_origin: u64,
    /// Local milliseconds in 1,000,000 true ones.
    rate: u64,
}

impl Clock {
    /// Shows `offset` at `now`; `drift` in parts per million.
    pub(crate) fn new(now: u64, offset: u64, drift: i64) -> Self {
        Self { true_origin: now, local_origin: offset, rate: 1_000_000_u64.saturating_add_signed(drift) }
    }

    pub(crate) fn local(&self, now: u64) -> u64 {
        self.local_origin + (now - self.true_origin) * self.rate / 1_000_000
    }

    /// The first true millisecond at which this clock shows `local` or more.
    pub(crate) fn when(&self, local: u64) -> u64 {
        self.true_origin + (local.saturating_sub(self.local_origin) * 1_000_000).div_ceil(self.rate)
    }

    pub(crate) fn jump(&mut self, now: u64, by: u64) {
        self.local_origin = self.local(now) + by;
        self.true_origin = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_is_found_again_after_drift_and_jump() {
        let mut clock = Clock::new(0, 777, -20_000);
        clock.jump(10_000, 300);
        let at = clock.when(50_000);
        assert!(clock.local(at) >= 50_000 && clock.local(at - 1) < 50_000);
    }
}
