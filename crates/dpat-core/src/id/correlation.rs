//! Which request.

use super::{ParseIdError, Ulid, Uuid7, hex};
use crate::Entropy;
use std::fmt;
use std::str::FromStr;

/// Names one request and everything that was done for it.
///
/// 128 bits, printed as 32 lower-case digits, as a trace id is (W3C Trace Context § 3.2.2.3). No order is implied.
///
/// # Examples
/// ```
/// use dpat_core::{CorrelationId, SplitMix64};
///
/// let id = CorrelationId::random(&SplitMix64::new(1));
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CorrelationId([u8; 16]);

impl CorrelationId {
    /// Draws an id.
    pub fn random(entropy: &(impl Entropy + ?Sized)) -> Self {
        let (high, low) = (entropy.next_u64(), entropy.next_u64());
        Self::from_u128(u128::from(high) << 64 | u128::from(low))
    }

    /// Takes 16 bytes. Every value is an id.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Takes the number whose big-endian bytes the id has.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// Returns the number whose big-endian bytes these are.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// Writes the text form into `buffer`, without allocation.
    pub fn encode(self, buffer: &mut [u8; 32]) -> &str {
        *buffer = hex::encode(self.0, &[]);
        super::ascii(buffer)
    }

    /// Reads also the hyphenated form of a UUID of any version.
    ///
    /// # Errors
    /// [`ParseIdError`].
    pub fn parse_tolerant(text: &str) -> Result<Self, ParseIdError> {
        let hyphens: &[usize] = if text.len() == 36 {
            &[4, 6, 8, 10]
        } else {
            &[]
        };
        hex::decode(text, hyphens, 0).map(Self)
    }
}

impl From<Uuid7> for CorrelationId {
    fn from(id: Uuid7) -> Self {
        Self(id.to_bytes())
    }
}

impl From<Ulid> for CorrelationId {
    fn from(id: Ulid) -> Self {
        Self(id.to_bytes())
    }
}

impl FromStr for CorrelationId {
    type Err = ParseIdError;

    /// Reads 32 hexadecimal digits, in any case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        hex::decode(text, &[], 0).map(Self)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; 32]))
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
super::text_and_bytes!(CorrelationId, "a correlation id", |bytes| Ok::<
    _,
    ParseIdError,
>(
    CorrelationId::from_bytes(bytes)
));
