//! Independent random streams.

use dpat_model::{Choose, Delay, MILLION};

/// A stream of random numbers that belongs to one consumer.
///
/// The stream is determined by the run's seed, a family and an index, so that what one consumer draws never moves what
/// another one draws. The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number
/// Generators"); its output, that of [`delay`](Self::delay) included, is the same on every machine.
///
/// # Examples
/// ```
/// use dpat_sim::Stream;
///
/// let mut loss_of_node_1 = Stream::new(7, "loss", 1);
/// let drawn: Vec<bool> = (0..3).map(|_| loss_of_node_1.chance(500_000)).collect();
/// let mut again = Stream::new(7, "loss", 1);
/// assert!(drawn.iter().all(|hit| *hit == again.chance(500_000)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    state: u64,
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    /// Starts the stream of a seed, a family of draws and a consumer of that family.
    // Inlined into a loop over nodes, the unrolled chain of mixes keeps LLVM 22's vectorizer busy for minutes.
    #[inline(never)]
    #[must_use]
    pub fn new(seed: u64, family: &'static str, index: u64) -> Self {
        let mut state = mix(seed.wrapping_add(GAMMA));
        for byte in family.bytes() {
            state = mix(state ^ u64::from(byte)).wrapping_add(GAMMA);
        }
        let state = mix(state ^ mix(index.wrapping_add(GAMMA)));
        Self { state }
    }

    /// Returns 64 uniform bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Returns a uniform value in `0..bound`, or 0 if `bound` is 0.
    ///
    /// Unbiased (Lemire 2019, "Fast Random Integer Generation in an Interval").
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "splits a 128-bit product")]
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// Returns a uniform value between two bounds, both included; `low` if they are the wrong way round.
    #[inline]
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if low == 0 && high == u64::MAX {
            return self.next_u64();
        }
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Returns a uniform value in `0.0..1.0` with 53 random bits.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns true with a probability in parts per million.
    #[inline]
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(u64::from(MILLION)) < u64::from(per_million)
    }

    /// Draws a delay in nanoseconds.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a drawn delay is rounded, and a float that is too large saturates"
    )]
    pub fn delay(&mut self, delay: &Delay) -> u64 {
        let ns = |us: u64| us.saturating_mul(1000);
        match *delay {
            Delay::Constant(us) => ns(us),
            Delay::Uniform(low, high) => self.between(ns(low), ns(high)),
            Delay::Exponential(mean) => {
                // 0 < u <= 1, so that the logarithm is finite.
                let u = 1.0 - self.unit_f64();
                (-ln(u) * ns(mean) as f64) as u64
            }
            Delay::Bimodal {
                fast_us,
                slow_us,
                slow_per_million,
            } => ns(if self.chance(slow_per_million) {
                slow_us
            } else {
                fast_us
            }),
        }
    }
}

impl Choose for Stream {
    #[allow(clippy::cast_possible_truncation, reason = "below a u32")]
    fn choose(&mut self, n: u32) -> u32 {
        self.below(u64::from(n)) as u32
    }
}

/// The natural logarithm of a value in `0.0..=1.0`, from operations that IEEE 754 fixes to the last bit.
///
/// The one of the system's library may differ from machine to machine, and with it every later event of a run.
#[allow(clippy::cast_possible_truncation, reason = "an exponent has 11 bits")]
fn ln(u: f64) -> f64 {
    let bits = u.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh s, with 0 <= s < 1/3.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    let mut power = s;
    for odd in 0..14_u32 {
        sum += power / f64::from(2 * odd + 1);
        power *= square;
    }
    2.0 * sum + f64::from(exponent) * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_library() {
        let mut stream = Stream::new(1, "ln", 0);
        for _ in 0..1000 {
            let u = 1.0 - stream.unit_f64();
            assert!((ln(u) - u.ln()).abs() < 1e-13, "{u}");
        }
        assert!(ln(1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn streams_differ_by_seed_family_and_index() {
        let mut first: Vec<u64> = Vec::new();
        for seed in 0..4 {
            for family in ["loss", "delay", "delay "] {
                for index in 0..4 {
                    first.push(Stream::new(seed, family, index).next_u64());
                }
            }
        }
        let drawn = first.len();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), drawn);
    }

    #[test]
    fn bounds_are_kept_to_the_ends() {
        let mut stream = Stream::new(3, "bounds", 0);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.between(9, 3), 9);
        assert_eq!(stream.between(5, 5), 5);
        assert!(!(0..1000).any(|_| stream.chance(0)));
        assert!((0..1000).all(|_| stream.chance(MILLION)));
        let mut seen = [false; 3];
        (0..100).for_each(|_| seen[usize::try_from(stream.between(0, 2)).unwrap()] = true);
        assert_eq!(seen, [true; 3]);
        assert_ne!(stream.between(0, u64::MAX), stream.between(0, u64::MAX));
    }

    #[test]
    fn the_output_is_fixed_for_ever() {
        let mut stream = Stream::new(7, "loss", 1);
        let drawn = [stream.next_u64(), stream.next_u64()];
        assert_eq!(
            drawn,
            [6_724_261_674_950_132_277, 18_017_886_222_229_283_194]
        );
    }
}
