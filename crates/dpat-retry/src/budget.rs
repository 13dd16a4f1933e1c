//! How many extra attempts a client may add to its traffic.

mod in_flight;
mod tokens;
mod traffic;

use crate::config::at_least_one;
use crate::error::ConfigError;
use crate::sync::{Arc, AtomicU64, Ordering};
use dpat_core::Instant;
use in_flight::InFlight;
use std::fmt;
use std::time::Duration;
use tokens::Tokens;
use traffic::Traffic;

/// The parts of one whole. Every share is an integer number of millionths, so that no sum drifts.
pub(crate) const UNIT: u64 = 1_000_000;

const RATIO_MAX: f64 = 1_000.0;
const TOKENS_MAX: u32 = 1_000_000;

/// The rule of a budget.
///
/// Ratios are kept in millionths: 0.2 is exact, 1/3 becomes 0.333333. They go from 0 to 1000.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetLimits {
    /// The retry throttle of gRPC (proposal A6, "Throttling Retry Attempts and Hedged RPCs").
    ///
    /// A failure takes one token, a success gives `ratio` tokens back, and extra attempts are allowed while more
    /// than half of the tokens are there. Needs no clock; costs a load per success while the bucket is full.
    #[non_exhaustive]
    Tokens {
        /// The size of the bucket, 1 to 1 000 000. It starts full.
        max: u32,
        /// Tokens for a success.
        ratio: f64,
    },
    /// A share of the requests in a sliding window (Finagle's `RetryBudget`).
    ///
    /// Within any window, extra attempts ≤ `ratio` × requests + `floor_per_second` × window. The window forgets in
    /// steps of a tenth of its length.
    #[non_exhaustive]
    Traffic {
        /// Extra attempts for each request; may be above 1.
        ratio: f64,
        /// The length of the window, 1 s to 1 h.
        window: Duration,
        /// Extra attempts a second that are allowed without any traffic.
        floor_per_second: u32,
    },
    /// A share of the requests in flight (Envoy's `retry_budget`).
    ///
    /// Extra attempts in flight ≤ the larger of `floor` and `ratio` × requests in flight.
    #[non_exhaustive]
    InFlight {
        /// Extra attempts for each request in flight; may be above 1.
        ratio: f64,
        /// Extra attempts in flight that are always allowed.
        floor: u32,
    },
}

impl BudgetLimits {
    /// Makes a token throttle.
    #[must_use]
    pub const fn tokens(max: u32, ratio: f64) -> Self {
        Self::Tokens { max, ratio }
    }

    /// Makes a share of the traffic of the last 10 s, with a floor of 10 a second.
    #[must_use]
    pub const fn traffic(ratio: f64) -> Self {
        Self::Traffic {
            ratio,
            window: Duration::from_secs(10),
            floor_per_second: 10,
        }
    }

    /// Makes a share of the traffic of the last `window`, with a floor.
    #[must_use]
    pub const fn traffic_in(ratio: f64, window: Duration, floor_per_second: u32) -> Self {
        Self::Traffic {
            ratio,
            window,
            floor_per_second,
        }
    }

    /// Makes a share of the requests in flight.
    #[must_use]
    pub const fn in_flight(ratio: f64, floor: u32) -> Self {
        Self::InFlight { ratio, floor }
    }
}

/// A limit on extra attempts, shared by retries, hedges and layers that call the same peer.
///
/// Clones share the same budget. Lock-free: every operation is a few atomics.
///
/// # Examples
/// ```
/// use dpat_retry::{Retry, RetryBudget};
///
/// let payments = RetryBudget::traffic(0.2)?;
/// let policy = Retry::builder().budget(payments.clone()).build()?;
/// # Ok::<(), dpat_retry::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    inner: Arc<Inner>,
}

struct Inner {
    rule: Rule,
    granted: AtomicU64,
    refused: AtomicU64,
}

enum Rule {
    Tokens(Tokens),
    Traffic(Traffic),
    InFlight(InFlight),
}

/// What a budget has seen and what it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// Extra attempts that were allowed, refunds not subtracted.
    pub granted: u64,
    /// Extra attempts that were refused.
    pub refused: u64,
    /// Extra attempts that would be allowed now, one after another and without further failures.
    pub available: u64,
}

