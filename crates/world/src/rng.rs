//! Randomness.

/// A source of random bytes: the operating system's for real, seeded in simulation.
pub trait Rng: Send + Sync {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut b = [0; 8];
        self.fill(&mut b);
        u64::from_le_bytes(b)
    }

    /// A random number.
    fn next_u128(&self) -> u128 {
        let mut b = [0; 16];
        self.fill(&mut b);
        u128::from_le_bytes(b)
    }
}
