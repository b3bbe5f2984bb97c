//! Randomness from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::sync::Mutex;

/// A seeded stream of numbers, shared by reference. The same seed and the same calls give the same numbers.
pub struct SimRng(Mutex<ChaCha8Rng>);

impl SimRng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// A stream of its own, drawn from this one: what one part of the simulation draws does not shift another's.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.draw())
    }

    /// A number.
    ///
    /// # Panics
    /// Never: nothing panics under the lock.
    pub fn draw(&self) -> u64 {
        self.0.lock().expect("no panic under this lock").next_u64()
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&self, n: u64) -> u64 {
        // The multiply's high half: the bias is under n / 2^64.
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// A number of `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `percent` times in a hundred.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// An index into `weights`, each as likely as its weight.
    ///
    /// # Panics
    /// When the weights are all zero.
    pub fn weighted(&self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        weights
            .iter()
            .position(|w| match left.checked_sub(*w) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
            .expect("some weight is not zero")
    }
}

impl world::Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().expect("no panic under this lock").fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (a, b, c) = (SimRng::new(7), SimRng::new(7), SimRng::new(8));
        let draw = |r: &SimRng| (0..8).map(|_| r.below(1000)).collect::<Vec<_>>();
        assert_eq!(draw(&a), draw(&b));
        assert_ne!(draw(&a), draw(&c));
        assert!((0..1000).all(|_| (3..=5).contains(&a.between(3, 5))));
        assert!((0..1000).all(|_| a.weighted(&[0, 3, 0, 1]) % 2 == 1));
    }
}
