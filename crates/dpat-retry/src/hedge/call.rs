//! The future of a hedged operation.

use super::Hedge;
use crate::budget::{ExtraPermit, RequestTicket};
use crate::call::poll_timer;
use crate::error::{RetryError, StopReason};
use crate::judge::{
    AnyError, ByClass, Judge, PushBack, RetryIf, Verdict, WithEffect, WithPushBack,
};
use crate::machine::{Attempt, HedgeDelays, HedgeMachine};
use crate::operation::Operation;
use crate::quantile::LiveQuantile;
use crate::scope::{self, Surrounding};
use crate::trace;
use dpat_core::{Classify, Deadline, Effect, Instant, Sleep};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// A hedged operation: set it up with its methods, then await it.
    ///
    /// Made by [`RetryExt::hedge`](crate::RetryExt::hedge). Nothing happens before the first poll. It never spawns:
    /// all attempts are polled inside this future, at most 8 at each wake-up. It allocates only for attempts after
    /// the first.
    ///
    /// The first attempt that succeeds wins, and the others are dropped. A final failure ends all of them. A
    /// retryable failure sends the next attempt at once. The result is an error when every attempt has failed.
    ///
    /// # Errors
    /// [`RetryError`] with the reason and the last error.
    ///
    /// # Panics
    /// If polled again after it has completed.
    ///
    /// # Cancel safety
    /// Dropping it drops all attempts and gives every permit back. Attempts that were dropped may have taken effect.
    #[must_use = "futures do nothing unless awaited"]
    pub struct HedgeCall<Op, M, J, S>
    where
        Op: Operation<M>,
        S: Sleep,
    {
        op: Op,
        judge: J,
        time: S,
        policy: Option<Hedge>,
        outer: Deadline,
        inside: bool,
        run: Option<Run<Op::Error>>,
        #[pin]
        first: Option<Op::Future>,
        extra: Vec<Extra<Op::Future>>,
        timer_at: Deadline,
        #[pin]
        timer: Option<S::Sleeping>,
    }
}

struct Run<E> {
    machine: HedgeMachine,
    ticket: Option<RequestTicket>,
    live: Option<LiveQuantile>,
    first_started: Instant,
    first_runs: bool,
    last: Option<E>,
}

struct Extra<F> {
    attempt: Pin<Box<F>>,
    _permit: Option<ExtraPermit>,
}

impl<Op, M, S> HedgeCall<Op, M, AnyError, S>
where
    Op: Operation<M>,
    S: Sleep,
{
    pub(crate) fn new(op: Op, time: S, policy: Hedge) -> Self {
        Self {
            op,
            judge: AnyError,
            time,
            policy: Some(policy),
            outer: Deadline::NEVER,
            inside: false,
            run: None,
            first: None,
            extra: Vec::new(),
            timer_at: Deadline::NEVER,
            timer: None,
        }
    }
}

impl<Op, M, J, S> HedgeCall<Op, M, J, S>
where
    Op: Operation<M>,
    S: Sleep,
{
    /// Sends another attempt after the errors for which `predicate` says yes.
    ///
    /// Other errors end the operation.
    pub fn retry_if<F>(self, predicate: F) -> HedgeCall<Op, M, RetryIf<F>, S>
    where
        F: Fn(&Op::Error) -> bool,
    {
        self.judge_by(RetryIf(predicate))
    }

    /// Judges by the error's own class, effect and `retry_after`.
    pub fn by_class(self) -> HedgeCall<Op, M, ByClass, S>
    where
        Op::Error: Classify,
    {
        self.judge_by(ByClass)
    }

    /// Judges outcomes by `judge`.
    ///
    /// An `Ok` that the judge calls [`Verdict::Stop`] wins like one that is [`Verdict::Done`].
    pub fn judge_by<K>(self, judge: K) -> HedgeCall<Op, M, K, S>
    where
        K: Judge<Op::Value, Op::Error>,
    {
        self.with_judge(|_| judge)
    }

    /// Reads from the outcome how long the other side asks to wait.
    pub fn push_back<F, P>(self, push_back: F) -> HedgeCall<Op, M, WithPushBack<J, F>, S>
    where
        F: Fn(&Result<Op::Value, Op::Error>) -> P,
        P: Into<PushBack>,
    {
        self.with_judge(|judge| WithPushBack { judge, push_back })
    }

    /// Tells which errors surely changed nothing.
    pub fn effect_of<F>(self, effect: F) -> HedgeCall<Op, M, WithEffect<J, F>, S>
    where
        F: Fn(&Op::Error) -> Effect,
    {
        self.with_judge(|judge| WithEffect { judge, effect })
    }

    /// Ends the whole operation at `deadline` at the latest.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.outer = self.outer.earlier(deadline);
        self
    }

    /// Runs inside `attempt` of an outer hedge.
    ///
    /// It takes the deadline of `attempt` and sends no hedges of its own.
    pub fn within(mut self, attempt: &Attempt) -> Self {
        self.inside = true;
        self.deadline(attempt.deadline())
    }

    fn with_judge<K>(self, change: impl FnOnce(J) -> K) -> HedgeCall<Op, M, K, S> {
        HedgeCall {
            op: self.op,
            judge: change(self.judge),
            time: self.time,
            policy: self.policy,
            outer: self.outer,
            inside: self.inside,
            run: None,
            first: None,
            extra: Vec::new(),
            timer_at: Deadline::NEVER,
            timer: None,
        }
    }
}

