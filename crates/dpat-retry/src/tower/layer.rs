//! The layers: a policy, and how to judge and repeat.

use super::request::{ByClone, WithClone, WithDeadline};
use super::service::{HedgeService, RetryService, TimeoutService};
use crate::config::Retry;
use crate::hedge::Hedge;
use crate::judge::{AnyError, ByClass, RetryIf, RetryResultIf, WithEffect, WithPushBack};
#[cfg(feature = "tokio")]
use dpat_core::TokioTime;
use dpat_core::{Effect, Entropy, Sleep, SystemEntropy};
use std::time::Duration;
use tower_layer::Layer;

impl Retry {
    /// Makes a layer that retries every error of cloneable requests, in tokio's time.
    #[cfg(feature = "tokio")]
    pub fn layer(self) -> RetryLayer<AnyError, ByClone, TokioTime, SystemEntropy> {
        self.layer_on(TokioTime)
    }

    /// Makes a layer that retries every error of cloneable requests, in the time of `time`.
    pub const fn layer_on<T: Sleep>(
        self,
        time: T,
    ) -> RetryLayer<AnyError, ByClone, T, SystemEntropy> {
        RetryLayer {
            policy: self,
            judge: AnyError,
            rule: ByClone,
            time,
            entropy: SystemEntropy,
        }
    }
}

impl Hedge {
    /// Makes a layer that hedges cloneable requests, in tokio's time.
    #[cfg(feature = "tokio")]
    pub fn layer(self) -> HedgeLayer<AnyError, ByClone, TokioTime> {
        self.layer_on(TokioTime)
    }

    /// Makes a layer that hedges cloneable requests, in the time of `time`.
    pub const fn layer_on<T: Sleep>(self, time: T) -> HedgeLayer<AnyError, ByClone, T> {
        HedgeLayer {
            policy: self,
            judge: AnyError,
            rule: ByClone,
            time,
        }
    }
}

/// Puts retries around a service. Made by [`Retry::layer`].
///
/// The service must be `Clone`: each further attempt waits until a clone is ready. Readiness of the first attempt is
/// that of the service itself, so that backpressure reaches the caller.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLayer<J, Q, T, R> {
    pub(crate) policy: Retry,
    pub(crate) judge: J,
    pub(crate) rule: Q,
    pub(crate) time: T,
    pub(crate) entropy: R,
}

impl<J, Q, T, R> RetryLayer<J, Q, T, R> {
    /// Retries the errors for which `predicate` says yes.
    pub fn retry_if<E, F>(self, predicate: F) -> RetryLayer<RetryIf<F>, Q, T, R>
    where
        F: Fn(&E) -> bool,
    {
        self.judge_by(RetryIf(predicate))
    }

    /// Retries the outcomes, `Ok` or `Err`, for which `predicate` says yes.
    pub fn retry_result_if<V, E, F>(self, predicate: F) -> RetryLayer<RetryResultIf<F>, Q, T, R>
    where
        F: Fn(&Result<V, E>) -> bool,
    {
        self.judge_by(RetryResultIf(predicate))
    }

    /// Retries by the error's own class, effect and `retry_after`.
    pub fn by_class(self) -> RetryLayer<ByClass, Q, T, R> {
        self.judge_by(ByClass)
    }

    /// Judges outcomes by `judge`.
    pub fn judge_by<K>(self, judge: K) -> RetryLayer<K, Q, T, R> {
        self.with(|_| judge, |rule| rule)
    }

    /// Reads from the outcome how long the other side asks to wait. Comes after `retry_if` and its like.
    pub fn push_back<V, E, P, F>(self, push_back: F) -> RetryLayer<WithPushBack<J, F>, Q, T, R>
    where
        F: Fn(&Result<V, E>) -> P,
    {
        self.with(|judge| WithPushBack { judge, push_back }, |rule| rule)
    }

    /// Tells which errors surely changed nothing. Comes after `retry_if` and its like.
    pub fn effect_of<E, F>(self, effect: F) -> RetryLayer<WithEffect<J, F>, Q, T, R>
    where
        F: Fn(&E) -> Effect,
    {
        self.with(|judge| WithEffect { judge, effect }, |rule| rule)
    }

