//! Errors, one per operation that can fail.

use crate::Cause;
use dpat_core::{Class, Classify, Effect, Instant};
use std::fmt;
use std::time::Duration;

/// A [`Config`](crate::Config) that cannot be. Names the field and its limits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A count is outside its limits.
    #[error("{field}: {got} is not within {min}..={max}")]
    Count {
        /// The field at fault.
        field: &'static str,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
        /// The value given.
        got: u64,
    },
    /// A share or factor is outside its limits, or not a number.
    #[error("{field}: {got} is not above {above} and at most {max}")]
    Ratio {
        /// The field at fault.
        field: &'static str,
        /// The value must be greater than this.
        above: f64,
        /// The largest value allowed.
        max: f64,
        /// The value given.
        got: f64,
    },
    /// A duration is outside its limits.
    #[error("{field}: {got:?} is not within {min:?}..={max:?}")]
    Duration {
        /// The field at fault.
        field: &'static str,
        /// The shortest duration allowed.
        min: Duration,
        /// The longest duration allowed.
        max: Duration,
        /// The value given.
        got: Duration,
    },
    /// A field was set that the trip rule does not use.
    #[error("{field}: a window can be set for failure_rate and slow_rate only")]
    Unused {
        /// The field at fault.
        field: &'static str,
    },
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The breaker is open, tripped by this cause.
    Open(Cause),
    /// The breaker is half-open and all probe permits are out.
    ProbesBusy,
    /// The breaker closes step by step and this call is outside the admitted share.
    Ramping,
    /// The breaker was forced open by hand.
    ForcedOpen,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(cause) => write!(f, "open ({cause})"),
            Self::ProbesBusy => f.write_str("half-open with all probes out"),
            Self::Ramping => f.write_str("closing and admits a share only"),
            Self::ForcedOpen => f.write_str("forced open"),
        }
    }
}

/// A call that was refused before it began.
///
/// As a [`Classify`] it is `Unavailable`, surely `NotDone`, and carries [`Rejected::retry_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rejected {
    reason: Reason,
    /// [`Instant::MAX`] if it is not known.
    retry_at: Instant,
    rejected_at: Instant,
}

impl Rejected {
    pub(crate) const fn new(reason: Reason, retry_at: Instant, rejected_at: Instant) -> Self {
        Self {
            reason,
            retry_at,
            rejected_at,
        }
    }

    /// Returns why the call was refused.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns when a call may be admitted, by the breaker's clock, if that is known.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        (self.retry_at != Instant::MAX).then_some(self.retry_at)
    }

    /// Returns how long to wait before trying again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_at().map(|at| at.since(self.rejected_at))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit breaker is {}", self.reason)?;
        match self.retry_after() {
            Some(delay) => write!(f, "; retry after {delay:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

impl Classify for Rejected {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after()
    }
}

/// The error of a call through a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The breaker refused; the operation never began.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The operation failed.
    #[error("{0}")]
    Inner(#[source] E),
}

impl<E> CallError<E> {
    /// Returns the operation's own error, if it ran.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Returns the refusal, if the operation did not run.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Inner(_) => None,
        }
    }
}

impl<E: Classify> Classify for CallError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Rejected(error) => error.class(),
            Self::Inner(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Rejected(error) => error.effect(),
            Self::Inner(error) => error.effect(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(error) => error.retry_after(),
            Self::Inner(error) => error.retry_after(),
        }
    }
}

/// A registry that is full of breakers which must not be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("capacity: all {capacity} breakers are in use or not closed")]
pub struct RegistryFull {
    pub(crate) capacity: usize,
}

impl RegistryFull {
    /// Returns the limit that was reached.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Classify for RegistryFull {
    fn class(&self) -> Class {
        Class::Overloaded
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}
