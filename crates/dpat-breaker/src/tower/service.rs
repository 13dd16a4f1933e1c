use super::ResponseFuture;
use crate::{Breaker, CallError, Classifier, ErrIsFailure};
use dpat_core::{Clock, SystemClock};
use std::fmt;
use std::task::{Context, Poll, ready};
use tower_service::Service;

/// A service behind a breaker. Made by [`BreakerLayer`](crate::BreakerLayer).
///
/// The breaker is asked in `call`, not in `poll_ready`: readiness is the inner service's alone, and an open breaker
/// answers at once with [`CallError::Rejected`] instead of making callers wait. The readiness that the inner service
/// gave for a refused call stays reserved for the next one.
#[derive(Clone)]
pub struct BreakerService<S, C = SystemClock, K = ErrIsFailure> {
    inner: S,
    breaker: Breaker<C>,
    classifier: K,
}

impl<S, C: Clock, K> BreakerService<S, C, K> {
    pub(super) fn new(inner: S, breaker: Breaker<C>, classifier: K) -> Self {
        Self {
            inner,
            breaker,
            classifier,
        }
    }

    /// Returns the breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker<C> {
        &self.breaker
    }

    /// Returns the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service and drops this handle of the breaker.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, K, Request> Service<Request> for BreakerService<S, C, K>
where
    S: Service<Request>,
    C: Clock,
    K: Classifier<Result<S::Response, S::Error>> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ResponseFuture<S::Future, C, K>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(ready!(self.inner.poll_ready(cx)).map_err(CallError::Inner))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.breaker.try_acquire_owned() {
            Ok(permit) => {
                ResponseFuture::admitted(self.inner.call(request), permit, self.classifier.clone())
            }
            Err(rejected) => ResponseFuture::rejected(rejected),
        }
    }
}

impl<S: fmt::Debug, C: Clock, K> fmt::Debug for BreakerService<S, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerService")
            .field("inner", &self.inner)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