    /// Repeats requests by a closure; a request for which it gives none is sent once.
    pub fn clone_request<Req, F>(self, clone: F) -> RetryLayer<J, WithClone<F>, T, R>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.with(|judge| judge, |_| WithClone(clone))
    }

    /// Finds the deadline that a request carries. Comes after [`clone_request`](Self::clone_request).
    pub fn deadline_of<Req, F>(self, deadline: F) -> RetryLayer<J, WithDeadline<Q, F>, T, R>
    where
        F: Fn(&Req) -> dpat_core::Deadline,
    {
        self.with(|judge| judge, |rule| WithDeadline { rule, deadline })
    }

    /// Draws jitter from `entropy` instead of the system.
    pub fn entropy<N: Entropy>(self, entropy: N) -> RetryLayer<J, Q, T, N> {
        RetryLayer {
            policy: self.policy,
            judge: self.judge,
            rule: self.rule,
            time: self.time,
            entropy,
        }
    }

    fn with<K, P>(
        self,
        judge: impl FnOnce(J) -> K,
        rule: impl FnOnce(Q) -> P,
    ) -> RetryLayer<K, P, T, R> {
        RetryLayer {
            policy: self.policy,
            judge: judge(self.judge),
            rule: rule(self.rule),
            time: self.time,
            entropy: self.entropy,
        }
    }
}

impl<S, J, Q, T, R> Layer<S> for RetryLayer<J, Q, T, R>
where
    J: Clone,
    Q: Clone,
    T: Clone,
    R: Clone,
{
    type Service = RetryService<S, J, Q, T, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Puts hedges around a service. Made by [`Hedge::layer`].
///
/// The service must be `Clone`: each further attempt waits until a clone is ready.
#[derive(Clone, Debug)]
#[must_use]
pub struct HedgeLayer<J, Q, T> {
    pub(crate) policy: Hedge,
    pub(crate) judge: J,
    pub(crate) rule: Q,
    pub(crate) time: T,
}

impl<J, Q, T> HedgeLayer<J, Q, T> {
    /// Lets the errors for which `predicate` says yes be followed by another attempt; others end the operation.
    pub fn retry_if<E, F>(self, predicate: F) -> HedgeLayer<RetryIf<F>, Q, T>
    where
        F: Fn(&E) -> bool,
    {
        self.judge_by(RetryIf(predicate))
    }

    /// Judges by the error's own class, effect and `retry_after`.
    pub fn by_class(self) -> HedgeLayer<ByClass, Q, T> {
        self.judge_by(ByClass)
    }

    /// Judges outcomes by `judge`.
    pub fn judge_by<K>(self, judge: K) -> HedgeLayer<K, Q, T> {
        self.with(|_| judge, |rule| rule)
    }

    /// Repeats requests by a closure; a request for which it gives none is sent once.
    pub fn clone_request<Req, F>(self, clone: F) -> HedgeLayer<J, WithClone<F>, T>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.with(|judge| judge, |_| WithClone(clone))
    }

    /// Finds the deadline that a request carries. Comes after [`clone_request`](Self::clone_request).
    pub fn deadline_of<Req, F>(self, deadline: F) -> HedgeLayer<J, WithDeadline<Q, F>, T>
    where
        F: Fn(&Req) -> dpat_core::Deadline,
    {
        self.with(|judge| judge, |rule| WithDeadline { rule, deadline })
    }

    fn with<K, P>(
        self,
        judge: impl FnOnce(J) -> K,
        rule: impl FnOnce(Q) -> P,
    ) -> HedgeLayer<K, P, T> {
        HedgeLayer {
            policy: self.policy,
            judge: judge(self.judge),
            rule: rule(self.rule),
            time: self.time,
        }
    }
}

impl<S, J, Q, T> Layer<S> for HedgeLayer<J, Q, T>
where
    J: Clone,
    Q: Clone,
    T: Clone,
{
    type Service = HedgeService<S, J, Q, T>;

    fn layer(&self, inner: S) -> Self::Service {
        HedgeService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Puts a time limit around a service.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TimeoutLayer<T> {
    limit: Duration,
    time: T,
}

#[cfg(feature = "tokio")]
impl TimeoutLayer<TokioTime> {
    /// Gives each call at most `limit`, in tokio's time.
    pub const fn new(limit: Duration) -> Self {
        Self::on(TokioTime, limit)
    }
}

impl<T> TimeoutLayer<T> {
    /// Gives each call at most `limit`, in the time of `time`.
    pub const fn on(time: T, limit: Duration) -> Self {
        Self { limit, time }
    }
}

impl<S, T: Clone> Layer<S> for TimeoutLayer<T> {
    type Service = TimeoutService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            limit: self.limit,
            time: self.time.clone(),
        }
    }
}
