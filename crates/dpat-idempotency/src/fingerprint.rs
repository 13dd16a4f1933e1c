//! What was asked.

use std::fmt;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

/// Tells one request body from another: 128 bits.
///
/// A key that comes again with another body is a mistake of the client, and no repetition. [`of`](Self::of) is
/// SipHash-2-4-128 under a fixed key, the same in every process and version. It is no defence against a client that
/// looks for two bodies with one fingerprint: that client would only be answered what it asked before. Whoever wants
/// more takes sixteen bytes of a cryptographic hash.
///
/// # Examples
/// ```
/// use dpat_idempotency::Fingerprint;
///
/// let body = br#"{"amount":100}"#;
/// assert_eq!(Fingerprint::of(&[b"POST", b"/charges", body]), Fingerprint::of(&[b"POST", b"/charges", body]));
/// assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// For operations that are named by their key alone.
    pub const NONE: Self = Self([0; 16]);

    /// Takes the fingerprint of several parts, whose borders count.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x6470_6174_2d69_6465, 0x6d70_6f74_656e_6379);
        for part in parts {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        Self(hasher.finish128().as_u128().to_be_bytes())
    }

    /// Takes sixteen bytes of any hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the sixteen bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:032x})", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_stay_the_same() {
        // Computed by another implementation of SipHash-2-4-128.
        let hex =
            |parts: &[&[u8]]| format!("{:032x}", u128::from_be_bytes(Fingerprint::of(parts).0));
        assert_eq!(hex(&[]), "ef88c7a0523871a247bb92201e14e05b");
        assert_eq!(hex(&[b""]), "6cbfcd2f53d155dc6787df879b272551");
        let request: &[&[u8]] = &[b"POST", b"/charges", b"{}"];
        assert_eq!(hex(request), "d645bfbe4da99bf0aa7aed9e56f8bd4d");
    }

    #[test]
    fn borders_of_parts_count() {
        assert_ne!(Fingerprint::of(&[b"a", b""]), Fingerprint::of(&[b"a"]));
        assert_ne!(Fingerprint::of(&[b"ab"]), Fingerprint::of(&[b"a", b"b"]));
    }
}