/// How a hedged operation ends.
enum End<T> {
    Won(T),
    Lost(StopReason),
}

impl<Op, M, J, S> Future for HedgeCall<Op, M, J, S>
where
    Op: Operation<M>,
    J: Judge<Op::Value, Op::Error>,
    S: Sleep,
{
    type Output = Result<Op::Value, RetryError<Op::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.as_mut().start();
        loop {
            if let Some(end) = self.as_mut().poll_attempts(cx) {
                return Poll::Ready(self.finish(end));
            }
            let mut this = self.as_mut().project();
            #[allow(clippy::panic)] // the contract of every future
            let Some(run) = this.run.as_mut() else {
                panic!("`HedgeCall` polled after completion")
            };
            let now = this.time.now();
            if run.machine.expired(now) {
                return Poll::Ready(self.finish(End::Lost(StopReason::DeadlineExceeded)));
            }
            if run.machine.is_due(now) {
                self.as_mut().send(now);
                continue;
            }
            let running = this.extra.len() + usize::from(this.first.is_some());
            if let Some(reason) = run.machine.over(running) {
                return Poll::Ready(self.finish(End::Lost(reason)));
            }
            let wake_at = run.machine.wake_at();
            if *this.timer_at != wake_at {
                *this.timer_at = wake_at;
                this.timer.set(None);
            }
            if poll_timer(this.timer, wake_at, &*this.time, cx).is_pending() {
                return Poll::Pending;
            }
            // Another wait needs another timer.
            let mut this = self.as_mut().project();
            this.timer.set(None);
        }
    }
}

