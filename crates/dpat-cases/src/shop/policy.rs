//! Everything that makes a call survive faults, in one place: breaker, retry with a budget, deadline.
//!
//! From the outside in: the retry repeats what may pass by itself, within its budget and the caller's deadline; each
//! attempt asks the breaker of its callee; the transport ends the attempt in time, so that the breaker hears of a
//! callee that hangs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_breaker::{Breaker, OpenTime, Trip, Verdict};
use dpat_core::{Backoff, Class, Clock, Deadline, Entropy, Jitter, Sleep, SystemEntropy};
use dpat_retry::{Attempt, BudgetLimits, Retry, RetryBudget, RetryError, RetryExt};

use super::journal::{Call, Entry, Journal};
use super::record::BreakerSample;
use super::service::ports::{CallError, Peer, Reply, Request, Transport};
use super::story::Watched;
use super::workflow::micros;
use crate::sync::Mutex;

/// So many failures in a row open a breaker.
pub const MINIMUM_CALLS: u32 = 5;
/// How many probes a half-open breaker lets through at once.
pub const PROBES: u32 = 1;
/// How long a breaker stays open.
pub const OPEN_TIME: Duration = Duration::from_millis(250);
/// How many attempts one call makes.
const ATTEMPTS: u32 = 3;
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(800);
/// How long the order service may take to make an order durable.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Retries for each request that a budget allows, above its floor.
pub const BUDGET_RATIO: f64 = 0.2;
/// Retries a second that a budget always allows.
pub const BUDGET_FLOOR: u32 = 2;
/// Over how long a budget counts.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// By how much the retry's own limit comes after the transport's, which must win.
const SLACK: Duration = Duration::from_millis(100);

