//! Why an id was not made or not read.

use crate::{Class, Classify, Effect, Wall};
use std::fmt;
use std::time::Duration;

/// Why a generator gave no id. It stays usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerateError {
    /// The next id may be made after this time. The generator itself never sleeps.
    Wait(Duration),
    /// The clock went back by this much, and the policy is to fail.
    ClockWentBack(Duration),
    /// The counter of this millisecond is used up.
    CounterExhausted,
    /// The time does not fit the id's timestamp field.
    TimeOutOfRange,
    /// The next id lies beyond the reservation; store and reserve a mark later than this.
    Unreserved(Wall),
}

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(left) => write!(f, "no id before another {left:?}"),
            Self::ClockWentBack(by) => write!(f, "the clock went back by {by:?}"),
            Self::CounterExhausted => f.write_str("the id counter of this millisecond is used up"),
            Self::TimeOutOfRange => f.write_str("the time does not fit the id's timestamp field"),
            Self::Unreserved(wall) => {
                write!(f, "ids up to {} ns are not reserved", wall.as_nanos())
            }
        }
    }
}

impl std::error::Error for GenerateError {}

impl Classify for GenerateError {
    fn class(&self) -> Class {
        match self {
            Self::Wait(_) | Self::CounterExhausted => Class::Overloaded,
            Self::ClockWentBack(_) | Self::Unreserved(_) => Class::Unavailable,
            Self::TimeOutOfRange => Class::Permanent,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait(left) => Some(*left),
            _ => None,
        }
    }
}

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text has this many bytes, which no form of the id has.
    Length(usize),
    /// The byte at this position does not belong there.
    Byte(usize),
    /// The value does not fit the id's bits.
    Overflow,
    /// The text is a UUID of another version or variant.
    Version,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => write!(f, "id text: no form of the id has {bytes} bytes"),
            Self::Byte(position) => write!(f, "id text: unexpected byte at {position}"),
            Self::Overflow => f.write_str("id text: the value is too large"),
            Self::Version => f.write_str("id text: another UUID version or variant"),
        }
    }
}

impl std::error::Error for ParseIdError {}

impl Classify for ParseIdError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}
