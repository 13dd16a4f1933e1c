//! A hasher whose output is fixed.

use std::hash::{Hash, Hasher};

/// A hasher with the same output in every process and on every little-endian machine.
///
/// It also keeps a second hash over what was fed through [`durable`](Self::durable), so that an executor can compare
/// durable state with a replay of the log. Not for hostile keys.
///
/// # Examples
/// ```
/// use dpat_model::Digest;
/// use std::hash::Hasher;
///
/// let mut digest = Digest::new();
/// digest.durable(&"balance");
/// digest.volatile(&7_u32);
/// assert_ne!(digest.finish(), digest.finish_durable());
/// ```
#[derive(Clone, Debug)]
pub struct Digest {
    all: u64,
    durable: u64,
}

/// Leading bits of the fraction of pi: a start that nobody chose.
const START: u64 = 0x243f_6a88_85a3_08d3;

/// Stafford's variant 13 of the MurmurHash3 finaliser, as SplitMix64 uses it.
const fn mix(state: u64, word: u64) -> u64 {
    let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Digest {
    /// Starts an empty digest.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            all: START,
            durable: START,
        }
    }

    /// Returns the digest of one value.
    pub fn of<T: Hash + ?Sized>(value: &T) -> u64 {
        let mut digest = Self::new();
        value.hash(&mut digest);
        digest.all
    }

    /// Feeds state that recovery must restore.
    pub fn durable<T: Hash + ?Sized>(&mut self, value: &T) {
        let part = Self::of(value);
        self.durable = mix(self.durable, part);
        self.all = mix(self.all, part);
    }

    /// Feeds state that a crash may forget.
    pub fn volatile<T: Hash + ?Sized>(&mut self, value: &T) {
        value.hash(self);
    }

    /// Returns the hash of what was fed through [`durable`](Self::durable).
    #[must_use]
    pub const fn finish_durable(&self) -> u64 {
        self.durable
    }
}

macro_rules! words {
    ($($write:ident: $int:ty),*) => {
        $(#[allow(clippy::cast_sign_loss, clippy::cast_lossless)] // hashing wants the bits
        fn $write(&mut self, value: $int) {
            self.all = mix(self.all, value as u64);
        })*
    };
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.all
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.all = mix(self.all, u64::from_le_bytes(word));
        }
        self.all = mix(self.all, bytes.len() as u64);
    }

    words!(write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_usize: usize);
    words!(write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_isize: isize);
}