impl<Op, M, J, S> HedgeCall<Op, M, J, S>
where
    Op: Operation<M>,
    J: Judge<Op::Value, Op::Error>,
    S: Sleep,
{
    /// At the first poll: fixes the plan and the deadline and counts the request.
    fn start(self: Pin<&mut Self>) {
        let this = self.project();
        let Some(policy) = this.policy.take() else {
            return;
        };
        let now = this.time.now();
        let mut plan = policy.plan;
        if let Some(live) = &policy.live {
            plan.delays = HedgeDelays::fixed(live.current());
        }
        let nested = *this.inside || scope::surrounding().hedge;
        *this.run = Some(Run {
            machine: HedgeMachine::new(plan, now, this.outer.earlier(scope::deadline()), nested),
            ticket: policy.budget.map(|budget| budget.request(now)),
            live: policy.live,
            first_started: now,
            first_runs: false,
            last: None,
        });
    }

    /// Sends the attempt that is due, unless the budget or the operation forbids.
    fn send(self: Pin<&mut Self>, now: Instant) {
        let mut this = self.project();
        let Some(run) = this.run.as_mut() else {
            return;
        };
        let is_first = run.machine.sent() == 0;
        let mut permit = None;
        if !is_first {
            if !this.op.is_repeatable() {
                run.machine.close(StopReason::NotRepeatable);
                return;
            }
            if let Some(ticket) = &run.ticket {
                permit = ticket.budget().try_extra(now);
                if permit.is_none() {
                    run.machine.close(StopReason::BudgetEmpty);
                    return;
                }
            }
        }
        let attempt = run.machine.send(now);
        let future = scope::enter(attempt.deadline(), Surrounding::HEDGE, || {
            this.op.attempt(attempt)
        });
        if is_first {
            run.first_runs = true;
            this.first.set(Some(future));
        } else {
            trace::hedging(attempt.number());
            if let Some(permit) = &mut permit {
                permit.sent();
            }
            this.extra.push(Extra {
                attempt: Box::pin(future),
                _permit: permit,
            });
        }
    }

    /// Polls every attempt, oldest first.
    fn poll_attempts(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<End<Op::Value>> {
        let mut this = self.project();
        let run = this.run.as_mut()?;
        let deadline = run.machine.deadline();
        if let Some(attempt) = this.first.as_mut().as_pin_mut() {
            let polled = scope::enter(deadline, Surrounding::HEDGE, || attempt.poll(cx));
            if let Poll::Ready(outcome) = polled {
                this.first.set(None);
                let now = this.time.now();
                run.first_ended(now);
                if let Some(end) = run.judge(outcome, this.judge, now) {
                    return Some(end);
                }
            }
        }
        let mut index = 0;
        while let Some(extra) = this.extra.get_mut(index) {
            let polled = scope::enter(deadline, Surrounding::HEDGE, || {
                extra.attempt.as_mut().poll(cx)
            });
            match polled {
                Poll::Ready(outcome) => {
                    drop(this.extra.remove(index));
                    if let Some(end) = run.judge(outcome, this.judge, this.time.now()) {
                        return Some(end);
                    }
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }

    /// Drops what still runs and makes the answer.
    fn finish(
        self: Pin<&mut Self>,
        end: End<Op::Value>,
    ) -> Result<Op::Value, RetryError<Op::Error>> {
        let mut this = self.project();
        let lost = this.first.is_some() || !this.extra.is_empty();
        this.first.set(None);
        this.extra.clear();
        this.timer.set(None);
        #[allow(clippy::panic)] // the contract of every future
        let Some(mut run) = this.run.take() else {
            panic!("`HedgeCall` polled after completion")
        };
        let now = this.time.now();
        run.first_ended(now);
        match end {
            End::Won(value) => {
                if let Some(ticket) = &run.ticket {
                    ticket.budget().success();
                }
                Ok(value)
            }
            End::Lost(reason) => {
                trace::stopped(run.machine.sent(), reason);
                if lost {
                    run.machine.note_effect(Effect::Unknown);
                }
                Err(RetryError {
                    reason,
                    attempts: run.machine.sent(),
                    elapsed: run.machine.elapsed(now),
                    effect: run.machine.effect(),
                    timed_out: run.machine.timed_out(),
                    last: run.last,
                })
            }
        }
    }
}

impl<E> Run<E> {
    /// Feeds the live quantile, once, with the first attempt: finished, or cut off now.
    fn first_ended(&mut self, now: Instant) {
        let ended = std::mem::take(&mut self.first_runs);
        if let (true, Some(live)) = (ended, &self.live) {
            live.record(now.since(self.first_started));
        }
    }

    fn judge<T>(
        &mut self,
        outcome: Result<T, E>,
        judge: &impl Judge<T, E>,
        now: Instant,
    ) -> Option<End<T>> {
        let verdict = judge.verdict(&outcome);
        let effect = judge.effect(&outcome);
        let push_back = judge.push_back(&outcome);
        match outcome {
            Ok(value) if verdict != Verdict::Retry => return Some(End::Won(value)),
            Ok(_) => {}
            Err(error) => self.last = Some(error),
        }
        if verdict != Verdict::Retry {
            self.machine.note_effect(effect);
            return Some(End::Lost(StopReason::NotRetryable));
        }
        if let Some(ticket) = &self.ticket {
            ticket.budget().failure();
        }
        self.machine.failed(now, effect, push_back);
        None
    }
}

impl<Op, M, J, S> fmt::Debug for HedgeCall<Op, M, J, S>
where
    Op: Operation<M>,
    S: Sleep,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeCall")
            .field("policy", &self.policy)
            .field(
                "sent",
                &self.run.as_ref().map_or(0, |run| run.machine.sent()),
            )
            .finish_non_exhaustive()
    }
}
