//! Calls of futures and closures through a breaker.

use crate::{
    Breaker, ByClass, CallError, Classifier, ErrIsFailure, FailureIf, Rejected, Verdict, VerdictBy,
};
use dpat_core::Clock;
use std::future::Future;

impl<C: Clock> Breaker<C> {
    /// Runs `call` if the breaker admits it; `Err` is a failure.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if the breaker refuses: `call` is dropped without being polled. [`CallError::Inner`]
    /// carries the error of `call`.
    ///
    /// # Cancel safety
    /// Dropping the future drops `call`, returns the permit and counts nothing. A time limit that should count as a
    /// failure therefore belongs inside `call`.
    pub async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        self.classified(ErrIsFailure).call(call).await
    }

    /// Runs `call` on this thread if the breaker admits it; `Err` is a failure.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    #[inline]
    pub fn call_sync<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.classified(ErrIsFailure).call_sync(call)
    }

    /// Counts as failures the results that `is_failure` says are.
    ///
    /// # Examples
    /// ```
    /// use dpat_breaker::Breaker;
    /// use std::io::{Error, ErrorKind};
    ///
    /// let breaker = Breaker::default();
    /// let missing: Result<(), _> = breaker
    ///     .failure_if(|r: &Result<(), Error>| matches!(r, Err(e) if e.kind() != ErrorKind::NotFound))
    ///     .call_sync(|| Err(ErrorKind::NotFound.into()));
    /// assert!(missing.is_err());
    /// assert_eq!(breaker.snapshot().trips()[0].hits, 0); // an answer, not a failure
    /// ```
    pub fn failure_if<R, F: Fn(&R) -> bool>(
        &self,
        is_failure: F,
    ) -> Classified<'_, C, FailureIf<F>> {
        self.classified(FailureIf(is_failure))
    }

    /// Judges results by a closure that returns an [`Outcome`](crate::Outcome) or a [`Verdict`].
    ///
    /// # Examples
    /// ```
    /// use dpat_breaker::{Breaker, Verdict};
    /// use std::io::{Error, ErrorKind};
    ///
    /// let breaker = Breaker::default();
    /// let _ = breaker
    ///     .verdict_by(|r: &Result<(), Error>| match r {
    ///         Ok(()) => Verdict::success(),
    ///         Err(e) if e.kind() == ErrorKind::TimedOut => Verdict::failure().weighing(3),
    ///         Err(e) if e.kind() == ErrorKind::Interrupted => Verdict::ignored(),
    ///         Err(_) => Verdict::failure(),
    ///     })
    ///     .call_sync(|| Err(ErrorKind::TimedOut.into()));
    /// ```
    pub fn verdict_by<R, V: Into<Verdict>, F: Fn(&R) -> V>(
        &self,
        judge: F,
    ) -> Classified<'_, C, VerdictBy<F>> {
        self.classified(VerdictBy(judge))
    }

    /// Judges errors by their [`Class`](dpat_core::Class); see [`Verdict::of_error`].
    pub fn by_class(&self) -> Classified<'_, C, ByClass> {
        self.classified(ByClass)
    }

    /// Judges results by `classifier`.
    #[inline]
    pub fn classified<K>(&self, classifier: K) -> Classified<'_, C, K> {
        Classified {
            breaker: self,
            classifier,
        }
    }
}

/// A breaker together with the way to judge results. Made by [`Breaker::failure_if`] and its siblings.
///
/// `Copy` if the classifier is, as closures without captures and references to closures are: keep it and call again.
#[derive(Debug)]
#[must_use = "nothing is called until `call` or `call_sync`"]
pub struct Classified<'a, C: Clock, K> {
    breaker: &'a Breaker<C>,
    classifier: K,
}

impl<C: Clock, K: Clone> Clone for Classified<'_, C, K> {
    fn clone(&self) -> Self {
        Self {
            breaker: self.breaker,
            classifier: self.classifier.clone(),
        }
    }
}

impl<C: Clock, K: Copy> Copy for Classified<'_, C, K> {}

impl<C: Clock, K> Classified<'_, C, K> {
    /// Runs `call` if the breaker admits it.
    ///
    /// # Errors
    /// As [`Breaker::call`].
    ///
    /// # Cancel safety
    /// As [`Breaker::call`].
    pub async fn call<T, E>(
        self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>>
    where
        K: Classifier<Result<T, E>>,
    {
        let permit = self.breaker.try_acquire()?;
        let result = call.await;
        permit.record(self.classifier.verdict(&result));
        result.map_err(CallError::Inner)
    }

    /// Runs `call` on this thread if the breaker admits it.
    ///
    /// # Errors
    /// As [`Breaker::call`].
    #[inline]
    pub fn call_sync<T, E>(self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        K: Classifier<Result<T, E>>,
    {
        let permit = self.breaker.try_acquire()?;
        let result = call();
        permit.record(self.classifier.verdict(&result));
        result.map_err(CallError::Inner)
    }

    /// Runs `call`, whose output need not be a `Result`, if the breaker admits it.
    ///
    /// # Errors
    /// [`Rejected`] if the breaker refuses.
    ///
    /// # Cancel safety
    /// As [`Breaker::call`].
    pub async fn call_any<R>(self, call: impl Future<Output = R>) -> Result<R, Rejected>
    where
        K: Classifier<R>,
    {
        let permit = self.breaker.try_acquire()?;
        let result = call.await;
        permit.record(self.classifier.verdict(&result));
        Ok(result)
    }
}