/// A constant of this module that its crate refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The breaker's.
    #[error("breaker: {0}")]
    Breaker(#[from] dpat_breaker::ConfigError),
    /// The retry's.
    #[error("retry: {0}")]
    Retry(#[from] dpat_retry::ConfigError),
    /// The backoff's.
    #[error("backoff: {0}")]
    Backoff(#[from] dpat_core::BackoffError),
    /// The queue's or its worker's.
    #[error("queue: {0}")]
    Queue(#[from] dpat_queue::ConfigError),
    /// The node of shipping has no queue.
    #[error("queue: there is none")]
    NoQueue,
    /// The relay's.
    #[error("relay: {0}")]
    Relay(#[from] dpat_outbox::ConfigError),
}

/// What a caller uses.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Breakers.
    pub breaker: bool,
    /// Retries.
    pub retry: bool,
    /// A budget for the retries.
    pub budget: bool,
}

/// Who calls.
#[derive(Clone)]
pub struct Caller {
    /// Which service; a customer is none.
    pub peer: Option<Peer>,
    /// Which start of it, from 0.
    pub incarnation: u32,
    /// Where its calls are written down.
    pub journal: Journal,
    /// The orders of which every call is written down.
    pub watched: Arc<Watched>,
    /// Where jitter comes from.
    pub entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("peer", &self.peer)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Caller {
    /// A customer, of whom nothing is written down.
    #[must_use]
    pub fn customer() -> Self {
        Self {
            peer: None,
            incarnation: 0,
            journal: Journal::nowhere(),
            watched: Arc::default(),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// A transport whose calls survive faults. Clones share breakers and budgets.
#[derive(Debug)]
pub struct Policy<T, S: Clock> {
    inner: T,
    time: S,
    caller: Arc<Caller>,
    callees: Arc<BTreeMap<Peer, Callee<S>>>,
}

impl<T: Clone, S: Clock + Clone> Clone for Policy<T, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            time: self.time.clone(),
            caller: Arc::clone(&self.caller),
            callees: Arc::clone(&self.callees),
        }
    }
}

/// What a caller keeps for each callee.
#[derive(Debug)]
struct Callee<S: Clock> {
    breaker: Option<Breaker<S>>,
    retry: Option<Retry>,
    timeout: Duration,
    /// Failures in a row. The lock also orders the results, so that the journal tells them as the breaker saw them.
    streak: Mutex<u32>,
}

impl<S: Clock + Clone> Callee<S> {
    fn new(peer: Peer, time: &S, uses: Use, caller: &Caller) -> Result<Self, PolicyError> {
        let breaker = if uses.breaker {
            let config = dpat_breaker::Config::builder()
                .name(peer.name())
                .trip_on(Trip::consecutive_failures(MINIMUM_CALLS))
                .open_time(OpenTime::fixed(OPEN_TIME))
                .half_open_permits(PROBES)
                .half_open_probes(PROBES)
                .entropy(&*caller.entropy)
                .build()?;
            Some(Breaker::with_clock(config, time.clone()))
        } else {
            None
        };
        let retry = if uses.retry {
            Some(retry(uses.budget)?)
        } else {
            None
        };
        Ok(Self {
            breaker,
            retry,
            timeout: match peer {
                Peer::Gateway => Duration::from_secs(10),
                Peer::Order => ACCEPT_TIMEOUT,
                _ => ATTEMPT_TIMEOUT,
            },
            streak: Mutex::new(0),
        })
    }
}

fn retry(with_budget: bool) -> Result<Retry, PolicyError> {
    let backoff = Backoff::exponential(Duration::from_millis(20), 2.0, Duration::from_millis(200))?
        .with_jitter(Jitter::Full);
    let builder = Retry::builder()
        .attempts(ATTEMPTS)
        .backoff(backoff)
        .no_timeout()
        .no_attempt_timeout();
    let builder = if with_budget {
        let limits = BudgetLimits::traffic_in(BUDGET_RATIO, BUDGET_WINDOW, BUDGET_FLOOR);
        builder.budget(RetryBudget::new(limits)?)
    } else {
        builder.no_budget()
    };
    Ok(builder.build()?)
}

impl<T: Transport, S: Sleep + Clone + Send + Sync + 'static> Policy<T, S>
where
    S::Sleeping: Send,
{
    /// Wraps a transport.
    ///
    /// # Errors
    /// [`PolicyError`], if a constant of this module is wrong.
    pub fn new(inner: T, time: S, uses: Use, caller: Caller) -> Result<Self, PolicyError> {
        let mut callees = BTreeMap::new();
        for peer in Peer::ALL {
            callees.insert(peer, Callee::new(peer, &time, uses, &caller)?);
        }
        Ok(Self {
            inner,
            time,
            caller: Arc::new(caller),
            callees: Arc::new(callees),
        })
    }

    /// Wraps a transport for customers, who only are patient: they have no breakers, and no budget.
    ///
    /// # Errors
    /// [`PolicyError`], if a constant of this module is wrong.
    pub fn for_customers(
        inner: T,
        time: S,
        patient: bool,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PolicyError> {
        let uses = Use {
            breaker: false,
            retry: false,
            budget: false,
        };
        let caller = Caller {
            entropy,
            ..Caller::customer()
        };
        let mut policy = Self::new(inner, time.clone(), uses, caller.clone())?;
        if patient {
            let backoff =
                Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1))?
                    .with_jitter(Jitter::Equal);
            let mut gateway = Callee::new(Peer::Gateway, &time, uses, &caller)?;
            gateway.retry = Some(
                Retry::builder()
                    .attempts(1_000)
                    .backoff(backoff)
                    .no_timeout()
                    .no_attempt_timeout()
                    .no_budget()
                    .build()?,
            );
            policy.callees = Arc::new(BTreeMap::from([(Peer::Gateway, gateway)]));
        }
        Ok(policy)
    }

    /// Returns the transport without its policy, for what is no call.
    #[must_use]
    pub const fn transport(&self) -> &T {
        &self.inner
    }

    /// Returns the state of every breaker that is in use.
    #[must_use]
    pub fn breakers(&self) -> Vec<BreakerSample> {
        let Some(from) = self.caller.peer else {
            return Vec::new();
        };
        self.callees
            .iter()
            .filter(|(to, _)| from.calls(**to))
            .filter_map(|(to, callee)| {
                Some(BreakerSample {
                    from,
                    to: *to,
                    state: callee.breaker.as_ref()?.state().as_str().to_owned(),
                })
            })
            .collect()
    }

    /// Makes one attempt.
    async fn attempt(
        &self,
        peer: Peer,
        callee: &Callee<S>,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let start = self.time.now();
        if deadline.is_past(start) {
            let error = CallError::not_done(Class::Timeout, "no time left");
            return Err(Failure::NotSent(error));
        }
        let permit = match &callee.breaker {
            Some(breaker) => match breaker.try_acquire() {
                Ok(permit) => Some(permit),
                Err(rejected) => {
                    let error = CallError::not_done(Class::Unavailable, "the breaker is open")
                        .with_retry_after(rejected.retry_after());
                    return Err(Failure::NotSent(error));
                }
            },
            None => None,
        };
        let call = Call {
            from: self.caller.peer.unwrap_or(Peer::Gateway),
            incarnation: self.caller.incarnation,
            to: peer,
            step: request.step,
            order_id: request.order_id.clone(),
            attempt: request.attempt,
            start_us: micros(start),
            end_us: 0,
            outcome: String::new(),
            failed: false,
            streak: 0,
        };
        let limit = Deadline::after(start, callee.timeout).earlier(deadline);
        let answer = self.inner.call(peer, request, limit).await;
        let verdict = match &answer {
            Ok(_) => Verdict::success(),
            Err(error) => Verdict::of_error(error),
        };
        let failed = verdict.outcome() == dpat_breaker::Outcome::Failure;
        let streak = {
            let mut streak = callee.streak.lock();
            *streak = if failed { streak.saturating_add(1) } else { 0 };
            if let Some(permit) = permit {
                permit.record(verdict);
            }
            *streak
        };
        self.write_down(call, &answer, failed, streak);
        answer.map_err(Failure::Sent)
    }

    fn write_down(
        &self,
        mut call: Call,
        answer: &Result<Reply, CallError>,
        failed: bool,
        streak: u32,
    ) {
        let caller = &self.caller;
        if caller.peer.is_none() || !(failed || caller.watched.has(&call.order_id)) {
            return;
        }
        call.end_us = micros(self.time.now());
        call.failed = failed;
        call.streak = streak;
        call.outcome = match answer {
            Ok(Reply::Refused(reason)) => format!("refused: {}", reason.name()),
            Ok(Reply::Done) => "done".to_owned(),
            Ok(Reply::Accepted) => "accepted".to_owned(),
            Ok(_) => "answered".to_owned(),
            Err(error) => error.detail.to_owned(),
        };
        caller.journal.record(Entry::Call(call));
    }
}

/// An attempt without an answer.
#[derive(Debug)]
enum Failure {
    /// It was made.
    Sent(CallError),
    /// The breaker refused it, or there was no time left; trying again at once would only use up the budget.
    NotSent(CallError),
}

impl Failure {
    fn is_worth_another(&self) -> bool {
        matches!(self, Self::Sent(error) if error.class.is_retryable())
    }

    const fn error(&self) -> &CallError {
        match self {
            Self::Sent(error) | Self::NotSent(error) => error,
        }
    }

    fn into_error(self) -> CallError {
        match self {
            Self::Sent(error) | Self::NotSent(error) => error,
        }
    }
}

fn last_error(error: RetryError<Failure>) -> CallError {
    let effect = error.effect();
    match error.into_last() {
        Some(last) => CallError {
            effect,
            ..last.into_error()
        },
        None => CallError {
            effect,
            ..CallError::unknown(Class::Timeout, "no answer in time")
        },
    }
}

impl<T: Transport, S: Sleep + Clone + Send + Sync + 'static> Transport for Policy<T, S>
where
    S::Sleeping: Send,
{
    async fn call(
        &self,
        peer: Peer,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, CallError> {
        let callee = self
            .callees
            .get(&peer)
            .ok_or(CallError::not_done(Class::Permanent, "unknown service"))?;
        let Some(retry) = &callee.retry else {
            let attempt = self.attempt(peer, callee, request, deadline).await;
            return attempt.map_err(Failure::into_error);
        };
        let first = request.attempt;
        let operation = |attempt: Attempt| {
            let mut request = request.clone();
            request.attempt = first.saturating_add(attempt.number() - 1);
            self.attempt(peer, callee, request, deadline)
        };
        operation
            .retry_on(self.time.clone(), retry.clone())
            .retry_if(Failure::is_worth_another)
            .push_back(|answer: &Result<Reply, Failure>| answer.as_ref().err()?.error().retry_after)
            .effect_of(|failure: &Failure| failure.error().effect)
            .deadline(Deadline::at(deadline.instant() + SLACK))
            .entropy(&*self.caller.entropy)
            .await
            .map_err(last_error)
    }
}
