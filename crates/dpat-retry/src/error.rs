//! Why an operation was given up, and what cannot be configured.

use dpat_core::{Class, Classify, Effect};
use std::fmt;
use std::time::Duration;

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The judge called the failure final.
    NotRetryable,
    /// The last allowed attempt failed.
    AttemptsExhausted,
    /// The deadline of the whole operation passed.
    DeadlineExceeded,
    /// The deadline would have passed before the next attempt could start.
    DeadlineWouldPass,
    /// The retry budget had nothing left.
    BudgetEmpty,
    /// The other side asked not to be called again.
    PushedBack,
    /// The operation is not idempotent, and the failed attempt may have taken effect.
    MayHaveHappened,
    /// The operation runs inside an attempt of another retry, which does the retrying.
    Nested,
    /// The request cannot be repeated (its cloning rule gave nothing).
    NotRepeatable,
}

impl StopReason {
    /// Returns a short name for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::DeadlineWouldPass => "deadline_would_pass",
            Self::BudgetEmpty => "budget_empty",
            Self::PushedBack => "pushed_back",
            Self::MayHaveHappened => "may_have_happened",
            Self::Nested => "nested",
            Self::NotRepeatable => "not_repeatable",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "the failure is final",
            Self::AttemptsExhausted => "no attempts are left",
            Self::DeadlineExceeded => "the deadline has passed",
            Self::DeadlineWouldPass => "the deadline would pass before the next attempt",
            Self::BudgetEmpty => "the retry budget is empty",
            Self::PushedBack => "the other side asked not to retry",
            Self::MayHaveHappened => "the operation may have happened and is not idempotent",
            Self::Nested => "an outer retry does the retrying",
            Self::NotRepeatable => "the request cannot be repeated",
        })
    }
}

/// A failed operation: the last error, and why there was no further attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryError<E> {
    pub(crate) reason: StopReason,
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
    pub(crate) effect: Effect,
    pub(crate) timed_out: bool,
    pub(crate) last: Option<E>,
}

impl<E> RetryError<E> {
    /// Returns why no further attempt was made.
    #[must_use]
    pub const fn reason(&self) -> StopReason {
        self.reason
    }

    /// Returns how many attempts were started.
    ///
    /// None, if the deadline had passed before the first.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the time from the first poll to the end, waits included.
    ///
    /// If nothing limits the time of the operation, no clock is read, and this is the sum of the waits.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Says whether every attempt surely changed nothing.
    ///
    /// [`Effect::NotDone`] only if each attempt's judge said so; an attempt that timed out may have happened.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Says whether time cut the last attempt off.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Returns the latest error that an attempt gave; none if each was cut off.
    #[must_use]
    pub const fn last(&self) -> Option<&E> {
        self.last.as_ref()
    }

    /// Returns the latest error by value.
    #[must_use]
    pub fn into_last(self) -> Option<E> {
        self.last
    }

    /// Changes the type of the latest error.
    #[must_use]
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> RetryError<F> {
        RetryError {
            reason: self.reason,
            attempts: self.attempts,
            elapsed: self.elapsed,
            effect: self.effect,
            timed_out: self.timed_out,
            last: self.last.map(change),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            attempts,
            elapsed,
            ..
        } = self;
        let noun = if *attempts == 1 {
            "attempt"
        } else {
            "attempts"
        };
        write!(
            f,
            "gave up after {attempts} {noun} in {elapsed:?}: {reason}"
        )?;
        match &self.last {
            Some(last) => write!(f, " (last error: {last})"),
            None if self.timed_out => f.write_str(" (timed out)"),
            None => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.last
            .as_ref()
            .map(|last| last as &(dyn std::error::Error + 'static))
    }
}

impl<E: Classify> Classify for RetryError<E> {
    /// Returns the last error's class, or a timeout if time cut the operation off.
    fn class(&self) -> Class {
        match &self.last {
            Some(last) if !self.timed_out => last.class(),
            _ => Class::Timeout,
        }
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn retry_after(&self) -> Option<Duration> {
        self.last.as_ref().and_then(Classify::retry_after)
    }
}

/// The time allowed to one future has passed; the future was dropped.
///
/// The work may have happened: [`Effect::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {limit:?}")]
pub struct TimedOut {
    pub(crate) limit: Duration,
    pub(crate) started: bool,
}

impl TimedOut {
    /// Returns the time that was allowed.
    ///
    /// Less than the given limit, if a surrounding deadline was nearer.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl Classify for TimedOut {
    fn class(&self) -> Class {
        Class::Timeout
    }

    /// Unknown, unless the deadline had passed before the future was first polled.
    fn effect(&self) -> Effect {
        if self.started {
            Effect::Unknown
        } else {
            Effect::NotDone
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The value is below its limit.
    #[error("{field}: must be at least {min}")]
    TooSmall {
        /// The setting.
        field: &'static str,
        /// The smallest allowed value.
        min: u64,
    },
    /// The value is above its limit.
    #[error("{field}: must be at most {max}")]
    TooLarge {
        /// The setting.
        field: &'static str,
        /// The largest allowed value.
        max: u64,
    },
    /// The value is no number in its range.
    #[error("{field}: {value} is not in {min}..={max}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: f64,
        /// The smallest allowed value.
        min: f64,
        /// The largest allowed value.
        max: f64,
    },
    /// The new limits are for another kind of budget, or for another window.
    #[error("limits: the kind and the window of a budget cannot change")]
    OtherKind,
}
