//! What can go wrong with a disk, and what a crash leaves.

use std::fmt;

use dpat_core::{Entropy, SplitMix64};
use dpat_model::MILLION;

/// How likely unsynced changes are lost, torn and judged apart at a crash, each in parts per million.
///
/// A surviving write is torn with `torn`; of a rename both names are left then. Content is judged file by file, names
/// all together. With `reordered` each change is judged on its own, so that a later one may survive an earlier one;
/// otherwise the first change that is lost or torn is the last of which anything survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odds {
    /// Changes that are lost.
    pub lost: u32,
    /// Surviving changes of which only a part survives.
    pub torn: u32,
    /// Files, and sets of names, whose changes are judged each on its own.
    pub reordered: u32,
}

impl Odds {
    /// Everything survives, synced or not: what a killed process leaves.
    pub const ALL: Self = Self {
        lost: 0,
        torn: 0,
        reordered: 0,
    };
    /// Nothing survives but what is synced.
    pub const NONE: Self = Self {
        lost: MILLION,
        torn: 0,
        reordered: 0,
    };
    /// A little of everything; the default.
    pub const MIXED: Self = Self {
        lost: 350_000,
        torn: 350_000,
        reordered: 500_000,
    };
}

impl Default for Odds {
    fn default() -> Self {
        Self::MIXED
    }
}

/// What strikes at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Strike {
    /// The power fails while the operation is under way: what it changes is one more unsynced change. The disk is down.
    Crash,
    /// The process dies while the operation is under way, which happens, happens in part, or does not. All that was
    /// written before survives. The disk is down.
    Kill,
    /// The operation fails: a sync with `SyncFailed`, anything else with `Io`. A write may happen, in part or whole.
    Fail,
    /// The disk is full, from this operation on, until [`SimDisk::set_full`](crate::disk::SimDisk::set_full).
    Full,
}

impl Strike {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Crash, Self::Kill, Self::Fail, Self::Full];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Kill => "kill",
            Self::Fail => "fail",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the images that a power cut may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Image {
    /// What is synced, and nothing else.
    Synced,
    /// All that was written.
    Written,
    /// What the disk's odds draw from this seed.
    Drawn(u64),
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synced => f.write_str("synced"),
            Self::Written => f.write_str("written"),
            Self::Drawn(seed) => write!(f, "drawn {seed}"),
        }
    }
}

/// A byte of the medium that was changed behind the file's back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The file, by its present name.
    pub path: String,
    /// Where.
    pub offset: u64,
    /// Which bits were flipped.
    pub mask: u8,
}

/// Draws that belong to one event: the same seed, label and number give the same draws.
pub(super) fn draws(seed: u64, label: &str, number: u64) -> SplitMix64 {
    SplitMix64::stream(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93), label)
}

/// Says yes this many times in a million.
pub(super) fn chance(entropy: &SplitMix64, per_million: u32) -> bool {
    match per_million {
        0 => false,
        MILLION.. => true,
        odds => entropy.below(u64::from(MILLION)) < u64::from(odds),
    }
}

/// A draw below a number of bytes or things in memory.
#[allow(clippy::cast_possible_truncation)] // below a `usize`
pub(super) fn index(entropy: &SplitMix64, bound: usize) -> usize {
    entropy.below(bound as u64) as usize
}
