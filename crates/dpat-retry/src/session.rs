//! One operation driven by hand: the machine and its budget, without a future.

use crate::budget::{ExtraPermit, RequestTicket, RetryBudget};
use crate::config::Retry;
use crate::error::{RetryError, StopReason};
use crate::machine::{Attempt, Decision, Failure, FailureKind, Machine, Plan};
use crate::trace;
use dpat_core::{Deadline, Entropy, Instant};
use std::time::Duration;

/// The plain face of a retry, for loops that wait in their own way: blocking code, a simulator, a state machine.
///
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
    machine: Machine,
    ticket: Option<RequestTicket>,
    permit: Option<ExtraPermit>,
}

impl Retry {
    /// Starts an operation that is driven by hand and ends at `outer` at the latest.
    #[must_use]
    pub fn session(self, now: Instant, outer: Deadline) -> RetrySession {
        RetrySession::new(self.plan, self.budget, now, outer, false)
    }
}

impl RetrySession {
    pub(crate) fn new(
        plan: Plan,
        budget: Option<RetryBudget>,
        now: Instant,
        outer: Deadline,
        nested: bool,
    ) -> Self {
        Self {
            machine: Machine::new(plan, now, outer, nested),
            ticket: budget.map(|budget| budget.request(now)),
            permit: None,
        }
    }

    /// Begins the next attempt.
    ///
    /// # Errors
    /// [`StopReason::DeadlineExceeded`] if the deadline has passed.
    pub fn begin(&mut self, now: Instant) -> Result<Attempt, StopReason> {
        let attempt = self.machine.begin(now)?;
        if let Some(permit) = &mut self.permit {
            permit.sent();
        }
        Ok(attempt)
    }

    /// Tells the budget that the attempt succeeded.
    pub fn succeeded(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.budget().success();
        }
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
        // One in flight ends here, before the next is asked for.
        self.permit = None;
        let ticket = &self.ticket;
        if let (Some(ticket), true) = (ticket, failure.kind != FailureKind::Final) {
            ticket.budget().failure();
        }
        let decision = self.machine.failed(now, failure, entropy, || match ticket {
            Some(ticket) => ticket.budget().try_extra(now).map(Some),
            None => Some(None),
        });
        match decision {
            Decision::RetryAfter(delay, permit) => {
                self.permit = permit;
                trace::retrying(self.attempts(), delay);
                Ok(delay)
            }
            Decision::Stop(reason) => Err(reason),
        }
    }

    /// Makes the error of the whole operation.
    #[must_use]
    pub fn give_up<E>(&self, now: Instant, reason: StopReason, last: Option<E>) -> RetryError<E> {
        trace::stopped(self.attempts(), reason);
        RetryError {
            reason,
            attempts: self.attempts(),
            elapsed: self.machine.elapsed(now),
            effect: self.machine.effect(),
            timed_out: self.machine.timed_out(),
            last,
        }
    }

    /// Returns how many attempts have begun.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.machine.attempts()
    }

    /// Says whether the last attempt was cut off.
    pub(crate) const fn timed_out(&self) -> bool {
        self.machine.timed_out()
    }
}
