//! What can be tried again, and the methods that do it.

use crate::call::{RetryCall, Silent};
use crate::config::Retry;
use crate::hedge::{Hedge, HedgeCall};
use crate::judge::AnyError;
use crate::machine::Attempt;
#[cfg(feature = "tokio")]
use dpat_core::TokioTime;
use dpat_core::{Sleep, SystemEntropy};
use std::future::Future;

/// Marks an operation that takes no argument.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// Marks an operation that takes its [`Attempt`].
#[derive(Clone, Copy, Debug)]
pub struct WithAttempt;

/// Something that makes a future for each attempt.
///
/// Implemented for `FnMut() -> Future` and for `FnMut(Attempt) -> Future`, where the future gives a `Result`. `M`
/// keeps the two apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be tried again",
    note = "write a closure `|| async {{ … }}` or `|attempt: Attempt| async {{ … }}` that returns a `Result`"
)]
pub trait Operation<M> {
    /// What a successful attempt gives.
    type Value;
    /// What a failed attempt gives.
    type Error;
    /// One attempt.
    type Future: Future<Output = Result<Self::Value, Self::Error>>;

    /// Starts an attempt.
    fn attempt(&mut self, attempt: Attempt) -> Self::Future;

    /// Says whether another attempt could be started.
    fn is_repeatable(&self) -> bool {
        true
    }
}

impl<F, Fut, T, E> Operation<Plain> for F
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Value = T;
    type Error = E;
    type Future = Fut;

    fn attempt(&mut self, _: Attempt) -> Fut {
        self()
    }
}

impl<F, Fut, T, E> Operation<WithAttempt> for F
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Value = T;
    type Error = E;
    type Future = Fut;

    fn attempt(&mut self, attempt: Attempt) -> Fut {
        self(attempt)
    }
}

/// Adds `retry` and `hedge` to closures that make futures.
///
/// # Examples
/// ```
/// use dpat_retry::{Retry, RetryExt};
/// # async fn fetch() -> Result<u32, std::io::Error> { Ok(7) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let answer = fetch.retry(Retry::default()).await?;
/// # assert_eq!(answer, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub trait RetryExt<M>: Operation<M> + Sized {
    /// Tries again after failures, in tokio's time.
    #[cfg(feature = "tokio")]
    fn retry(
        self,
        policy: Retry,
    ) -> RetryCall<Self, M, AnyError, Silent, TokioTime, SystemEntropy> {
        self.retry_on(TokioTime, policy)
    }

    /// Tries again after failures, in `time`'s time.
    ///
    /// Surrounding deadlines must be readings of the same clock.
    fn retry_on<S: Sleep>(
        self,
        time: S,
        policy: Retry,
    ) -> RetryCall<Self, M, AnyError, Silent, S, SystemEntropy> {
        RetryCall::new(self, time, policy)
    }

    /// Starts a second attempt when the first is slow or fails, in tokio's time.
    #[cfg(feature = "tokio")]
    fn hedge(self, policy: Hedge) -> HedgeCall<Self, M, AnyError, TokioTime> {
        self.hedge_on(TokioTime, policy)
    }

    /// Starts a second attempt when the first is slow or fails, in `time`'s time.
    fn hedge_on<S: Sleep>(self, time: S, policy: Hedge) -> HedgeCall<Self, M, AnyError, S> {
        HedgeCall::new(self, time, policy)
    }
}

impl<M, Op: Operation<M>> RetryExt<M> for Op {}
