//! The rules of retrying: (policy, state, now, outcome) → decision.
//!
//! No clock, no lock, no future: time, randomness and the budget come in as arguments.

mod hedge;
#[cfg(test)]
mod tests;

pub(crate) use hedge::{ATTEMPTS_MAX, DELAYS_MAX, HedgeDelays, HedgeMachine, HedgePlan};

use crate::config::Nested;
use crate::error::StopReason;
use crate::judge::PushBack;
use dpat_core::{Backoff, Deadline, Delays, Effect, Entropy, Instant};
use std::time::Duration;

/// The settings of a retry, without its budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) max_retry_after: Duration,
    pub(crate) idempotent: bool,
    pub(crate) nested: Nested,
}

impl Plan {
    pub(crate) const DEFAULT: Self = Self {
        attempts: 3,
        backoff: Backoff::DEFAULT,
        timeout: Some(Duration::from_secs(30)),
        attempt_timeout: Some(Duration::from_secs(10)),
        max_retry_after: Duration::from_secs(60),
        idempotent: true,
        nested: Nested::Once,
    };
}

/// What an attempt may know about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub(crate) number: u32,
    pub(crate) started: Instant,
    pub(crate) deadline: Deadline,
}

impl Attempt {
    /// Returns the number of this attempt; the first is 1.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns when the attempt will be dropped.
    ///
    /// The nearest of the attempt's own limit and those of the operation.
    #[must_use]
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Returns the time that this attempt has, as of its start.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.remaining(self.started)
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) effect: Effect,
    pub(crate) push_back: PushBack,
    /// Whether the request can be sent again at all.
    pub(crate) repeatable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Retryable,
    Final,
    TimedOut,
}

impl Failure {
    /// A failure that another attempt may cure, and that may have taken effect.
    pub const fn retryable() -> Self {
        Self::of(FailureKind::Retryable)
    }

    /// A failure that no attempt will cure, and that may have taken effect.
    pub const fn permanent() -> Self {
        Self::of(FailureKind::Final)
    }

    /// An attempt that was cut off; it may have taken effect.
    pub const fn timed_out() -> Self {
        Self::of(FailureKind::TimedOut)
    }

    const fn of(kind: FailureKind) -> Self {
        Self {
            kind,
            effect: Effect::Unknown,
            push_back: PushBack::None,
            repeatable: true,
        }
    }

    /// Says whether the attempt surely changed nothing.
    pub const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Says what the other side asked for.
    pub const fn push_back(mut self, push_back: PushBack) -> Self {
        self.push_back = push_back;
        self
    }

    pub(crate) const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision<P> {
    RetryAfter(Duration, P),
    Stop(StopReason),
}

/// The state of one operation. Small, since it is made for every call: the plan is lent, and the delays begin with
/// the first failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    deadline: Deadline,
    /// None if nothing depends on the time, so that no clock is read.
    started: Option<Instant>,
    waited: Duration,
    attempts: u32,
    nested: bool,
    timed_out: bool,
    effect: Effect,
    delays: Option<Delays>,
}

impl Machine {
    /// An operation that has not started, or one without any limit on its time: it needs no clock.
    pub(crate) const IDLE: Self = Self {
        deadline: Deadline::NEVER,
        started: None,
        waited: Duration::ZERO,
        attempts: 0,
        nested: false,
        timed_out: false,
        effect: Effect::NotDone,
        delays: None,
    };

    /// Starts an operation whose time is limited, or told.
    #[inline]
    pub(crate) fn start(&mut self, plan: &Plan, now: Instant, outer: Deadline) {
        let own = plan
            .timeout
            .map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout));
        self.deadline = outer.earlier(own);
        self.started = Some(now);
    }

    /// Says that an outer retry is at work.
    #[inline]
    pub(crate) fn nest(&mut self, plan: &Plan) {
        self.nested = plan.nested == Nested::Once;
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) const fn effect(&self) -> Effect {
        self.effect
    }

    pub(crate) const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Says whether the time matters; if not, any `now` will do.
    pub(crate) const fn is_timed(&self) -> bool {
        self.started.is_some()
    }

    /// Returns the time since the start, or what is known of it: the waits.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        self.started
            .map_or(self.waited, |started| now.since(started))
    }

    /// Starts the next attempt, unless the deadline has passed.
    #[inline]
    pub(crate) fn begin(&mut self, plan: &Plan, now: Instant) -> Result<Attempt, StopReason> {
        if self.deadline.is_past(now) {
            self.timed_out = true;
            return Err(StopReason::DeadlineExceeded);
        }
        let own = plan
            .attempt_timeout
            .map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout));
        Ok(Attempt {
            number: self.count(),
            started: now,
            deadline: self.deadline.earlier(own),
        })
    }

    /// Starts the next attempt of an operation without any limit on its time.
    #[inline]
    pub(crate) const fn begin_untimed(&mut self) -> Attempt {
        Attempt {
            number: self.count(),
            started: Instant::MIN,
            deadline: Deadline::NEVER,
        }
    }

    const fn count(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// Decides after a failed attempt. `withdraw` asks the budget and is called only if nothing else forbids.
    pub(crate) fn failed<P>(
        &mut self,
        plan: &Plan,
        now: Instant,
        failure: Failure,
        entropy: &(impl Entropy + ?Sized),
        withdraw: impl FnOnce() -> Option<P>,
    ) -> Decision<P> {
        if failure.effect == Effect::Unknown {
            self.effect = Effect::Unknown;
        }
        self.timed_out = failure.kind == FailureKind::TimedOut;
        if let Some(reason) = self.forbidden(plan, now, failure) {
            return Decision::Stop(reason);
        }
        let delays = self.delays.get_or_insert_with(|| plan.backoff.delays());
        let mut delay = delays.next_delay(entropy);
        if let PushBack::After(wait) = failure.push_back {
            delay = delay.max(wait.min(plan.max_retry_after));
        }
        // An attempt that starts at the deadline has no time, so equality is too late as well.
        if delay >= self.deadline.remaining(now) {
            return Decision::Stop(StopReason::DeadlineWouldPass);
        }
        match withdraw() {
            Some(permit) => {
                self.waited = self.waited.saturating_add(delay);
                Decision::RetryAfter(delay, permit)
            }
            None => Decision::Stop(StopReason::BudgetEmpty),
        }
    }

    fn forbidden(&self, plan: &Plan, now: Instant, failure: Failure) -> Option<StopReason> {
        let stops = [
            (failure.kind == FailureKind::Final, StopReason::NotRetryable),
            (self.deadline.is_past(now), StopReason::DeadlineExceeded),
            (
                self.attempts >= plan.attempts,
                StopReason::AttemptsExhausted,
            ),
            (self.nested, StopReason::Nested),
            (!failure.repeatable, StopReason::NotRepeatable),
            (failure.push_back == PushBack::Stop, StopReason::PushedBack),
            (
                !plan.idempotent && failure.effect == Effect::Unknown,
                StopReason::MayHaveHappened,
            ),
        ];
        stops
            .into_iter()
            .find_map(|(holds, reason)| holds.then_some(reason))
    }
}
