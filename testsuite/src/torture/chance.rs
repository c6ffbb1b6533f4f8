//! Chance that a seed decides.

/// Random numbers of a seed, by SplitMix64 (Steele, Lea, Flood, 2014): the same on every machine
/// and in every version.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Returns the random numbers of this seed for this user of it: two users of one seed get
    /// different ones.
    #[must_use]
    pub fn new(seed: u64, user: &str) -> Self {
        // FNV-1a is the same everywhere, as the standard library's hash is not.
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(seed ^ user.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The remainder is not quite even, by less than 2^-32 for what is asked here.
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// Returns one of these, of which there must be at least one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Tells whether something comes true that does so once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a time between these two numbers of milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> std::time::Duration {
        let more = self.below(usize::try_from(to - from).unwrap_or(usize::MAX).max(1));
        std::time::Duration::from_millis(from + more as u64)
    }
}
