//! What the result of a call says about the health of the other side.

use dpat_core::Classify;
use std::time::Duration;

/// What a breaker counts a call as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The other side did its work.
    Success,
    /// The other side is at fault.
    Failure,
    /// Says nothing about the other side: the permit goes back and nothing is counted.
    Ignored,
}

/// An [`Outcome`] with its weight and what the other side asked for.
///
/// # Examples
/// ```
/// use dpat_breaker::Verdict;
/// // A timeout weighs as much as five quick errors.
/// let verdict = Verdict::failure().weighing(5);
/// assert_eq!(verdict.weight(), 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    outcome: Outcome,
    weight: u8,
    retry_after: Option<Duration>,
}

impl Verdict {
    const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            weight: 1,
            retry_after: None,
        }
    }

    /// Counts the call as a success of weight 1.
    #[must_use]
    pub const fn success() -> Self {
        Self::new(Outcome::Success)
    }

    /// Counts the call as a failure of weight 1.
    #[must_use]
    pub const fn failure() -> Self {
        Self::new(Outcome::Failure)
    }

    /// Does not count the call.
    #[must_use]
    pub const fn ignored() -> Self {
        Self::new(Outcome::Ignored)
    }

    /// Judges an error by its [`Class`](dpat_core::Class).
    ///
    /// A fault of the peer is a failure and carries its `retry_after`; the caller's own mistakes, conflicts and
    /// cancellations are ignored.
    #[must_use]
    pub fn of_error<E: Classify + ?Sized>(error: &E) -> Self {
        if error.class().is_peer_fault() {
            Self {
                retry_after: error.retry_after(),
                ..Self::failure()
            }
        } else {
            Self::ignored()
        }
    }

    /// Sets the weight in failure and slow-call rates; 0 counts as 1.
    ///
    /// A call of weight 3 counts there as three calls. Minimum calls, consecutive failures, m-of-n and probes count
    /// every call once.
    #[must_use]
    pub const fn weighing(mut self, weight: u8) -> Self {
        self.weight = if weight == 0 { 1 } else { weight };
        self
    }

    /// Adds how long the other side asks callers to stay away (`Retry-After`).
    #[must_use]
    pub const fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// Returns the outcome.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns the weight, at least 1.
    #[must_use]
    pub const fn weight(&self) -> u8 {
        self.weight
    }

    /// Returns how long the other side asks callers to stay away.
    #[must_use]
    pub const fn requested_delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Says whether it is a success or a failure of weight 1.
    pub(crate) const fn is_plain(&self) -> bool {
        !matches!(self.outcome, Outcome::Ignored) && self.weight == 1
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome)
    }
}

/// Judges results of type `R`.
pub trait Classifier<R> {
    /// Returns the verdict on one result.
    fn verdict(&self, result: &R) -> Verdict;
}

/// Counts every `Ok` as a success and every `Err` as a failure. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrIsFailure;

impl<T, E> Classifier<Result<T, E>> for ErrIsFailure {
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(_) => Verdict::failure(),
        }
    }
}

/// Counts every `Ok` as a success and judges errors by their [`Class`](dpat_core::Class); see
/// [`Verdict::of_error`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClass;

impl<T, E: Classify> Classifier<Result<T, E>> for ByClass {
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) => Verdict::of_error(error),
        }
    }
}

/// Counts a failure where a closure says so, and a success otherwise.
#[derive(Clone, Copy, Debug)]
pub struct FailureIf<F>(pub F);

impl<R, F: Fn(&R) -> bool> Classifier<R> for FailureIf<F> {
    fn verdict(&self, result: &R) -> Verdict {
        if (self.0)(result) {
            Verdict::failure()
        } else {
            Verdict::success()
        }
    }
}

/// Takes the whole verdict from a closure.
#[derive(Clone, Copy, Debug)]
pub struct VerdictBy<F>(pub F);

impl<R, V: Into<Verdict>, F: Fn(&R) -> V> Classifier<R> for VerdictBy<F> {
    fn verdict(&self, result: &R) -> Verdict {
        (self.0)(result).into()
    }
}

impl<R, K: Classifier<R> + ?Sized> Classifier<R> for &K {
    fn verdict(&self, result: &R) -> Verdict {
        (**self).verdict(result)
    }
}
