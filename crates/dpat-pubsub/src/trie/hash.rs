//! A hash for short texts.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Two odd-looking constants: digits of π, with nothing up the sleeve.
const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

/// Makes hashers that fold 64 × 64-bit products, from a random seed that all nodes of a trie share.
///
/// The standard hasher is stronger, and slower than everything else that a look-up does. With a seed that nobody
/// outside knows, tokens that collide cannot be chosen by looking at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeded(u64);

impl Seeded {
    pub(super) fn random() -> Self {
        // The standard library's keys are random.
        Self(RandomState::new().hash_one(PI))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folding;

    #[inline]
    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

pub(super) struct Folding(u64);

#[allow(clippy::cast_possible_truncation, reason = "splits a 128-bit product")]
#[inline]
const fn fold(one: u64, other: u64) -> u64 {
    let product = (one as u128) * (other as u128);
    (product as u64) ^ (product >> 64) as u64
}

impl Hasher for Folding {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
            self.0 = fold(self.0 ^ u64::from_le_bytes(*chunk), PI[0]);
            rest = after;
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let last = u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56);
        self.0 = fold(self.0 ^ last, PI[1]);
    }

    /// What ends a text: its length has been hashed already.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.0, PI[0] ^ PI[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn similar_texts_hash_apart() {
        let seeded = Seeded::random();
        let mut texts: Vec<String> = (0..20_000).map(|n| format!("device{n}")).collect();
        texts.extend((0..200).map(|n| "a".repeat(n)));
        texts.extend((1..200).map(|n| "\0".repeat(n)));
        let hashes: HashSet<u64> = texts.iter().map(|text| seeded.hash_one(&**text)).collect();
        assert_eq!(hashes.len(), texts.len());
        // The bits that a table looks at: about half of them are set.
        for bits in [0, 57] {
            let set = hashes.iter().filter(|hash| *hash >> bits & 1 == 1).count();
            assert!(set.abs_diff(hashes.len() / 2) < 500, "{set}");
        }
    }

    #[test]
    fn seeds_differ() {
        let hash = |seeded: Seeded| seeded.hash_one("orders");
        assert_ne!(hash(Seeded::random()), hash(Seeded::random()));
    }
}
