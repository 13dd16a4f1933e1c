//! The services: readiness is the inner service's, the rest is in the futures.

use super::future::{HedgeFuture, RetryFuture, ServiceOperation, TimeoutFuture};
use super::layer::{HedgeLayer, RetryLayer};
use super::request::RequestRule;
use crate::call::RetryCall;
use crate::error::{RetryError, StopReason, TimedOut};
use crate::hedge::HedgeCall;
use crate::judge::Judge;
use crate::timeout::timeout_on;
use dpat_core::{Class, Classify, Effect, Entropy, Sleep};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// A service with retries. Made by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S, J, Q, T, R> {
    pub(crate) inner: S,
    pub(crate) layer: RetryLayer<J, Q, T, R>,
}

impl<S, Req, J, Q, T, R> Service<Req> for RetryService<S, J, Q, T, R>
where
    S: Service<Req> + Clone,
    J: Judge<S::Response, S::Error> + Clone,
    Q: RequestRule<Req> + Clone,
    T: Sleep + Clone,
    R: Entropy + Clone,
{
    type Response = S::Response;
    type Error = RetryError<S::Error>;
    type Future = RetryFuture<S, Req, J, Q, T, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(not_ready)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let RetryLayer {
            policy,
            judge,
            rule,
            time,
            entropy,
        } = self.layer.clone();
        let deadline = rule.deadline(&request);
        let operation = ServiceOperation::new(take_ready(&mut self.inner), request, rule);
        RetryFuture {
            call: RetryCall::new(operation, time, policy)
                .judge_by(judge)
                .entropy(entropy)
                .deadline(deadline),
        }
    }
}

/// A service with hedges. Made by [`HedgeLayer`].
#[derive(Clone, Debug)]
pub struct HedgeService<S, J, Q, T> {
    pub(crate) inner: S,
    pub(crate) layer: HedgeLayer<J, Q, T>,
}

impl<S, Req, J, Q, T> Service<Req> for HedgeService<S, J, Q, T>
where
    S: Service<Req> + Clone,
    J: Judge<S::Response, S::Error> + Clone,
    Q: RequestRule<Req> + Clone,
    T: Sleep + Clone,
{
    type Response = S::Response;
    type Error = RetryError<S::Error>;
    type Future = HedgeFuture<S, Req, J, Q, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(not_ready)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let HedgeLayer {
            policy,
            judge,
            rule,
            time,
        } = self.layer.clone();
        let deadline = rule.deadline(&request);
        let operation = ServiceOperation::new(take_ready(&mut self.inner), request, rule);
        HedgeFuture {
            call: HedgeCall::new(operation, time, policy)
                .judge_by(judge)
                .deadline(deadline),
        }
    }
}

/// A service with a time limit. Made by [`TimeoutLayer`](crate::tower::TimeoutLayer).
#[derive(Clone, Debug)]
pub struct TimeoutService<S, T> {
    pub(crate) inner: S,
    pub(crate) limit: Duration,
    pub(crate) time: T,
}

impl<S, Req, T> Service<Req> for TimeoutService<S, T>
where
    S: Service<Req>,
    T: Sleep + Clone,
{
    type Response = S::Response;
    type Error = TimeoutError<S::Error>;
    type Future = TimeoutFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(TimeoutError::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        TimeoutFuture {
            call: timeout_on(self.time.clone(), self.limit, self.inner.call(request)),
        }
    }
}

/// Why a call through a [`TimeoutService`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeoutError<E> {
    /// The time was up.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The inner service failed.
    #[error("{0}")]
    Inner(#[source] E),
}

impl<E: Classify> Classify for TimeoutError<E> {
    fn class(&self) -> Class {
        match self {
            Self::TimedOut(error) => error.class(),
            Self::Inner(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::TimedOut(error) => error.effect(),
            Self::Inner(error) => error.effect(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TimedOut(error) => error.retry_after(),
            Self::Inner(error) => error.retry_after(),
        }
    }
}

/// Takes the instance whose readiness was awaited and leaves a fresh clone, as tower's contract asks.
fn take_ready<S: Clone>(inner: &mut S) -> S {
    let fresh = inner.clone();
    std::mem::replace(inner, fresh)
}

/// Nothing was sent, so nothing was done.
const fn not_ready<E>(error: E) -> RetryError<E> {
    RetryError {
        reason: StopReason::NotRetryable,
        attempts: 0,
        elapsed: Duration::ZERO,
        effect: Effect::NotDone,
        timed_out: false,
        last: Some(error),
    }
}
