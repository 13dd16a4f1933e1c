//! The future of a retried operation.

use crate::budget::RetryBudget;
use crate::config::Retry;
use crate::error::{RetryError, StopReason};
use crate::judge::{
    AnyError, ByClass, Judge, PushBack, RetryIf, RetryResultIf, Verdict, WithEffect, WithPushBack,
};
use crate::machine::{Attempt, Failure, Plan};
use crate::operation::Operation;
use crate::scope::{self, Surrounding};
use crate::session::Progress;
use dpat_core::{Classify, Clock, Deadline, Effect, Entropy, Instant, Sleep};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// So many retries without a wait, and the call yields to its runtime.
const YIELD_EVERY: u32 = 16;

/// A failed attempt that will be followed by another.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retrying<'a, E> {
    /// The number of the attempt that failed; the first is 1.
    pub attempt: u32,
    /// The wait before the next attempt.
    pub delay: Duration,
    /// Its error.
    ///
    /// None if it timed out or gave an `Ok` that the judge refused.
    pub error: Option<&'a E>,
}

/// Hears of each retry.
pub trait Notify<E> {
    /// Is called before the wait.
    fn notify(&mut self, retrying: Retrying<'_, E>);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl<E> Notify<E> for Silent {
    fn notify(&mut self, _: Retrying<'_, E>) {}
}

/// Tells a closure.
#[derive(Clone, Copy, Debug)]
pub struct Notified<F>(F);

impl<E, F: FnMut(Retrying<'_, E>)> Notify<E> for Notified<F> {
    fn notify(&mut self, retrying: Retrying<'_, E>) {
        (self.0)(retrying);
    }
}

pin_project! {
    /// A retried operation: set it up with its methods, then await it.
    ///
    /// Made by [`RetryExt::retry`](crate::RetryExt::retry). Nothing happens before the first poll. It never spawns
    /// and does not allocate.
    ///
    /// # Errors
    /// [`RetryError`] with the reason and the last error.
    ///
    /// # Panics
    /// If polled again after it has completed.
    ///
    /// # Cancel safety
    /// Dropping it drops the running attempt or the wait, ends the request for the budget, and gives back the permit
    /// of a retry that was not yet sent. The attempt that was dropped may have taken effect on the other side.
    #[must_use = "futures do nothing unless awaited"]
    pub struct RetryCall<Op, M, J, N, S, R>
    where
        Op: Operation<M>,
        S: Sleep,
    {
        op: Op,
        judge: J,
        notify: N,
        time: S,
        entropy: R,
        plan: Plan,
        budget: Option<RetryBudget>,
        outer: Deadline,
        inside: bool,
        progress: Progress,
        last: Option<Op::Error>,
        #[pin]
        state: State<Op::Future>,
        // Of the attempt that runs, or of the wait.
        #[pin]
        timer: Option<S::Sleeping>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Idle,
        Running {
            #[pin]
            attempt: F,
            deadline: Deadline,
        },
        // The timer says until when.
        Waiting,
        // The next attempt follows without a wait.
        Yielding,
        Done,
    }
}

impl<Op, M, S> RetryCall<Op, M, AnyError, Silent, S, dpat_core::SystemEntropy>
where
    Op: Operation<M>,
    S: Sleep,
{
    pub(crate) fn new(op: Op, time: S, policy: Retry) -> Self {
        Self {
            op,
            judge: AnyError,
            notify: Silent,
            time,
            entropy: dpat_core::SystemEntropy,
            plan: policy.plan,
            budget: policy.budget,
            outer: Deadline::NEVER,
            inside: false,
            progress: Progress::IDLE,
            last: None,
            state: State::Idle,
            timer: None,
        }
    }
}

impl<Op, M, J, N, S, R> RetryCall<Op, M, J, N, S, R>
where
    Op: Operation<M>,
    S: Sleep,
{
    /// Retries the errors for which `predicate` says yes.
    pub fn retry_if<F>(self, predicate: F) -> RetryCall<Op, M, RetryIf<F>, N, S, R>
    where
        F: Fn(&Op::Error) -> bool,
    {
        self.judge_by(RetryIf(predicate))
    }

    /// Retries the outcomes, `Ok` or `Err`, for which `predicate` says yes.
    ///
    /// When an `Ok` cannot be retried any more, it is what the call gives.
    pub fn retry_result_if<F>(self, predicate: F) -> RetryCall<Op, M, RetryResultIf<F>, N, S, R>
    where
        F: Fn(&Result<Op::Value, Op::Error>) -> bool,
    {
        self.judge_by(RetryResultIf(predicate))
    }

    /// Retries by the error's own class, effect and `retry_after`.
    pub fn by_class(self) -> RetryCall<Op, M, ByClass, N, S, R>
    where
        Op::Error: Classify,
    {
        self.judge_by(ByClass)
    }

    /// Judges outcomes by `judge`.
    pub fn judge_by<K>(self, judge: K) -> RetryCall<Op, M, K, N, S, R>
    where
        K: Judge<Op::Value, Op::Error>,
    {
        self.with_judge(|_| judge)
    }

    /// Reads from the outcome how long the other side asks to wait.
    ///
    /// For example from a `Retry-After` header.
    ///
    /// The wait is then the longer of that, clamped, and the backoff's. Comes after `retry_if` and its like.
    pub fn push_back<F, P>(self, push_back: F) -> RetryCall<Op, M, WithPushBack<J, F>, N, S, R>
    where
        F: Fn(&Result<Op::Value, Op::Error>) -> P,
        P: Into<PushBack>,
    {
        self.with_judge(|judge| WithPushBack { judge, push_back })
    }

    /// Tells which errors surely changed nothing, for operations that are not idempotent.
    ///
    /// Comes after `retry_if` and its like.
    pub fn effect_of<F>(self, effect: F) -> RetryCall<Op, M, WithEffect<J, F>, N, S, R>
    where
        F: Fn(&Op::Error) -> Effect,
    {
        self.with_judge(|judge| WithEffect { judge, effect })
    }

    /// Calls `listener` before the wait of each retry.
    pub fn notify<F>(self, listener: F) -> RetryCall<Op, M, J, Notified<F>, S, R>
    where
        F: FnMut(Retrying<'_, Op::Error>),
    {
        self.with(|judge, _, entropy| (judge, Notified(listener), entropy))
    }

    /// Draws jitter from `entropy` instead of the system.
    pub fn entropy<Q: Entropy>(self, entropy: Q) -> RetryCall<Op, M, J, N, S, Q> {
        self.with(|judge, notify, _| (judge, notify, entropy))
    }

    /// Ends the whole operation at `deadline` at the latest.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.outer = self.outer.earlier(deadline);
        self
    }

    /// Runs inside `attempt` of an outer retry: takes its deadline, and is nested.
    ///
    /// With feature `tokio` this travels by itself within a task; say it where a spawn or a channel lies between.
    pub fn within(mut self, attempt: &Attempt) -> Self {
        self.inside = true;
        self.deadline(attempt.deadline())
    }

    fn with_judge<K>(self, change: impl FnOnce(J) -> K) -> RetryCall<Op, M, K, N, S, R> {
        self.with(|judge, notify, entropy| (change(judge), notify, entropy))
    }

    /// Replaces what the types tell apart; nothing has begun yet.
    fn with<K, L, Q>(
        self,
        change: impl FnOnce(J, N, R) -> (K, L, Q),
    ) -> RetryCall<Op, M, K, L, S, Q> {
        let (judge, notify, entropy) = change(self.judge, self.notify, self.entropy);
        RetryCall {
            op: self.op,
            judge,
            notify,
            time: self.time,
            entropy,
            plan: self.plan,
            budget: self.budget,
            outer: self.outer,
            inside: self.inside,
            progress: Progress::IDLE,
            last: None,
            state: State::Idle,
            timer: None,
        }
    }
}

impl<Op, M, J, N, S, R> Future for RetryCall<Op, M, J, N, S, R>
where
    Op: Operation<M>,
    J: Judge<Op::Value, Op::Error>,
    N: Notify<Op::Error>,
    S: Sleep,
    R: Entropy,
{
    type Output = Result<Op::Value, RetryError<Op::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut without_wait = 0;
        // The time of a failure is that of the next attempt, if there is no wait.
        let mut failed_at = None;
        loop {
            let begun = match this.state.as_mut().project() {
                StateProj::Running { deadline, .. } => Begun::Before(*deadline),
                StateProj::Idle => {
                    let outer = this.outer.earlier(scope::deadline());
                    let nested = *this.inside || scope::surrounding() != Surrounding::NOTHING;
                    let budget = this.budget.take();
                    let now = || this.time.now();
                    Begun::Now(this.progress.start(this.plan, budget, outer, nested, now))
                }
                StateProj::Waiting => {
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        ready!(timer.poll(cx));
                    }
                    this.timer.set(None);
                    let now = read(this.time, this.progress);
                    Begun::Now(this.progress.begin(this.plan, now))
                }
                StateProj::Yielding => {
                    let now = failed_at.unwrap_or_else(|| read(this.time, this.progress));
                    Begun::Now(this.progress.begin(this.plan, now))
                }
                #[allow(clippy::panic)] // the contract of every future
                StateProj::Done => panic!("`RetryCall` polled after completion"),
            };

            // One scope for the closure and the first poll of what it makes.
            let mut state = this.state.as_mut();
            let (deadline, polled) = match begun {
                Begun::Before(deadline) => {
                    let poll = || state.as_mut().poll_attempt(cx);
                    (deadline, scope::enter(deadline, Surrounding::RETRY, poll))
                }
                Begun::Now(Ok(attempt)) => {
                    let deadline = attempt.deadline();
                    let poll = || {
                        let attempt = this.op.attempt(attempt);
                        state.set(State::Running { attempt, deadline });
                        state.as_mut().poll_attempt(cx)
                    };
                    (deadline, scope::enter(deadline, Surrounding::RETRY, poll))
                }
                Begun::Now(Err(reason)) => {
                    state.set(State::Done);
                    let now = read(this.time, this.progress);
                    let error = this.progress.give_up(now, reason, this.last.take());
                    this.progress.end();
                    return Poll::Ready(Err(error));
                }
            };

            let (failure, value) = match polled {
                Poll::Pending => {
                    let timer = this.timer.as_mut();
                    ready!(poll_timer(timer, deadline, &*this.time, cx));
                    (Failure::timed_out(), None)
                }
                Poll::Ready(outcome) => {
                    let verdict = this.judge.verdict(&outcome);
                    match outcome {
                        Ok(value) if verdict == Verdict::Done => {
                            this.state.set(State::Done);
                            this.timer.set(None);
                            this.progress.succeeded();
                            this.progress.end();
                            return Poll::Ready(Ok(value));
                        }
                        outcome => {
                            let failure = describe(verdict, &outcome, this.judge);
                            let (value, error) = match outcome {
                                Ok(value) => (Some(value), None),
                                Err(error) => (None, Some(error)),
                            };
                            *this.last = error;
                            (failure, value)
                        }
                    }
                }
            };

            // Drops the failed attempt before anybody hears of it.
            this.state.set(State::Done);
            this.timer.set(None);
            let now = read(this.time, this.progress);
            let failure = failure.repeatable(this.op.is_repeatable());
            match this.progress.failed(this.plan, now, failure, this.entropy) {
                Ok(delay) => {
                    if delay.is_zero() {
                        failed_at = Some(now);
                        this.state.set(State::Yielding);
                    } else {
                        let sleep = if this.progress.machine().is_timed() {
                            this.time.sleep_until(now + delay)
                        } else {
                            this.time.sleep(delay)
                        };
                        this.timer.set(Some(sleep));
                        this.state.set(State::Waiting);
                    }
                    let machine = this.progress.machine();
                    this.notify.notify(Retrying {
                        attempt: machine.attempts(),
                        delay,
                        error: this.last.as_ref().filter(|_| !machine.timed_out()),
                    });
                    without_wait += 1;
                    if delay.is_zero() && without_wait >= YIELD_EVERY {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(reason) => {
                    let error = this.progress.give_up(now, reason, this.last.take());
                    this.progress.end();
                    // An `Ok` that the judge wanted retried is the answer when there are no more retries.
                    return Poll::Ready(value.ok_or(error));
                }
            }
        }
    }
}

impl<Op, M, J, N, S, R> fmt::Debug for RetryCall<Op, M, J, N, S, R>
where
    Op: Operation<M>,
    S: Sleep,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryCall")
            .field("plan", &self.plan)
            .field("budget", &self.budget)
            .field("attempts", &self.progress.machine().attempts())
            .finish_non_exhaustive()
    }
}

