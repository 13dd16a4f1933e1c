//! Which outcomes are worth another attempt.

use dpat_core::{Classify, Effect};
use std::time::Duration;

/// What to do about the outcome of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The outcome is what the caller wants.
    Done,
    /// The outcome is a failure that another attempt may cure.
    Retry,
    /// The outcome is a failure that no attempt will cure.
    Stop,
}

/// What the other side asked about the next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PushBack {
    /// Nothing: the backoff decides.
    #[default]
    None,
    /// Not before this much time has passed; clamped by
    /// [`max_retry_after`](crate::RetryBuilder::max_retry_after).
    After(Duration),
    /// Never again.
    Stop,
}

impl PushBack {
    /// Reads the gRPC trailer `grpc-retry-pushback-ms`.
    ///
    /// A negative or unreadable value asks not to retry (gRPC proposal A6, "Pushback").
    #[must_use]
    pub fn from_grpc_millis(value: &str) -> Self {
        value.trim().parse().map_or(Self::Stop, |millis| {
            Self::After(Duration::from_millis(millis))
        })
    }
}

impl From<Option<Duration>> for PushBack {
    fn from(wait: Option<Duration>) -> Self {
        wait.map_or(Self::None, Self::After)
    }
}

impl From<Duration> for PushBack {
    fn from(wait: Duration) -> Self {
        Self::After(wait)
    }
}

/// Judges the outcome of an attempt.
///
/// Most callers use the closures of [`RetryCall`](crate::RetryCall) and [`HedgeCall`](crate::HedgeCall) instead.
pub trait Judge<T, E> {
    /// Says what to do about `outcome`.
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict;

    /// Says whether the failed attempt surely changed nothing.
    fn effect(&self, outcome: &Result<T, E>) -> Effect {
        let _ = outcome;
        Effect::Unknown
    }

    /// Returns what the other side asked for.
    fn push_back(&self, outcome: &Result<T, E>) -> PushBack {
        let _ = outcome;
        PushBack::None
    }
}

/// Retries every `Err`. The default, because nothing is known about a foreign error.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyError;

impl<T, E> Judge<T, E> for AnyError {
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Done,
            Err(_) => Verdict::Retry,
        }
    }
}

/// Retries by [`Classify`]: its class, its effect and its `retry_after`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClass;

impl<T, E: Classify> Judge<T, E> for ByClass {
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Done,
            Err(error) if error.class().is_retryable() => Verdict::Retry,
            Err(_) => Verdict::Stop,
        }
    }

    fn effect(&self, outcome: &Result<T, E>) -> Effect {
        outcome
            .as_ref()
            .err()
            .map_or(Effect::Unknown, Classify::effect)
    }

    fn push_back(&self, outcome: &Result<T, E>) -> PushBack {
        outcome
            .as_ref()
            .err()
            .and_then(Classify::retry_after)
            .into()
    }
}

/// Retries an `Err` for which the closure says yes.
#[derive(Clone, Copy, Debug)]
pub struct RetryIf<F>(pub F);

impl<T, E, F: Fn(&E) -> bool> Judge<T, E> for RetryIf<F> {
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Done,
            Err(error) if (self.0)(error) => Verdict::Retry,
            Err(_) => Verdict::Stop,
        }
    }
}

/// Retries an outcome, `Ok` or `Err`, for which the closure says yes.
#[derive(Clone, Copy, Debug)]
pub struct RetryResultIf<F>(pub F);

impl<T, E, F: Fn(&Result<T, E>) -> bool> Judge<T, E> for RetryResultIf<F> {
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        match outcome {
            _ if (self.0)(outcome) => Verdict::Retry,
            Ok(_) => Verdict::Done,
            Err(_) => Verdict::Stop,
        }
    }
}

/// A judge with another source for what the other side asked.
#[derive(Clone, Copy, Debug)]
pub struct WithPushBack<J, F> {
    pub(crate) judge: J,
    pub(crate) push_back: F,
}

impl<T, E, J, F, P> Judge<T, E> for WithPushBack<J, F>
where
    J: Judge<T, E>,
    F: Fn(&Result<T, E>) -> P,
    P: Into<PushBack>,
{
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        self.judge.verdict(outcome)
    }
    fn effect(&self, outcome: &Result<T, E>) -> Effect {
        self.judge.effect(outcome)
    }
    fn push_back(&self, outcome: &Result<T, E>) -> PushBack {
        (self.push_back)(outcome).into()
    }
}

/// A judge with another source for whether an error surely changed nothing.
#[derive(Clone, Copy, Debug)]
pub struct WithEffect<J, F> {
    pub(crate) judge: J,
    pub(crate) effect: F,
}

impl<T, E, J, F> Judge<T, E> for WithEffect<J, F>
where
    J: Judge<T, E>,
    F: Fn(&E) -> Effect,
{
    fn verdict(&self, outcome: &Result<T, E>) -> Verdict {
        self.judge.verdict(outcome)
    }
    fn effect(&self, outcome: &Result<T, E>) -> Effect {
        outcome
            .as_ref()
            .err()
            .map_or(Effect::Unknown, |error| (self.effect)(error))
    }
    fn push_back(&self, outcome: &Result<T, E>) -> PushBack {
        self.judge.push_back(outcome)
    }
}
