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

    /// Returns when the attempt will be dropped: the nearest of the attempt's and the operation's limits.
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

/// The state of one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    plan: Plan,
    delays: Delays,
    nested: bool,
    started: Instant,
    deadline: Deadline,
    attempts: u32,
    effect: Effect,
    timed_out: bool,
}

impl Machine {
    pub(crate) fn new(plan: Plan, now: Instant, outer: Deadline, nested: bool) -> Self {
        let own = plan
            .timeout
            .map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout));
        Self {
            plan,
            delays: plan.backoff.delays(),
            nested: nested && plan.nested == Nested::Once,
            started: now,
            deadline: outer.earlier(own),
            attempts: 0,
            effect: Effect::NotDone,
            timed_out: false,
        }
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

    pub(crate) const fn elapsed(&self, now: Instant) -> Duration {
        now.since(self.started)
    }

    /// Starts the next attempt, unless the deadline has passed.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<Attempt, StopReason> {
        if self.deadline.is_past(now) {
            self.timed_out = true;
            return Err(StopReason::DeadlineExceeded);
        }
        self.attempts = self.attempts.saturating_add(1);
        let own = self
            .plan
            .attempt_timeout
            .map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout));
        Ok(Attempt {
            number: self.attempts,
            started: now,
            deadline: self.deadline.earlier(own),
        })
    }

    /// Decides after a failed attempt. `withdraw` asks the budget and is called only if nothing else forbids.
    pub(crate) fn failed<P>(
        &mut self,
        now: Instant,
        failure: Failure,
        entropy: &(impl Entropy + ?Sized),
        withdraw: impl FnOnce() -> Option<P>,
    ) -> Decision<P> {
        if failure.effect == Effect::Unknown {
            self.effect = Effect::Unknown;
        }
        self.timed_out = failure.kind == FailureKind::TimedOut;
        if let Some(reason) = self.forbidden(now, failure) {
            return Decision::Stop(reason);
        }
        let mut delay = self.delays.next_delay(entropy);
        if let PushBack::After(wait) = failure.push_back {
            delay = delay.max(wait.min(self.plan.max_retry_after));
        }
        // An attempt that starts at the deadline has no time, so equality is too late as well.
        if delay >= self.deadline.remaining(now) {
            return Decision::Stop(StopReason::DeadlineWouldPass);
        }
        withdraw().map_or(Decision::Stop(StopReason::BudgetEmpty), |permit| {
            Decision::RetryAfter(delay, permit)
        })
    }

    fn forbidden(&self, now: Instant, failure: Failure) -> Option<StopReason> {
        let stops = [
            (failure.kind == FailureKind::Final, StopReason::NotRetryable),
            (self.deadline.is_past(now), StopReason::DeadlineExceeded),
            (
                self.attempts >= self.plan.attempts,
                StopReason::AttemptsExhausted,
            ),
            (self.nested, StopReason::Nested),
            (!failure.repeatable, StopReason::NotRepeatable),
            (failure.push_back == PushBack::Stop, StopReason::PushedBack),
            (
                !self.plan.idempotent && failure.effect == Effect::Unknown,
                StopReason::MayHaveHappened,
            ),
        ];
        stops
            .into_iter()
            .find_map(|(holds, reason)| holds.then_some(reason))
    }
}