impl RetryBudget {
    /// Makes a budget.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field: a ratio that is no number in 0 to 1000, no tokens, or a window
    /// outside 1 s to 1 h.
    pub fn new(limits: BudgetLimits) -> Result<Self, ConfigError> {
        let rule = match limits {
            BudgetLimits::Tokens { max, ratio } => {
                Rule::Tokens(Tokens::new(token_max(max)?, millionths(ratio)?))
            }
            BudgetLimits::Traffic {
                ratio,
                window,
                floor_per_second,
            } => Rule::Traffic(Traffic::new(
                millionths(ratio)?,
                checked_window(window)?,
                floor_per_second,
            )),
            BudgetLimits::InFlight { ratio, floor } => {
                Rule::InFlight(InFlight::new(millionths(ratio)?, floor))
            }
        };
        Ok(Self::with_rule(rule))
    }

    fn with_rule(rule: Rule) -> Self {
        Self {
            inner: Arc::new(Inner {
                rule,
                granted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// Makes a [`BudgetLimits::Tokens`] budget.
    ///
    /// # Errors
    /// As [`RetryBudget::new`].
    pub fn tokens(max: u32, ratio: f64) -> Result<Self, ConfigError> {
        Self::new(BudgetLimits::tokens(max, ratio))
    }

    /// Makes a [`BudgetLimits::Traffic`] budget over 10 s with a floor of 10 a second.
    ///
    /// # Errors
    /// As [`RetryBudget::new`].
    pub fn traffic(ratio: f64) -> Result<Self, ConfigError> {
        Self::new(BudgetLimits::traffic(ratio))
    }

    /// Makes a [`BudgetLimits::InFlight`] budget.
    ///
    /// # Errors
    /// As [`RetryBudget::new`].
    pub fn in_flight(ratio: f64, floor: u32) -> Result<Self, ConfigError> {
        Self::new(BudgetLimits::in_flight(ratio, floor))
    }

    /// Returns the budget that default policies of this process share: 500 tokens, 0.1 back for a success.
    ///
    /// A dead peer stops the retries after 250 failures more than successes pay for. Give each peer a budget of
    /// its own where one must not spend what another needs.
    #[must_use]
    pub fn process() -> Self {
        static PROCESS: std::sync::OnceLock<RetryBudget> = std::sync::OnceLock::new();
        PROCESS
            .get_or_init(|| Self::with_rule(Rule::Tokens(Tokens::new(500, UNIT / 10))))
            .clone()
    }

    /// Changes the limits for what comes from now on; never blocks.
    ///
    /// Credit that was earned stays as it was earned. What was already granted beyond a lower limit is a debt that
    /// later requests pay.
    ///
    /// # Errors
    /// [`ConfigError::OtherKind`] if the kind or the window differs; else as [`RetryBudget::new`].
    pub fn set_limits(&self, limits: BudgetLimits) -> Result<(), ConfigError> {
        match (&self.inner.rule, limits) {
            (Rule::Tokens(tokens), BudgetLimits::Tokens { max, ratio }) => {
                tokens.set(token_max(max)?, millionths(ratio)?);
            }
            (
                Rule::Traffic(traffic),
                BudgetLimits::Traffic {
                    ratio,
                    window,
                    floor_per_second,
                },
            ) if traffic.window() == window => {
                traffic.set(millionths(ratio)?, floor_per_second);
            }
            (Rule::InFlight(in_flight), BudgetLimits::InFlight { ratio, floor }) => {
                in_flight.set(millionths(ratio)?, floor);
            }
            _ => return Err(ConfigError::OtherKind),
        }
        Ok(())
    }

    /// Counts a request: the first attempt of an operation. Keep the ticket while the operation runs.
    pub fn request(self, now: Instant) -> RequestTicket {
        match &self.inner.rule {
            Rule::Tokens(_) => {}
            Rule::Traffic(traffic) => traffic.deposit(now),
            Rule::InFlight(in_flight) => in_flight.enter(),
        }
        RequestTicket { budget: self }
    }

    /// Asks for one extra attempt.
    #[must_use]
    pub fn try_extra(&self, now: Instant) -> Option<ExtraPermit> {
        let epoch = match &self.inner.rule {
            Rule::Tokens(tokens) => tokens.allows().then_some(0),
            Rule::Traffic(traffic) => traffic.try_withdraw(now),
            Rule::InFlight(in_flight) => in_flight.try_enter_extra().then_some(0),
        };
        let counter = if epoch.is_some() {
            &self.inner.granted
        } else {
            &self.inner.refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
        epoch.map(|epoch| ExtraPermit {
            budget: self.clone(),
            epoch,
            sent: false,
        })
    }

    /// Records an attempt that succeeded.
    pub fn success(&self) {
        if let Rule::Tokens(tokens) = &self.inner.rule {
            tokens.success();
        }
    }

    /// Records an attempt that failed in a way that is worth a retry.
    pub fn failure(&self) {
        if let Rule::Tokens(tokens) = &self.inner.rule {
            tokens.failure();
        }
    }

    /// Reads the counters, without a lock.
    #[must_use]
    pub fn snapshot(&self) -> BudgetSnapshot {
        BudgetSnapshot {
            granted: self.inner.granted.load(Ordering::Relaxed),
            refused: self.inner.refused.load(Ordering::Relaxed),
            available: match &self.inner.rule {
                Rule::Tokens(tokens) => tokens.available(),
                Rule::Traffic(traffic) => traffic.available(),
                Rule::InFlight(in_flight) => in_flight.available(),
            },
        }
    }

    #[cfg(test)]
    pub(crate) fn traffic_rule(&self) -> Option<&Traffic> {
        match &self.inner.rule {
            Rule::Traffic(traffic) => Some(traffic),
            _ => None,
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.inner.rule {
            Rule::Tokens(_) => "Tokens",
            Rule::Traffic(_) => "Traffic",
            Rule::InFlight(_) => "InFlight",
        };
        f.debug_struct("RetryBudget")
            .field("kind", &kind)
            .field("snapshot", &self.snapshot())
            .finish()
    }
}

/// One request that a budget counts. Dropping it ends the request.
#[derive(Debug)]
#[must_use = "dropping the ticket ends the request"]
pub struct RequestTicket {
    budget: RetryBudget,
}

impl RequestTicket {
    /// Returns the budget.
    #[must_use]
    pub const fn budget(&self) -> &RetryBudget {
        &self.budget
    }
}

impl Drop for RequestTicket {
    fn drop(&mut self) {
        if let Rule::InFlight(in_flight) = &self.budget.inner.rule {
            in_flight.leave();
        }
    }
}

/// The right to one extra attempt. Keep it while the attempt runs.
///
/// Dropped before [`sent`](Self::sent), it is given back exactly once.
#[derive(Debug)]
#[must_use = "dropping the permit gives it back"]
pub struct ExtraPermit {
    budget: RetryBudget,
    epoch: u64,
    sent: bool,
}

impl ExtraPermit {
    /// Says that the attempt has started, so that the permit is spent.
    pub const fn sent(&mut self) {
        self.sent = true;
    }
}

impl Drop for ExtraPermit {
    fn drop(&mut self) {
        match &self.budget.inner.rule {
            Rule::Tokens(_) => {}
            Rule::Traffic(traffic) => {
                if !self.sent {
                    traffic.refund(self.epoch);
                }
            }
            Rule::InFlight(in_flight) => in_flight.leave_extra(),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in 0..=1e9 after the check
fn millionths(ratio: f64) -> Result<u64, ConfigError> {
    if (0.0..=RATIO_MAX).contains(&ratio) {
        Ok((ratio * 1e6).round() as u64)
    } else {
        Err(ConfigError::OutOfRange {
            field: "ratio",
            value: ratio,
            min: 0.0,
            max: RATIO_MAX,
        })
    }
}

const fn token_max(max: u32) -> Result<u32, ConfigError> {
    if max > TOKENS_MAX {
        return Err(ConfigError::TooLarge {
            field: "max tokens",
            max: TOKENS_MAX as u64,
        });
    }
    match at_least_one("max tokens", max == 0) {
        Ok(()) => Ok(max),
        Err(error) => Err(error),
    }
}

fn checked_window(window: Duration) -> Result<Duration, ConfigError> {
    if window < Duration::from_secs(1) {
        Err(ConfigError::TooSmall {
            field: "window (s)",
            min: 1,
        })
    } else if window > Duration::from_secs(3600) {
        Err(ConfigError::TooLarge {
            field: "window (s)",
            max: 3600,
        })
    } else {
        Ok(window)
    }
}

#[cfg(test)]
mod tests;
