//! The port, and one file for each codec behind it.

#[cfg(feature = "bincode")]
mod bincode;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "postcard")]
mod postcard;

#[cfg(feature = "bincode")]
pub use self::bincode::Bincode;
#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, EncodeError};

/// Turns values into bytes and back, within limits.
///
/// What [`encode`](Self::encode) accepts, [`decode`](Self::decode) of the same codec accepts: both hold the same limits
/// of length, depth and elements, so that no record is written that cannot be read. (A type must keep its own part:
/// read what it writes. JSON has no form for NaN and the infinities.)
///
/// A codec is a small value: copy it, or make it a constant.
///
/// # Examples
/// ```
/// # #[cfg(feature = "postcard")] {
/// use dpat_codec::{Codec, Postcard};
///
/// const CODEC: Postcard = Postcard::with_bytes_max(64 * 1024);
///
/// let mut frame = vec![0x01];
/// CODEC.encode(&("hello", 7_u64), &mut frame)?;
/// let (text, number): (String, u64) = CODEC.decode(&frame[1..])?;
/// assert_eq!((text.as_str(), number), ("hello", 7));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec {
    /// The name of the form: `postcard`, `bincode`, `json`.
    const NAME: &'static str;

    /// Returns the largest number of bytes of one value.
    fn bytes_max(&self) -> usize;

    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    /// [`EncodeError::Limit`] for a value that is too long, too deep or has too many elements without bytes;
    /// [`EncodeError::Unsupported`] for one that the form cannot say. `out` is then as it was.
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;

    /// Reads a value from all of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::Limit`] for input that is too long (nothing was read then), too deep or claims too many elements;
    /// [`DecodeError::Trailing`] for bytes after the value; [`DecodeError::Malformed`] for everything else.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError>;

    /// As [`encode`](Self::encode), without looking at depth and elements.
    ///
    /// # Errors
    /// As `encode`.
    fn encode_flat<T: Serialize + Flat + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;

    /// As [`decode`](Self::decode), without looking at depth and elements.
    ///
    /// # Errors
    /// As `decode`.
    fn decode_flat<T: DeserializeOwned + Flat>(&self, bytes: &[u8]) -> Result<T, DecodeError>;

    /// Returns the bytes of `value` alone.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn to_vec<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.encode(value, &mut out)?;
        Ok(out)
    }
}

impl<C: Codec> Codec for &C {
    const NAME: &'static str = C::NAME;

    fn bytes_max(&self) -> usize {
        (**self).bytes_max()
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        (**self).encode(value, out)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        (**self).decode(bytes)
    }

    fn encode_flat<T: Serialize + Flat + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        (**self).encode_flat(value, out)
    }

    fn decode_flat<T: DeserializeOwned + Flat>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        (**self).decode_flat(bytes)
    }
}

/// A type that needs no guard: not recursive, and no collection of elements without bytes.
///
/// Implement it for a type whose values cannot nest deeper than its declaration (no type contains itself, not even in a
/// box or a list), and in which no list, set or map has elements that take no bytes (`()`, unit structs, structs of
/// those). The length limit and the refusal of trailing bytes stay. Whether the guard is worth leaving out is measured
/// in the benchmarks; for small records it costs little.
///
/// A wrong promise is no unsafety: hostile bytes can then overflow the stack, count for a very long time, or have the
/// codec reserve up to a few megabytes for each list that they claim.
///
/// # Examples
/// ```
/// # #[cfg(feature = "postcard")] {
/// use dpat_codec::{Codec, Flat, Postcard};
///
/// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
/// struct Vote { term: u64, candidate: u32, granted: bool }
/// impl Flat for Vote {}
///
/// let vote = Vote { term: 7, candidate: 2, granted: true };
/// let mut bytes = Vec::new();
/// Postcard::DEFAULT.encode_flat(&vote, &mut bytes)?;
/// assert_eq!(bytes, [7, 2, 1]);
/// assert_eq!(Postcard::DEFAULT.decode_flat::<Vote>(&bytes)?, vote);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Flat {}
