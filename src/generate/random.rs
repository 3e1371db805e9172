//! SplitMix64 (Steele, Lea and Flood, 2014): fast, and the same on every machine and in every
//! version, which generators of libraries do not promise.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    /// The stream of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is far below 2^32.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((self.bits() >> 32) * bound) >> 32
    }

    /// True `share` times in 2^32.
    pub(super) fn chance(&mut self, share: u64) -> bool {
        self.bits() >> 32 < share
    }

    /// One of `all`, which is not empty.
    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let index = self.below(all.len() as u64) as usize;
        all[index]
    }
}

/// Scrambles 64 bits, one to one.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
