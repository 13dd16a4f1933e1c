//! The future of a retried operation.

use crate::budget::RetryBudget;
use crate::config::Retry;
use crate::error::RetryError;
use crate::judge::{
    AnyError, ByClass, Judge, PushBack, RetryIf, RetryResultIf, Verdict, WithEffect, WithPushBack,
};
use crate::machine::{Attempt, Failure, Plan};
use crate::operation::Operation;
use crate::scope::{self, Surrounding};
use crate::session::RetrySession;
use dpat_core::{Classify, Deadline, Effect, Entropy, Sleep};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A failed attempt that will be followed by another.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retrying<'a, E> {
    /// The number of the attempt that failed; the first is 1.
    pub attempt: u32,
    /// The wait before the next attempt.
    pub delay: Duration,
    /// Its error; none if it timed out or gave an `Ok` that the judge refused.
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
        run: Option<Run<Op::Error>>,
        #[pin]
        state: State<Op::Future, S::Sleeping>,
    }
}

/// What is known once the operation has started.
struct Run<E> {
    session: RetrySession,
    last: Option<E>,
}

pin_project! {
    #[project = StateProj]
    enum State<F, S> {
        Idle,
        Running {
            #[pin]
            attempt: F,
            #[pin]
            timer: Option<S>,
            deadline: Deadline,
        },
        Waiting {
            #[pin]
            sleep: S,
        },
        // A retry without a wait still yields once, so that a chain of them cannot hold the thread.
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
            run: None,
            state: State::Idle,
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

    /// Reads from the outcome how long the other side asks to wait, for example from a `Retry-After` header.
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
        RetryCall {
            op: self.op,
            judge: self.judge,
            notify: Notified(listener),
            time: self.time,
            entropy: self.entropy,
            plan: self.plan,
            budget: self.budget,
            outer: self.outer,
            inside: self.inside,
            run: None,
            state: State::Idle,
        }
    }

    /// Draws jitter from `entropy` instead of the system.
    pub fn entropy<Q: Entropy>(self, entropy: Q) -> RetryCall<Op, M, J, N, S, Q> {
        RetryCall {
            op: self.op,
            judge: self.judge,
            notify: self.notify,
            time: self.time,
            entropy,
            plan: self.plan,
            budget: self.budget,
            outer: self.outer,
            inside: self.inside,
            run: None,
            state: State::Idle,
        }
    }

    /// Ends the whole operation at `deadline`, or earlier if the policy or the surrounding says so.
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
        RetryCall {
            op: self.op,
            judge: change(self.judge),
            notify: self.notify,
            time: self.time,
            entropy: self.entropy,
            plan: self.plan,
            budget: self.budget,
            outer: self.outer,
            inside: self.inside,
            run: None,
            state: State::Idle,
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
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Idle | StateProj::Yielding => Next::Begin,
                StateProj::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    Next::Begin
                }
                StateProj::Running {
                    attempt,
                    timer,
                    deadline,
                } => {
                    let deadline = *deadline;
                    let polled = scope::enter(deadline, Surrounding::Retry, || attempt.poll(cx));
                    match polled {
                        Poll::Ready(outcome) => Next::Outcome(outcome),
                        Poll::Pending => {
                            ready!(poll_timer(timer, deadline, &*this.time, cx));
                            Next::TimedOut
                        }
                    }
                }
                #[allow(clippy::panic)] // the contract of every future
                StateProj::Done => panic!("`RetryCall` polled after completion"),
            };

            // Success is the path that counts: it reads no clock.
            let (failure, value) = match next {
                Next::Begin => {
                    let now = this.time.now();
                    let run = this.run.get_or_insert_with(|| {
                        let outer = this.outer.earlier(scope::deadline());
                        let nested = *this.inside || scope::surrounding() != Surrounding::Nothing;
                        let session =
                            RetrySession::new(*this.plan, this.budget.take(), now, outer, nested);
                        Run {
                            session,
                            last: None,
                        }
                    });
                    match run.session.begin(now) {
                        Ok(attempt) => {
                            let deadline = attempt.deadline();
                            let attempt = scope::enter(deadline, Surrounding::Retry, || {
                                this.op.attempt(attempt)
                            });
                            this.state.set(State::Running {
                                attempt,
                                timer: None,
                                deadline,
                            });
                            continue;
                        }
                        Err(reason) => {
                            let error = run.session.give_up(now, reason, run.last.take());
                            this.state.set(State::Done);
                            *this.run = None;
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                Next::Outcome(outcome) => {
                    let verdict = this.judge.verdict(&outcome);
                    match outcome {
                        Ok(value) if verdict == Verdict::Done => {
                            this.run.as_ref().inspect(|run| run.session.succeeded());
                            this.state.set(State::Done);
                            *this.run = None;
                            return Poll::Ready(Ok(value));
                        }
                        outcome => {
                            let failure = describe(verdict, &outcome, this.judge);
                            let (value, error) = match outcome {
                                Ok(value) => (Some(value), None),
                                Err(error) => (None, Some(error)),
                            };
                            if let Some(run) = this.run.as_mut() {
                                run.last = error;
                            }
                            (failure, value)
                        }
                    }
                }
                Next::TimedOut => (Failure::timed_out(), None),
            };

            let now = this.time.now();
            let run = this
                .run
                .as_mut()
                .expect("an attempt runs only after the session has begun");
            let failure = failure.repeatable(this.op.is_repeatable());
            match run.session.failed(now, failure, this.entropy) {
                Ok(delay) => {
                    // Drops the failed attempt before anybody hears of it.
                    if delay.is_zero() {
                        this.state.set(State::Yielding);
                    } else {
                        let sleep = this.time.sleep_until(now + delay);
                        this.state.set(State::Waiting { sleep });
                    }
                    this.notify.notify(Retrying {
                        attempt: run.session.attempts(),
                        delay,
                        error: run.last.as_ref().filter(|_| !run.session.timed_out()),
                    });
                    if delay.is_zero() {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(reason) => {
                    let error = run.session.give_up(now, reason, run.last.take());
                    this.state.set(State::Done);
                    *this.run = None;
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
            .field(
                "attempts",
                &self.run.as_ref().map_or(0, |run| run.session.attempts()),
            )
            .finish_non_exhaustive()
    }
}

/// What a poll of the state asks for.
enum Next<T, E> {
    Begin,
    Outcome(Result<T, E>),
    TimedOut,
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
