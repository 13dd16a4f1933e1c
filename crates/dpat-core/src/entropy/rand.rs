//! To and from the generators of the `rand` crate.

use super::Entropy;
use crate::sync::Mutex;
use rand::rand_core::{Rng, TryRng};
use std::convert::Infallible;

/// [`Entropy`] from a generator of the `rand` crate, behind a lock.
///
/// # Examples
/// ```
/// use dpat_core::{Entropy, FromRand};
/// use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
///
/// let entropy = FromRand::new(Xoshiro256PlusPlus::seed_from_u64(7));
/// assert!(entropy.below(10) < 10);
/// ```
#[derive(Debug)]
pub struct FromRand<R>(Mutex<R>);

impl<R: Rng + Send> FromRand<R> {
    /// Takes a generator.
    pub const fn new(generator: R) -> Self {
        Self(Mutex::new(generator))
    }
}

impl<R: Rng + Send> Entropy for FromRand<R> {
    fn next_u64(&self) -> u64 {
        self.0.with(Rng::next_u64)
    }
}

/// A generator for the `rand` crate from any [`Entropy`].
///
/// # Examples
/// ```
/// use dpat_core::{AsRand, SplitMix64};
/// use rand::RngExt;
///
/// let seeded = SplitMix64::new(7);
/// let roll: u8 = AsRand::new(&seeded).random_range(1..=6);
/// assert!((1..=6).contains(&roll));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AsRand<E>(E);

impl<E: Entropy> AsRand<E> {
    /// Takes a source, or a reference to one.
    pub const fn new(entropy: E) -> Self {
        Self(entropy)
    }
}

impl<E: Entropy> TryRng for AsRand<E> {
    type Error = Infallible;

    /// Takes the upper half of a draw.
    #[allow(clippy::cast_possible_truncation)] // 32 bits remain
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SplitMix64;

    #[test]
    fn round_trip_draws_the_same_numbers() {
        let plain = SplitMix64::new(3);
        let wrapped = FromRand::new(AsRand::new(SplitMix64::new(3)));
        for _ in 0..10 {
            assert_eq!(wrapped.next_u64(), plain.next_u64());
        }
    }

    #[test]
    fn fills_every_byte() {
        let mut bytes = [0; 21];
        AsRand::new(SplitMix64::new(3)).fill_bytes(&mut bytes);
        let expected = SplitMix64::new(3);
        for chunk in bytes.chunks(8) {
            let drawn = expected.next_u64().to_le_bytes();
            assert_eq!(chunk, &drawn[..chunk.len()]);
        }
    }
}
