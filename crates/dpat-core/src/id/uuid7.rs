//! UUID version 7 (RFC 9562).

use super::monotonic::{Full, Monotonic, Rules};
use super::{GenerateError, ParseIdError, RollbackPolicy, hex};
use crate::sync::const_fn;
use crate::{Entropy, Wall};
use std::fmt;
use std::str::FromStr;

/// Bytes before which the text form has a hyphen.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

/// A UUID version 7: 48 bits of milliseconds, then 74 bits that make it unique (RFC 9562 § 5.7).
///
/// Byte order, text order and order of the values agree, and follow the time of creation to the millisecond.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7, Uuid7Generator};
///
/// static IDS: Uuid7Generator = Uuid7Generator::new();
/// let first = IDS.next(SystemClock.wall(), &SystemEntropy)?;
/// let second = IDS.next(SystemClock.wall(), &SystemEntropy)?;
/// assert!(first < second);
/// assert_eq!(first.to_string().parse::<Uuid7>()?, first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid7([u8; 16]);

impl Uuid7 {
    /// Sets version and variant over the given parts; higher bits than the fields hold are cut off.
    #[must_use]
    pub const fn from_parts(millis: u64, rand_a: u16, rand_b: u64) -> Self {
        let high = (millis << 16) | 0x7000 | (rand_a & 0x0FFF) as u64;
        let low = (0b10 << 62) | (rand_b & (u64::MAX >> 2));
        Self((((high as u128) << 64) | low as u128).to_be_bytes())
    }

    /// Takes the 16 bytes of a UUID.
    ///
    /// # Errors
    /// [`ParseIdError::Version`] unless version and variant say 7.
    pub const fn from_bytes(bytes: [u8; 16]) -> Result<Self, ParseIdError> {
        if bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10 {
            Ok(Self(bytes))
        } else {
            Err(ParseIdError::Version)
        }
    }

    /// Returns the 16 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Returns the number whose big-endian bytes these are.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// Returns the time of creation, in whole milliseconds.
    #[must_use]
    pub const fn wall(self) -> Wall {
        let [a, b, c, d, e, f, ..] = self.0;
        let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Wall::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Writes the text form into `buffer`, without allocation.
    pub fn encode(self, buffer: &mut [u8; 36]) -> &str {
        *buffer = hex::encode(self.0, &HYPHENS);
        super::ascii(buffer)
    }

    /// Reads every common form: hyphenated or not, in braces, or as `urn:uuid:`, in any case.
    ///
    /// [`FromStr`] reads the hyphenated form alone.
    ///
    /// # Errors
    /// [`ParseIdError`].
    pub fn parse_tolerant(text: &str) -> Result<Self, ParseIdError> {
        let (inner, offset) = match text.as_bytes() {
            [b'{', .., b'}'] => (&text[1..text.len() - 1], 1),
            [b'u' | b'U', b'r' | b'R', b'n' | b'N', b':', ..]
                if text.is_char_boundary(9) && text[..9].eq_ignore_ascii_case("urn:uuid:") =>
            {
                (&text[9..], 9)
            }
            _ => (text, 0),
        };
        if inner.len() != 32 && inner.len() != 36 {
            return Err(ParseIdError::Length(text.len()));
        }
        let hyphens: &[usize] = if inner.len() == 32 { &[] } else { &HYPHENS };
        Self::from_bytes(hex::decode(inner, hyphens, offset)?)
    }
}

impl FromStr for Uuid7 {
    type Err = ParseIdError;

    /// Reads the form of RFC 9562 § 4: 8-4-4-4-12 digits, in any case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::from_bytes(hex::decode(text, &HYPHENS, 0)?)
    }
}

impl fmt::Display for Uuid7 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for Uuid7 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The counter: `rand_a` and the first nine bits of `rand_b`.
const COUNTER_BITS: u32 = 21;
const RANDOM_BITS: u32 = 62 - 9;

/// A lock-free generator of [`Uuid7`]s that strictly increase.
///
/// One generator, shared by reference or as a `static`, serves all threads of a process.
///
/// Method (RFC 9562 § 6.2, "Fixed Bit-Length Dedicated Counter"): a 21-bit counter follows the timestamp, begins each
/// millisecond at a random 20-bit value (§ 6.2 "Counter Rollover Guard": the highest bit starts at zero) and grows by
/// one; 53 new random bits follow. A counter that rolls over takes the next millisecond, ahead of the clock, as
/// § 6.2 "Counter Rollover Handling" allows; that needs more than a million ids in one millisecond.
///
/// Times up to the year 2248 are accepted. Limits: none but the counter. Allocates nothing.
#[derive(Debug)]
pub struct Uuid7Generator(Monotonic);

impl Uuid7Generator {
    const_fn! {
        /// Makes a generator that holds its time when the clock goes back.
        #[must_use]
        pub const fn new() -> Self {
            Self::with_policy(RollbackPolicy::Hold)
        }
    }

    const_fn! {
        /// Makes a generator with a policy for clocks that go back.
        #[must_use]
        pub const fn with_policy(policy: RollbackPolicy) -> Self {
            Self(Monotonic::new(Self::rules(policy)))
        }
    }

    /// Begins after a stored mark, so that ids increase across a restart even if the clock went back.
    ///
    /// Pass [`Wall::MIN`] on the first start. Nothing is given until [`reserve`](Self::reserve) is called: see there.
    #[must_use]
    pub fn resume_from(self, mark: Wall) -> Self {
        Self(Monotonic::after(mark, self.0.rules))
    }

    const fn rules(policy: RollbackPolicy) -> Rules {
        Rules {
            counter_bits: COUNTER_BITS,
            tick_max: (1 << (64 - COUNTER_BITS)) - 1,
            epoch_ms: 0,
            policy,
            full: Full::Carry,
        }
    }

    /// Makes the next id; greater than every one before, unless the policy reset the time.
    ///
    /// # Errors
    /// [`GenerateError`]; with the default policy and no mark, only for times after the year 2248.
    ///
    /// # Complexity
    /// One draw of entropy (two in a new millisecond) and one compare-and-swap, repeated under contention.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // 12 bits remain
    pub fn next(
        &self,
        wall: Wall,
        entropy: &(impl Entropy + ?Sized),
    ) -> Result<Uuid7, GenerateError> {
        let seed = || entropy.next_u64() >> (64 - (COUNTER_BITS - 1));
        let (millis, counter) = self.0.next(wall, seed)?;
        let random = entropy.next_u64() >> (64 - RANDOM_BITS);
        let rand_b = (counter << RANDOM_BITS) | random;
        Ok(Uuid7::from_parts(millis, (counter >> 9) as u16, rand_b))
    }

    /// Returns a time that no id given so far lies beyond.
    #[must_use]
    pub fn high_water(&self) -> Wall {
        self.0.high_water()
    }

    /// Allows ids with times up to `mark`, which must be stored durably *before* this call.
    ///
    /// Only after [`resume_from`](Self::resume_from) are ids limited at all. Store a mark some seconds ahead of the
    /// clock, reserve it, and do so again before the clock reaches it; after a crash, resume from the stored mark.
    pub fn reserve(&self, mark: Wall) {
        self.0.reserve(mark);
    }
}

impl Default for Uuid7Generator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "serde")]
super::text_and_bytes!(Uuid7, "a UUID version 7", Uuid7::from_bytes);