/// Whether an attempt runs already or is begun now.
enum Begun {
    Before(Deadline),
    Now(Result<Attempt, StopReason>),
}

impl<F: Future> State<F> {
    /// Polls the attempt that runs.
    #[inline]
    fn poll_attempt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            StateProj::Running { attempt, .. } => attempt.poll(cx),
            _ => Poll::Pending,
        }
    }
}

/// Reads the clock, unless nothing depends on it.
fn read(clock: &impl Clock, progress: &Progress) -> Instant {
    if progress.machine().is_timed() {
        clock.now()
    } else {
        Instant::MIN
    }
}

/// Describes an outcome that is not what the caller wants. An error that a judge takes for done is final.
fn describe<T, E>(verdict: Verdict, outcome: &Result<T, E>, judge: &impl Judge<T, E>) -> Failure {
    let failure = match verdict {
        Verdict::Retry => Failure::retryable(),
        Verdict::Done | Verdict::Stop => Failure::permanent(),
    };
    failure
        .effect(judge.effect(outcome))
        .push_back(judge.push_back(outcome))
}

/// Waits for `deadline`; the timer is made at the first wait, so that an attempt that is ready at once has none.
pub(crate) fn poll_timer<S: Sleep>(
    mut timer: Pin<&mut Option<S::Sleeping>>,
    deadline: Deadline,
    time: &S,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if deadline.is_never() {
        return Poll::Pending;
    }
    if timer.is_none() {
        timer.set(Some(time.sleep_until(deadline.instant())));
    }
    match timer.as_mut().as_pin_mut() {
        Some(timer) => timer.poll(cx),
        None => Poll::Pending,
    }
}
