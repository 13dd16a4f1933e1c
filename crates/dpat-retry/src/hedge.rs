//! Hedging: a second attempt while the first still runs.

mod call;

pub use call::HedgeCall;

use crate::budget::RetryBudget;
use crate::config::at_least_one;
use crate::error::ConfigError;
use crate::machine::{ATTEMPTS_MAX, DELAYS_MAX, HedgeDelays, HedgePlan};
use crate::quantile::LiveQuantile;
use std::time::Duration;

/// When the next attempt is sent beside those that still run.
#[derive(Clone, Debug)]
pub struct HedgeDelay(pub(crate) Source);

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Listed(HedgeDelays),
    Live(LiveQuantile),
}

impl HedgeDelay {
    /// Always waits `delay`.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self(Source::Listed(HedgeDelays::fixed(delay)))
    }

    /// Waits each of `delays` in turn; the last one repeats.
    ///
    /// The first is the wait between the first and the second attempt.
    ///
    /// # Errors
    /// [`ConfigError`] if there are none, or more than 7.
    pub fn list(delays: &[Duration]) -> Result<Self, ConfigError> {
        const FIELD: &str = "hedge delays (count)";
        at_least_one(FIELD, delays.is_empty())?;
        let mut list = [Duration::ZERO; DELAYS_MAX];
        let Some(start) = list.get_mut(..delays.len()) else {
            return Err(ConfigError::TooLarge {
                field: FIELD,
                max: DELAYS_MAX as u64,
            });
        };
        start.copy_from_slice(delays);
        Ok(Self(Source::Listed(HedgeDelays {
            list,
            given: delays.len(),
        })))
    }

    /// Waits the live quantile of what the calls before took.
    ///
    /// Every hedged call feeds it with its first attempt: the latency if it finished, the time it had so far if
    /// another attempt won. So a share of about 1 − quantile of the calls is hedged, and stays so.
    #[must_use]
    pub const fn quantile(live: LiveQuantile) -> Self {
        Self(Source::Live(live))
    }
}

impl From<Duration> for HedgeDelay {
    fn from(delay: Duration) -> Self {
        Self::after(delay)
    }
}

impl From<LiveQuantile> for HedgeDelay {
    fn from(live: LiveQuantile) -> Self {
        Self::quantile(live)
    }
}

/// When further attempts are sent beside a slow one. Only for operations that may be done twice.
///
/// Defaults: 2 attempts, 30 s for the whole operation, the next attempt at once when one fails, pushed back by at
/// most 60 s, and the budget that the whole process shares.
///
/// # Examples
/// ```
/// use dpat_retry::{Hedge, LiveQuantile};
/// use std::time::Duration;
///
/// let p95 = LiveQuantile::new(0.95, Duration::from_millis(100))?;
/// let policy = Hedge::after(p95);
/// # Ok::<(), dpat_retry::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hedge {
    pub(crate) plan: HedgePlan,
    pub(crate) live: Option<LiveQuantile>,
    pub(crate) budget: Option<RetryBudget>,
}

impl Hedge {
    /// Makes a policy with the defaults: two attempts, the second after `delay`.
    pub fn after(delay: impl Into<HedgeDelay>) -> Self {
        let (plan, live) = plan(delay.into());
        Self {
            plan,
            live,
            budget: Some(RetryBudget::process()),
        }
    }

    /// Starts from the defaults.
    pub fn builder(delay: impl Into<HedgeDelay>) -> HedgeBuilder {
        HedgeBuilder {
            hedge: Self::after(delay),
        }
    }

    /// Returns the budget, if there is one.
    #[must_use]
    pub const fn budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref()
    }

    /// Replaces the budget.
    #[must_use]
    pub fn with_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }
}

fn plan(delay: HedgeDelay) -> (HedgePlan, Option<LiveQuantile>) {
    let (delays, live) = match delay.0 {
        Source::Listed(delays) => (delays, None),
        Source::Live(live) => (HedgeDelays::fixed(live.current()), Some(live)),
    };
    let plan = HedgePlan {
        attempts: 2,
        delays,
        on_failure: true,
        timeout: Some(Duration::from_secs(30)),
        push_back_max: Duration::from_secs(60),
    };
    (plan, live)
}

/// Builds a [`Hedge`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HedgeBuilder {
    hedge: Hedge,
}

impl HedgeBuilder {
    /// Sets the largest number of attempts, the first one included; 1 to 8.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.hedge.plan.attempts = attempts;
        self
    }

    /// Sets the time for the whole operation.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.hedge.plan.timeout = Some(timeout);
        self
    }

    /// Leaves the whole operation to a surrounding or explicit deadline.
    pub const fn no_timeout(mut self) -> Self {
        self.hedge.plan.timeout = None;
        self
    }

    /// Says whether a failure sends the next attempt at once.
    pub const fn on_failure(mut self, at_once: bool) -> Self {
        self.hedge.plan.on_failure = at_once;
        self
    }

    /// Sets the longest wait that the other side can ask for.
    pub const fn max_retry_after(mut self, max: Duration) -> Self {
        self.hedge.plan.push_back_max = max;
        self
    }

    /// Sets the budget; share it with the retries to the same peer.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.hedge.budget = Some(budget);
        self
    }

    /// Hedges without a budget.
    pub fn no_budget(mut self) -> Self {
        self.hedge.budget = None;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError`] if the number of attempts is not 1 to 8, or the timeout is 0.
    pub fn build(self) -> Result<Hedge, ConfigError> {
        let plan = &self.hedge.plan;
        at_least_one("attempts", plan.attempts == 0)?;
        at_least_one("timeout (ns)", plan.timeout == Some(Duration::ZERO))?;
        if plan.attempts > ATTEMPTS_MAX {
            return Err(ConfigError::TooLarge {
                field: "attempts",
                max: u64::from(ATTEMPTS_MAX),
            });
        }
        Ok(self.hedge)
    }
}
