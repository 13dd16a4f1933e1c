//! The hash over a trace.

use std::hash::Hasher;

/// A hasher with the same output in every process, a multiplication a word. Not for hostile input.
///
/// It takes integers as one word each, so that values hash alike on machines of every word size and byte order.
#[derive(Clone, Debug)]
pub(crate) struct TraceHash(u64);

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "folds a 128-bit product")]
const fn fold(state: u64, word: u64) -> u64 {
    let product = (state ^ word) as u128 * FACTOR as u128;
    // The rotation keeps a product of zero from ending everything.
    (product as u64 ^ (product >> 64) as u64).wrapping_add(state.rotate_left(23))
}

impl TraceHash {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(fold(0x243F_6A88_85A3_08D3, seed))
    }
}

macro_rules! words {
    ($($write:ident: $int:ty),*) => {
        $(#[inline]
        #[allow(clippy::cast_sign_loss, clippy::cast_lossless, reason = "hashing wants the bits")]
        fn $write(&mut self, value: $int) {
            self.0 = fold(self.0, value as u64);
        })*
    };
}

impl Hasher for TraceHash {
    fn finish(&self) -> u64 {
        fold(self.0, self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let chunks = bytes.chunks_exact(8);
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        for chunk in chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(u64::from_le_bytes(last));
        self.write_u64(bytes.len() as u64);
    }

    words!(write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_usize: usize);
    words!(write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_isize: isize);
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    fn hash(value: impl Hash) -> u64 {
        let mut hash = TraceHash::new(0);
        value.hash(&mut hash);
        hash.finish()
    }

    #[test]
    fn order_length_and_every_bit_count() {
        let mut seen = vec![
            hash(()),
            hash(0_u64),
            hash((0_u64, 0_u64)),
            hash([0_u8; 8].as_slice()),
        ];
        seen.extend([
            hash("a"),
            hash("ab"),
            hash(("a", "b")),
            hash((1_u8, 2_u8)),
            hash((2_u8, 1_u8)),
        ]);
        seen.extend((0..64).map(|bit| hash(1_u64 << bit)));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn a_zero_state_is_left_again() {
        let mut hash = TraceHash(0);
        hash.write_u64(0);
        hash.write_u64(1);
        assert_ne!(hash.finish(), 0);
    }
}
