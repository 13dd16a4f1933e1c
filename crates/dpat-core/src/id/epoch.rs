//! Which generation.

use crate::{Class, Classify, Effect};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A generation: the number of a leadership, a lease or a configuration.
///
/// It only ever grows (Joshi 2023, "Patterns of Distributed Systems", Generation Clock). The resource that is written
/// to refuses older epochs through a [`Fence`], which makes it a fencing token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Epoch(u64);

impl Epoch {
    /// Before the first generation.
    pub const ZERO: Self = Self(0);
    /// The last generation.
    pub const MAX: Self = Self(u64::MAX);

    /// Makes the generation of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the following generation. Store it before it is used.
    ///
    /// # Errors
    /// [`EpochExhausted`] after [`Epoch::MAX`]: wrapping would let the oldest holder in.
    pub const fn next(self) -> Result<Self, EpochExhausted> {
        match self.0.checked_add(1) {
            Some(number) => Ok(Self(number)),
            None => Err(EpochExhausted),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Epoch {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// There is no epoch after [`Epoch::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochExhausted;

impl fmt::Display for EpochExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("epoch: there is none after 2^64 - 1")
    }
}

impl std::error::Error for EpochExhausted {}

impl Classify for EpochExhausted {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// The highest epoch that a resource has seen.
///
/// # Examples
/// ```
/// use dpat_core::{Epoch, Fence};
///
/// let mut fence = Fence::default();
/// fence.admit(Epoch::new(33))?;
/// fence.admit(Epoch::new(34))?;
/// assert!(fence.admit(Epoch::new(33)).is_err(), "the old holder woke up too late");
/// # Ok::<(), dpat_core::StaleEpoch>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Fence(Epoch);

impl Fence {
    /// Starts with the highest epoch known, as it was stored.
    #[must_use]
    pub const fn new(highest: Epoch) -> Self {
        Self(highest)
    }

    /// Returns the highest epoch seen.
    #[must_use]
    pub const fn highest(&self) -> Epoch {
        self.0
    }

    /// Admits a token that is as high as any seen before, and remembers it.
    ///
    /// # Errors
    /// [`StaleEpoch`] for a lower one; nothing is remembered.
    pub fn admit(&mut self, token: Epoch) -> Result<(), StaleEpoch> {
        if token < self.0 {
            return Err(StaleEpoch {
                token,
                highest: self.0,
            });
        }
        self.0 = token;
        Ok(())
    }
}

/// A token from a generation that has been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleEpoch {
    /// The token that was refused.
    pub token: Epoch,
    /// The highest epoch seen.
    pub highest: Epoch,
}

impl fmt::Display for StaleEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {} is stale: {} has been seen",
            self.token, self.highest
        )
    }
}

impl std::error::Error for StaleEpoch {}

impl Classify for StaleEpoch {
    fn class(&self) -> Class {
        Class::Conflict
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_is_checked() {
        assert_eq!(Epoch::ZERO.next(), Ok(Epoch::new(1)));
        assert_eq!(Epoch::MAX.next(), Err(EpochExhausted));
    }

    #[test]
    fn a_fence_refuses_older_tokens_and_admits_the_same_again() {
        let mut fence = Fence::new(Epoch::new(5));
        assert_eq!(fence.admit(Epoch::new(5)), Ok(()));
        assert_eq!(fence.admit(Epoch::new(7)), Ok(()));
        let stale = StaleEpoch {
            token: Epoch::new(6),
            highest: Epoch::new(7),
        };
        assert_eq!(fence.admit(Epoch::new(6)), Err(stale));
        assert_eq!(fence.highest(), Epoch::new(7));
    }
}
