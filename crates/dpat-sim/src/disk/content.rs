//! The bytes of one file: as they are read, as they are on the medium, and the changes between.

use std::ops::Range;

use dpat_core::{Entropy, SplitMix64};

use super::fault::{Odds, chance, index};

/// The unit in which a write is torn, aligned to the beginning of the file.
pub const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What reads see.
    now: Vec<u8>,
    /// What is on the medium.
    medium: Vec<u8>,
    /// What is not there yet, the oldest first.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Box<[u8]> },
    Resize { len: usize },
}

impl Content {
    pub(super) fn now(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn medium_len(&self) -> usize {
        self.medium.len()
    }

    /// Says whether a sync would find nothing to do.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if !data.is_empty() {
            put(&mut self.now, offset, data);
            let data = data.into();
            self.pending.push(Change::Write { offset, data });
        }
    }

    pub(super) fn resize(&mut self, len: usize) {
        if len != self.now.len() {
            self.now.resize(len, 0);
            self.pending.push(Change::Resize { len });
        }
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.medium);
        }
    }

    /// A sync that failed: some changes reach the medium, the others never will, and reads do not tell which.
    pub(super) fn sync_in_doubt(&mut self, odds: Odds, entropy: &SplitMix64) {
        // An order in which the first loss ends it all would leave the doubt to the last writes only.
        let apart = chance(entropy, odds.reordered);
        let mut ended = false;
        for change in self.pending.drain(..) {
            let lost = ended || chance(entropy, odds.lost);
            if !lost && chance(entropy, odds.torn) {
                change.tear(&mut self.medium, entropy);
                ended = !apart;
            } else if !lost {
                change.apply(&mut self.medium);
            } else {
                ended = !apart;
            }
        }
    }

    /// The power is gone: reads see the medium, and of the changes what the odds leave.
    pub(super) fn crash(&mut self, odds: Odds, entropy: &SplitMix64) {
        self.sync_in_doubt(odds, entropy);
        self.now.clone_from(&self.medium);
    }

    /// Flips bits on the medium. A byte that is not written back yet still reads as it did.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        let dirty = self.pending.iter().any(|change| match change {
            Change::Write { offset: at, data } => (*at..at + data.len()).contains(&offset),
            Change::Resize { len } => offset >= *len,
        });
        if let Some(byte) = self.medium.get_mut(offset) {
            *byte ^= mask;
            if !dirty {
                if let Some(now) = self.now.get_mut(offset) {
                    *now ^= mask;
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(bytes, *offset, data),
            Self::Resize { len } => bytes.resize(*len, 0),
        }
    }

    /// Applies a part. A length is a field that is written whole.
    fn tear(&self, bytes: &mut Vec<u8>, entropy: &SplitMix64) {
        let Self::Write { offset, data } = self else {
            return self.apply(bytes);
        };
        let (offset, end) = (*offset, offset + data.len());
        let mut keep = |kept: Range<usize>| {
            put(
                bytes,
                kept.start,
                &data[kept.start - offset..kept.end - offset],
            );
        };
        let within = |entropy: &SplitMix64| offset + index(entropy, data.len() + 1);
        match entropy.below(5) {
            0 => keep(offset..within(entropy)),
            1 => keep(within(entropy)..end),
            2 => {
                let last = within(entropy) / SECTOR_BYTES * SECTOR_BYTES;
                keep(offset..last.max(offset));
            }
            3 => sectors(offset, end)
                .filter(|_| entropy.below(2) == 0)
                .for_each(keep),
            _ => {}
        }
        // The length is written apart from the bytes: what is not there reads as zeros.
        if entropy.below(2) == 0 && bytes.len() < end {
            bytes.resize(end, 0);
        }
    }
}

/// Writes into a vector as into a file.
fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if offset == bytes.len() {
        bytes.extend_from_slice(data);
        return;
    }
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

/// Cuts a range where sectors end.
fn sectors(offset: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = offset;
    std::iter::from_fn(move || {
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let sector = at..next;
        at = next;
        (!sector.is_empty()).then_some(sector)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::draws;

    #[test]
    fn sectors_are_aligned_to_the_file() {
        let cut: Vec<_> = sectors(500, 1600).collect();
        assert_eq!(cut, [500..512, 512..1024, 1024..1536, 1536..1600]);
        assert_eq!(sectors(512, 512).count(), 0);
    }

    #[test]
    fn a_sync_leaves_nothing_to_lose() {
        let mut content = Content::default();
        content.write(3, b"abc");
        content.resize(4);
        content.write(2, b"x");
        content.sync();
        assert!(content.is_clean());
        content.crash(Odds::NONE, &draws(1, "t", 0));
        assert_eq!(content.now(), b"\0\0xa");
    }

    #[test]
    fn after_a_failed_sync_a_later_one_does_not_bring_the_lost_back() {
        let mut content = Content::default();
        content.write(0, b"lost");
        content.sync_in_doubt(Odds::NONE, &draws(1, "t", 0));
        assert_eq!(content.now(), b"lost", "the cache still has it");
        content.write(4, b"kept");
        content.sync();
        content.crash(Odds::NONE, &draws(1, "t", 1));
        assert_eq!(content.now(), b"\0\0\0\0kept");
    }

    #[test]
    fn a_flipped_bit_under_an_unwritten_byte_shows_only_if_that_is_lost() {
        let mut content = Content::default();
        content.write(0, &[1; 4]);
        content.sync();
        content.write(1, &[2; 1]);
        for offset in 0..3 {
            content.flip(offset, 0x80);
        }
        assert_eq!(content.now(), [0x81, 2, 0x81, 1]);
        content.crash(Odds::NONE, &draws(1, "t", 0));
        assert_eq!(content.now(), [0x81, 0x81, 0x81, 1]);
    }
}
