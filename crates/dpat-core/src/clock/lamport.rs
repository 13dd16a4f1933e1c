//! Lamport's logical clock.

use crate::{Class, Classify, Effect, NodeId};
use std::fmt;

/// A logical time with its node, which makes the order total.
///
/// If one event happened before another, its time is smaller; the converse does not hold (Lamport 1978, "Time, Clocks,
/// and the Ordering of Events in a Distributed System"). Nodes break ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LamportTime {
    /// The counter.
    pub time: u64,
    /// Whose it is.
    pub node: NodeId,
}

/// A counter that no event leaves unchanged.
///
/// # Examples
/// ```
/// use dpat_core::{LamportClock, NodeId};
///
/// let mut a = LamportClock::new(NodeId::new(1));
/// let mut b = LamportClock::new(NodeId::new(2));
/// let sent = a.tick()?;
/// let received = b.receive(sent)?;
/// assert!(sent < received);
/// # Ok::<(), dpat_core::LamportExhausted>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LamportClock(LamportTime);

/// The counter, or one that was received, is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LamportExhausted;

impl fmt::Display for LamportExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lamport time: there is none after 2^64 - 1")
    }
}

impl std::error::Error for LamportExhausted {}

impl Classify for LamportExhausted {
    fn class(&self) -> Class {
        Class::Corrupt
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl LamportClock {
    /// Starts at zero.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self(LamportTime { time: 0, node })
    }

    /// Returns the time of the last event.
    #[must_use]
    pub const fn last(&self) -> LamportTime {
        self.0
    }

    /// Stamps a local event, such as the sending of a message.
    ///
    /// # Errors
    /// [`LamportExhausted`]; the clock is unchanged.
    pub fn tick(&mut self) -> Result<LamportTime, LamportExhausted> {
        self.0.time = self.0.time.checked_add(1).ok_or(LamportExhausted)?;
        Ok(self.0)
    }

    /// Stamps the receipt of a message: later than both clocks.
    ///
    /// # Errors
    /// [`LamportExhausted`] if the message's time is the last one, which only a broken peer sends; the clock is
    /// unchanged.
    pub fn receive(&mut self, message: LamportTime) -> Result<LamportTime, LamportExhausted> {
        let latest = self.0.time.max(message.time);
        self.0.time = latest.checked_add(1).ok_or(LamportExhausted)?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_an_error_and_changes_nothing() {
        let mut clock = LamportClock::new(NodeId::new(1));
        let end = LamportTime {
            time: u64::MAX,
            node: NodeId::new(2),
        };
        assert_eq!(clock.receive(end), Err(LamportExhausted));
        assert_eq!(clock.tick().unwrap().time, 1);
    }

    #[test]
    fn nodes_break_ties() {
        let (mut a, mut b) = (
            LamportClock::new(NodeId::new(1)),
            LamportClock::new(NodeId::new(2)),
        );
        assert!(a.tick().unwrap() < b.tick().unwrap());
    }
}
