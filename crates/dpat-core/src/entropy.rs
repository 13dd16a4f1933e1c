//! Randomness that can be injected and replayed.

#[cfg(feature = "rand")]
mod rand;
mod system;

#[cfg(feature = "rand")]
pub use self::rand::{AsRand, FromRand};
pub use system::SystemEntropy;

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bits that can be shared between threads.
pub trait Entropy: Send + Sync {
    /// Returns 64 uniformly distributed bits.
    fn next_u64(&self) -> u64;

    /// Returns a uniform value in `0..bound`, or 0 if `bound` is 0.
    ///
    /// Unbiased (Lemire 2019, "Fast Random Integer Generation in an Interval"): some draws are thrown away, on
    /// average less than one.
    #[allow(clippy::cast_possible_truncation)] // splits a 128-bit product
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        // Only a low half below `bound` can be below the threshold, whose division is slow.
        if (product as u64) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
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

    /// Starts the sequence of a seed and a name.
    ///
    /// Give each consumer (workload, faults, each node) its own name: the same seed and name give the same sequence,
    /// whatever the others draw.
    ///
    /// # Examples
    /// ```
    /// use dpat_core::{Entropy, SplitMix64};
    ///
    /// let faults = SplitMix64::stream(7, "faults");
    /// let workload = SplitMix64::stream(7, "workload");
    /// assert_ne!(faults.next_u64(), workload.next_u64());
    /// ```
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

    #[test]
    fn below_is_unbiased_and_within_the_bound() {
        let generator = SplitMix64::new(42);
        for bound in [1, 2, 3, 7, 1 << 63, (1 << 63) + 1, u64::MAX] {
            assert!((0..1000).all(|_| generator.below(bound) < bound), "{bound}");
        }
        assert_eq!(generator.below(0), 0);
        // Three quarters of 2^64: without rejection, every third value would come twice as often.
        let bound = 3 << 62;
        let third = bound / 3;
        let mut counts = [0_u32; 3];
        for _ in 0..30_000 {
            let drawn = generator.below(bound);
            counts[usize::from(drawn >= third) + usize::from(drawn >= 2 * third)] += 1;
        }
        // 10 000 expected, standard deviation 82.
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 500),
            "{counts:?}"
        );
    }

    /// Hands out a fixed list.
    struct Listed(AtomicU64, &'static [u64]);

    impl Entropy for Listed {
        fn next_u64(&self) -> u64 {
            let index = self.0.fetch_add(1, Ordering::Relaxed);
            self.1[usize::try_from(index).unwrap()]
        }
    }

    #[test]
    fn below_throws_away_what_would_be_biased() {
        // 2^64 mod 3 = 1: exactly one low half, 0, is refused.
        let listed = Listed(AtomicU64::new(0), &[0, u64::MAX]);
        assert_eq!(listed.below(3), 2);
        assert_eq!(listed.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn unit_f64_covers_the_interval_without_its_end() {
        let listed = Listed(AtomicU64::new(0), &[0, u64::MAX]);
        assert!(listed.unit_f64().abs() < f64::EPSILON);
        let largest = listed.unit_f64();
        assert!(largest < 1.0 && largest > 1.0 - 1e-15);
    }

    #[test]
    fn named_streams_are_fixed_and_independent() {
        let draw = |seed, label| -> [u64; 4] {
            let stream = SplitMix64::stream(seed, label);
            core::array::from_fn(|_| stream.next_u64())
        };
        assert_eq!(draw(7, "faults"), draw(7, "faults"));
        let labels = [
            "", "a", "b", "aa", "ab", "faults", "workload", "node-1", "node-2",
        ];
        let mut first: Vec<u64> = labels
            .iter()
            .flat_map(|label| [draw(7, label), draw(8, label)].concat())
            .collect();
        let drawn = first.len();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), drawn, "two streams share a number");
        // Neighbouring labels: about half of the bits of each pair of draws agree.
        let (left, right) = (
            SplitMix64::stream(7, "node-1"),
            SplitMix64::stream(7, "node-2"),
        );
        let same: u32 = (0..1000)
            .map(|_| (left.next_u64() ^ right.next_u64()).count_zeros())
            .sum();
        // 32 000 expected, standard deviation 126.
        assert!(same.abs_diff(32_000) < 800, "{same}");
    }
}
