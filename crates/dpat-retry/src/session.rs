//! One operation driven by hand: the machine and its budget, without a future.

use crate::budget::{ExtraPermit, RequestTicket, RetryBudget};
use crate::config::Retry;
use crate::error::{RetryError, StopReason};
use crate::machine::{Attempt, Decision, Failure, FailureKind, Machine, Plan};
use crate::trace;
use dpat_core::{Deadline, Entropy, Instant};
use std::time::Duration;

/// One retried operation, driven by hand.
///
/// For loops that wait in their own way: blocking code, a simulator, a state machine.
/// Time comes in as an argument. Dropping it ends the request for the budget and gives back the permit of a retry
/// that was not begun.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, Deadline, ManualTime, SplitMix64};
/// use dpat_retry::{Failure, Retry, StopReason};
///
/// let (time, entropy) = (ManualTime::new(), SplitMix64::new(1));
/// let mut session = Retry::default().session(time.now(), Deadline::NEVER);
/// let reason = loop {
///     if let Err(reason) = session.begin(time.now()) {
///         break reason;
///     }
///     // The call fails …
///     match session.failed(time.now(), Failure::retryable(), &entropy) {
///         Ok(delay) => time.advance(delay),
///         Err(reason) => break reason,
///     }
/// };
/// assert_eq!((session.attempts(), reason), (3, StopReason::AttemptsExhausted));
/// ```
#[derive(Debug)]
pub struct RetrySession {
    plan: Plan,
    progress: Progress,
}

impl Retry {
    /// Starts an operation that is driven by hand.
    ///
    /// It ends at `outer` at the latest.
    #[must_use]
    pub fn session(self, now: Instant, outer: Deadline) -> RetrySession {
        let mut progress = Progress::IDLE;
        progress.machine.start(&self.plan, now, outer);
        progress.ticket = self.budget.map(|budget| budget.request(now));
        RetrySession {
            plan: self.plan,
            progress,
        }
    }
}

impl RetrySession {
    /// Begins the next attempt.
    ///
    /// # Errors
    /// [`StopReason::DeadlineExceeded`] if the deadline has passed.
    pub fn begin(&mut self, now: Instant) -> Result<Attempt, StopReason> {
        self.progress.begin(&self.plan, now)
    }

    /// Tells the budget that the attempt succeeded.
    pub fn succeeded(&self) {
        self.progress.succeeded();
    }

    /// Decides after a failed attempt: the wait before the next one.
    ///
    /// # Errors
    /// Why there is no next one.
    pub fn failed(
        &mut self,
        now: Instant,
        failure: Failure,
        entropy: &(impl Entropy + ?Sized),
    ) -> Result<Duration, StopReason> {
        self.progress.failed(&self.plan, now, failure, entropy)
    }

    /// Makes the error of the whole operation.
    #[must_use]
    pub fn give_up<E>(&self, now: Instant, reason: StopReason, last: Option<E>) -> RetryError<E> {
        self.progress.give_up(now, reason, last)
    }

    /// Returns how many attempts have begun.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.progress.machine.attempts()
    }
}

/// How far an operation has come: the machine, and what it holds of the budget.
#[derive(Debug)]
pub(crate) struct Progress {
    machine: Machine,
    ticket: Option<RequestTicket>,
    permit: Option<ExtraPermit>,
}

impl Progress {
    pub(crate) const IDLE: Self = Self {
        machine: Machine::IDLE,
        ticket: None,
        permit: None,
    };

    /// Starts an operation and its first attempt; reads the clock only if something depends on it.
    #[inline]
    pub(crate) fn start(
        &mut self,
        plan: &Plan,
        budget: Option<RetryBudget>,
        outer: Deadline,
        nested: bool,
        now: impl FnOnce() -> Instant,
    ) -> Result<Attempt, StopReason> {
        let needs_clock = plan.timeout.is_some()
            || plan.attempt_timeout.is_some()
            || !outer.is_never()
            || budget.as_ref().is_some_and(RetryBudget::needs_clock);
        if nested {
            self.machine.nest(plan);
        }
        let now = needs_clock.then(now);
        self.ticket = budget.map(|budget| budget.request(now.unwrap_or_default()));
        match now {
            Some(now) => {
                self.machine.start(plan, now, outer);
                self.machine.begin(plan, now)
            }
            None => Ok(self.machine.begin_untimed()),
        }
    }

    /// Ends the request for the budget.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.permit = None;
        self.ticket = None;
    }

    #[inline]
    pub(crate) fn begin(&mut self, plan: &Plan, now: Instant) -> Result<Attempt, StopReason> {
        let attempt = if self.machine.is_timed() {
            self.machine.begin(plan, now)?
        } else {
            self.machine.begin_untimed()
        };
        if let Some(permit) = &mut self.permit {
            permit.sent();
        }
        Ok(attempt)
    }

    #[inline]
    pub(crate) fn succeeded(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.budget().success();
        }
    }

    pub(crate) fn failed(
        &mut self,
        plan: &Plan,
        now: Instant,
        failure: Failure,
        entropy: &(impl Entropy + ?Sized),
    ) -> Result<Duration, StopReason> {
        // One in flight ends here, before the next is asked for.
        self.permit = None;
        let ticket = &self.ticket;
        if let (Some(ticket), true) = (ticket, failure.kind != FailureKind::Final) {
            ticket.budget().failure();
        }
        let withdraw = || match ticket {
            Some(ticket) => ticket.budget().try_extra(now).map(Some),
            None => Some(None),
        };
        match self.machine.failed(plan, now, failure, entropy, withdraw) {
            Decision::RetryAfter(delay, permit) => {
                self.permit = permit;
                trace::retrying(self.machine.attempts(), delay);
                Ok(delay)
            }
            Decision::Stop(reason) => Err(reason),
        }
    }

    pub(crate) fn give_up<E>(
        &self,
        now: Instant,
        reason: StopReason,
        last: Option<E>,
    ) -> RetryError<E> {
        trace::stopped(self.machine.attempts(), reason);
        RetryError {
            reason,
            attempts: self.machine.attempts(),
            elapsed: self.machine.elapsed(now),
            effect: self.machine.effect(),
            timed_out: self.machine.timed_out(),
            last,
        }
    }

    pub(crate) const fn machine(&self) -> &Machine {
        &self.machine
    }
}
