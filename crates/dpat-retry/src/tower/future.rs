//! The futures: the calls of this crate over a service.

use super::request::RequestRule;
use super::service::TimeoutError;
use crate::call::{RetryCall, Silent};
use crate::error::RetryError;
use crate::hedge::HedgeCall;
use crate::judge::Judge;
use crate::machine::Attempt;
use crate::operation::Operation;
use crate::timeout::Timeout;
use dpat_core::{Entropy, Sleep};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_service::Service;

/// Marks an operation that calls a service.
#[derive(Clone, Copy, Debug)]
pub struct ViaService;

/// One request to a service, sent as often as needed.
#[derive(Debug)]
pub struct ServiceOperation<S, Req, Q> {
    /// Ready for the first attempt; cloned for each further one.
    service: S,
    /// The request of the next attempt, if there can be one.
    request: Option<Req>,
    rule: Q,
}

impl<S, Req, Q> ServiceOperation<S, Req, Q> {
    pub(crate) const fn new(ready: S, request: Req, rule: Q) -> Self {
        Self {
            service: ready,
            request: Some(request),
            rule,
        }
    }
}

impl<S, Req, Q> Operation<ViaService> for ServiceOperation<S, Req, Q>
where
    S: Service<Req> + Clone,
    Q: RequestRule<Req>,
{
    type Value = S::Response;
    type Error = S::Error;
    type Future = ServiceAttempt<S, Req, S::Future>;

    fn attempt(&mut self, attempt: Attempt) -> Self::Future {
        let request = self
            .request
            .take()
            .expect("an attempt is started only if the operation is repeatable");
        self.request = self.rule.repeat(&request);
        let state = if attempt.number() == 1 {
            AttemptState::Called {
                response: self.service.call(request),
            }
        } else {
            AttemptState::Readying {
                service: self.service.clone(),
                request: Some(request),
            }
        };
        ServiceAttempt { state }
    }

    fn is_repeatable(&self) -> bool {
        self.request.is_some()
    }
}

pin_project! {
    /// One attempt: waits until a clone is ready, unless it is the first, then calls it.
    #[derive(Debug)]
    pub struct ServiceAttempt<S, Req, F> {
        #[pin]
        state: AttemptState<S, Req, F>,
    }
}

pin_project! {
    #[project = AttemptProj]
    #[derive(Debug)]
    enum AttemptState<S, Req, F> {
        Readying { service: S, request: Option<Req> },
        Called { #[pin] response: F },
    }
}

impl<S: Service<Req>, Req> Future for ServiceAttempt<S, Req, S::Future> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let response = match state.as_mut().project() {
                AttemptProj::Called { response } => return response.poll(cx),
                AttemptProj::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let request = request
                        .take()
                        .expect("the request leaves together with this state");
                    service.call(request)
                }
            };
            state.set(AttemptState::Called { response });
        }
    }
}

pin_project! {
    /// The future of a [`RetryService`](crate::tower::RetryService). Cancel safety: as [`RetryCall`].
    #[derive(Debug)]
    pub struct RetryFuture<S, Req, J, Q, T, R>
    where
        S: Service<Req>,
        S: Clone,
        Q: RequestRule<Req>,
        T: Sleep,
    {
        #[pin]
        pub(crate) call: RetryCall<ServiceOperation<S, Req, Q>, ViaService, J, Silent, T, R>,
    }
}

impl<S, Req, J, Q, T, R> Future for RetryFuture<S, Req, J, Q, T, R>
where
    S: Service<Req> + Clone,
    J: Judge<S::Response, S::Error>,
    Q: RequestRule<Req>,
    T: Sleep,
    R: Entropy,
{
    type Output = Result<S::Response, RetryError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

pin_project! {
    /// The future of a [`HedgeService`](crate::tower::HedgeService). Cancel safety: as [`HedgeCall`].
    #[derive(Debug)]
    pub struct HedgeFuture<S, Req, J, Q, T>
    where
        S: Service<Req>,
        S: Clone,
        Q: RequestRule<Req>,
        T: Sleep,
    {
        #[pin]
        pub(crate) call: HedgeCall<ServiceOperation<S, Req, Q>, ViaService, J, T>,
    }
}

impl<S, Req, J, Q, T> Future for HedgeFuture<S, Req, J, Q, T>
where
    S: Service<Req> + Clone,
    J: Judge<S::Response, S::Error>,
    Q: RequestRule<Req>,
    T: Sleep,
{
    type Output = Result<S::Response, RetryError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

pin_project! {
    /// The future of a [`TimeoutService`](crate::tower::TimeoutService). Cancel safety: as [`Timeout`].
    pub struct TimeoutFuture<F, T>
    where
        T: Sleep,
    {
        #[pin]
        pub(crate) call: Timeout<F, T>,
    }
}

impl<F, T: Sleep> fmt::Debug for TimeoutFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

impl<F, V, E, T> Future for TimeoutFuture<F, T>
where
    F: Future<Output = Result<V, E>>,
    T: Sleep,
{
    type Output = Result<V, TimeoutError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.project().call.poll(cx))?;
        Poll::Ready(outcome.map_err(TimeoutError::Inner))
    }
}
