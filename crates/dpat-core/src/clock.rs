//! Logical clocks: what happened before what.

mod hybrid;
mod lamport;
mod vector;

pub use hybrid::{AtomicHlc, Hlc, HlcError, HlcTimestamp};
pub use lamport::{LamportClock, LamportExhausted, LamportTime};
pub use vector::{VersionVector, VersionVectorError};

use std::cmp::Ordering;

/// How two events, or two versions, stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum CausalOrder {
    /// Both know the same events.
    Equal,
    /// The left one is known to the right one.
    Before,
    /// The right one is known to the left one.
    After,
    /// Neither knows the other: a conflict, if they concern the same thing.
    Concurrent,
}

impl CausalOrder {
    /// Returns the order seen from the other side.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Before => Self::After,
            Self::After => Self::Before,
            same => same,
        }
    }

    /// Says whether neither knows the other.
    #[must_use]
    pub const fn is_concurrent(self) -> bool {
        matches!(self, Self::Concurrent)
    }

    /// Returns the order as [`PartialOrd`] has it; none if concurrent.
    #[must_use]
    pub const fn to_ordering(self) -> Option<Ordering> {
        match self {
            Self::Equal => Some(Ordering::Equal),
            Self::Before => Some(Ordering::Less),
            Self::After => Some(Ordering::Greater),
            Self::Concurrent => None,
        }
    }
}
