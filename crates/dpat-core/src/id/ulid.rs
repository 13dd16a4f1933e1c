//! ULID, the Universally Unique Lexicographically Sortable Identifier.

use super::monotonic::{Full, Monotonic, Rules};
use super::{GenerateError, ParseIdError, RollbackPolicy, crockford};
use crate::sync::const_fn;
use crate::{Entropy, Wall};
use std::fmt;
use std::str::FromStr;

/// A ULID: 48 bits of milliseconds, then 80 random bits (<https://github.com/ulid/spec>).
///
/// Byte order, text order and order of the values agree.
///
/// # Examples
/// ```
/// use dpat_core::Ulid;
///
/// let id: Ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?;
/// assert_eq!(Ulid::parse_tolerant("oiarz3ndektsv4rrffq69g5fav")?, id);
/// assert_eq!(id.wall().as_millis(), 1_469_922_850_259);
/// # Ok::<(), dpat_core::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

const RANDOM_BITS: u32 = 80;
const TEXT: usize = 26;

impl Ulid {
    /// The smallest ULID.
    pub const MIN: Self = Self(0);
    /// The largest ULID, `7ZZZZZZZZZZZZZZZZZZZZZZZZZ`.
    pub const MAX: Self = Self(u128::MAX);

    /// Puts a ULID together; higher bits than the fields hold are cut off.
    #[must_use]
    pub const fn from_parts(millis: u64, random: u128) -> Self {
        Self(((millis as u128) << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1)))
    }

    /// Takes the 16 bytes, most significant first. Every value is a ULID.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Returns the 16 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Takes the number whose big-endian bytes the ULID has.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Returns the number whose big-endian bytes these are.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Returns the random part, 80 bits.
    #[must_use]
    pub const fn random(self) -> u128 {
        self.0 & ((1 << RANDOM_BITS) - 1)
    }

    /// Returns the time of creation, in whole milliseconds. Saturates in the year 2554.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // 48 bits remain
    pub const fn wall(self) -> Wall {
        let millis = (self.0 >> RANDOM_BITS) as u64;
        Wall::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Adds one to the random part, as the specification's § Monotonicity does within a millisecond.
    ///
    /// # Errors
    /// [`GenerateError::CounterExhausted`] when all 80 bits are set: the specification fails here.
    pub const fn successor(self) -> Result<Self, GenerateError> {
        if self.random() == (1 << RANDOM_BITS) - 1 {
            return Err(GenerateError::CounterExhausted);
        }
        Ok(Self(self.0 + 1))
    }

    /// Writes the text form into `buffer`, without allocation.
    pub fn encode(self, buffer: &mut [u8; TEXT]) -> &str {
        *buffer = crockford::encode(self.0);
        super::ascii(buffer)
    }

    /// Reads also lower case, the look-alikes `I`, `L` (1) and `O` (0), and hyphens anywhere.
    ///
    /// [`FromStr`] reads the canonical form alone, so that equal texts are equal ids.
    ///
    /// # Errors
    /// [`ParseIdError`].
    pub fn parse_tolerant(text: &str) -> Result<Self, ParseIdError> {
        crockford::decode_tolerant(text, TEXT, 128).map(Self)
    }
}

impl FromStr for Ulid {
    type Err = ParseIdError;

    /// Reads 26 upper-case digits of Crockford's alphabet.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        crockford::decode_strict(text, TEXT, 128).map(Self)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; TEXT]))
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The highest bits of the random part.
const COUNTER_BITS: u32 = 21;
const TAIL_BITS: u32 = RANDOM_BITS - COUNTER_BITS;

/// A lock-free generator of [`Ulid`]s that strictly increase.
///
/// One generator, shared by reference or as a `static`, serves all threads of a process.
///
/// The first 21 of the 80 random bits count within a millisecond, from a random 20-bit start; the other 59 are new
/// in every id. (The specification increments the last bit instead, which lets whoever has one id guess the next;
/// [`Ulid::successor`] does that.) When the counter is used up, which takes more than a million ids in one
/// millisecond, the generator fails as the specification wants, until the clock moves on.
///
/// Times up to the year 2248 are accepted. Allocates nothing.
#[derive(Debug)]
pub struct UlidGenerator(Monotonic);

impl UlidGenerator {
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
            full: Full::Fail,
        }
    }

    /// Makes the next id; greater than every one before, unless the policy reset the time.
    ///
    /// # Errors
    /// [`GenerateError`]; with the default policy and no mark, [`GenerateError::CounterExhausted`], and
    /// [`GenerateError::TimeOutOfRange`] after the year 2248.
    ///
    /// # Complexity
    /// One draw of entropy (two in a new millisecond) and one compare-and-swap, repeated under contention.
    #[inline]
    pub fn next(
        &self,
        wall: Wall,
        entropy: &(impl Entropy + ?Sized),
    ) -> Result<Ulid, GenerateError> {
        let seed = || entropy.next_u64() >> (64 - (COUNTER_BITS - 1));
        let (millis, counter) = self.0.next(wall, seed)?;
        let tail = entropy.next_u64() >> (64 - TAIL_BITS);
        let random = (u128::from(counter) << TAIL_BITS) | u128::from(tail);
        Ok(Ulid::from_parts(millis, random))
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

impl Default for UlidGenerator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "serde")]
super::text_and_bytes!(Ulid, "a ULID", |bytes| Ok::<_, ParseIdError>(
    Ulid::from_bytes(bytes)
));
