//! The rules of hedging (gRPC proposal A6, "Hedging Policy").

use super::Attempt;
use crate::error::StopReason;
use crate::judge::PushBack;
use dpat_core::{Deadline, Effect, Instant};
use std::time::Duration;

/// The most attempts that one hedged operation may have; gRPC allows five.
pub(crate) const ATTEMPTS_MAX: u32 = 8;
pub(crate) const DELAYS_MAX: usize = 7;

/// The waits between attempts: as many as given, the last one repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HedgeDelays {
    pub(crate) list: [Duration; DELAYS_MAX],
    pub(crate) given: usize,
}

impl HedgeDelays {
    pub(crate) const fn fixed(delay: Duration) -> Self {
        Self {
            list: [delay; DELAYS_MAX],
            given: 1,
        }
    }

    fn after(&self, sent: u32) -> Duration {
        let last = self.given.saturating_sub(1).min(DELAYS_MAX - 1);
        let index = usize::try_from(sent.saturating_sub(1)).unwrap_or(last);
        self.list[index.min(last)]
    }
}

/// The settings of a hedge, without its budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HedgePlan {
    pub(crate) attempts: u32,
    pub(crate) delays: HedgeDelays,
    pub(crate) on_failure: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) push_back_max: Duration,
}

/// The state of one hedged operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HedgeMachine {
    plan: HedgePlan,
    started: Instant,
    deadline: Deadline,
    sent: u32,
    next_at: Instant,
    /// Why no further attempt is sent.
    closed: Option<StopReason>,
    effect: Effect,
    timed_out: bool,
}

impl HedgeMachine {
    pub(crate) fn new(plan: HedgePlan, now: Instant, outer: Deadline, nested: bool) -> Self {
        let own = plan
            .timeout
            .map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout));
        let closed = if plan.attempts <= 1 {
            Some(StopReason::AttemptsExhausted)
        } else if nested {
            Some(StopReason::Nested)
        } else {
            None
        };
        Self {
            plan,
            started: now,
            deadline: outer.earlier(own),
            sent: 0,
            next_at: now,
            closed,
            effect: Effect::NotDone,
            timed_out: false,
        }
    }

    pub(crate) const fn sent(&self) -> u32 {
        self.sent
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

    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Says whether time is up; attempts that still run may have taken effect.
    pub(crate) fn expired(&mut self, now: Instant) -> bool {
        let past = self.deadline.is_past(now);
        if past {
            self.timed_out = true;
            if self.sent > 0 {
                self.effect = Effect::Unknown;
            }
        }
        past
    }

    /// Says whether an attempt is to be sent now. The first one is always due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.sent == 0 || (self.closed.is_none() && now >= self.next_at)
    }

    pub(crate) fn send(&mut self, now: Instant) -> Attempt {
        self.sent = self.sent.saturating_add(1);
        self.next_at = now.saturating_add(self.plan.delays.after(self.sent));
        if self.sent >= self.plan.attempts {
            self.close(StopReason::AttemptsExhausted);
        }
        Attempt {
            number: self.sent,
            started: now,
            deadline: self.deadline,
        }
    }

    /// Sends no further attempt; the first reason stays.
    pub(crate) fn close(&mut self, reason: StopReason) {
        self.closed.get_or_insert(reason);
    }

    /// Takes note of a failure that is worth another attempt.
    pub(crate) fn failed(&mut self, now: Instant, effect: Effect, push_back: PushBack) {
        self.note_effect(effect);
        match push_back {
            PushBack::Stop => self.close(StopReason::PushedBack),
            PushBack::After(wait) => {
                self.next_at = now.saturating_add(wait.min(self.plan.push_back_max));
            }
            PushBack::None if self.plan.on_failure => self.next_at = now,
            PushBack::None => {}
        }
    }

    pub(crate) fn note_effect(&mut self, effect: Effect) {
        if effect == Effect::Unknown {
            self.effect = Effect::Unknown;
        }
    }

    /// Returns why the operation is over when nothing runs, if it is.
    pub(crate) fn over(&self, running: usize) -> Option<StopReason> {
        if running > 0 {
            return None;
        }
        self.closed
            .or((self.next_at >= self.deadline.instant()).then_some(StopReason::DeadlineWouldPass))
    }

    /// Returns when to look again.
    pub(crate) fn wake_at(&self) -> Deadline {
        if self.closed.is_some() {
            self.deadline
        } else {
            self.deadline.earlier(Deadline::at(self.next_at))
        }
    }
}
