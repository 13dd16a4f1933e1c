//! Randomness that can be injected and replayed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bits that can be shared between threads.
pub trait Entropy: Send + Sync {
    /// Returns 64 uniformly distributed bits.
    fn next_u64(&self) -> u64;

    /// Returns a uniform value in `0..bound`, or 0 if `bound` is 0. Unbiased (Lemire 2019, "Fast Random Integer
    /// Generation in an Interval").
    #[allow(clippy::cast_possible_truncation)] // splits a 128-bit product
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Returns a uniform value in `0.0..1.0` with 53 random bits.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit
    fn unit_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl<E: Entropy + ?Sized> Entropy for &E {
    fn next_u64(&self) -> u64 {
        (**self).next_u64()
    }
}

impl<E: Entropy + ?Sized> Entropy for std::sync::Arc<E> {
    fn next_u64(&self) -> u64 {
        (**self).next_u64()
    }
}

/// Mixes the state of SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators").
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64: a seeded, lock-free generator whose output is fixed for ever.
///
/// One draw is one atomic addition. Not for secrets.
#[derive(Debug)]
pub struct SplitMix64 {
    state: AtomicU64,
}

impl SplitMix64 {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// Makes an independent generator named `label`, without drawing from this one's seed.
    ///
    /// The same seed and label give the same sequence, whatever else was drawn or forked.
    #[must_use]
    pub fn stream(seed: u64, label: &str) -> Self {
        let mut state = mix(seed.wrapping_add(GAMMA));
        for byte in label.bytes() {
            state = mix(state ^ u64::from(byte)).wrapping_add(GAMMA);
        }
        Self::new(state)
    }
}

impl Entropy for SplitMix64 {
    fn next_u64(&self) -> u64 {
        mix(self
            .state
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA))
    }
}

/// Entropy seeded by the operating system, once per thread.
///
/// Good for jitter, sampling and unique ids; not for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        std::thread_local! {
            // `RandomState` is keyed by the operating system.
            static GENERATOR: SplitMix64 = SplitMix64::new(RandomState::new().build_hasher().finish());
        }
        GENERATOR.with(Entropy::next_u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_matches_the_reference_vector() {
        let generator = SplitMix64::new(1_234_567);
        let drawn: [u64; 3] = core::array::from_fn(|_| generator.next_u64());
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
