//! Chance, from one seed: SplitMix64 (Steele, Lea, Flood 2014). Small, fast, and the same on every machine.

/// A stream of numbers that one seed decides.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5bf0_3635_d1f2_9c4d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1; 0 for an `n` of 0. The bias of the remainder is far below what a fault's strength means.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// Both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `permille` of 1,000 cases. Draws for 0 too: without a fault that never struck, a run stays what it was.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        self.below(1_000) < u64::from(permille)
    }

    /// A place in something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    /// A delay whose short values are common and long ones rare: one in eight goes up to `max`.
    pub(crate) fn delay(&mut self, min: u64, usual: u64, max: u64) -> u64 {
        if self.below(8) == 0 { self.between(min, max) } else { self.between(min, usual) }
    }
}
