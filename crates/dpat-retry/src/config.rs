//! The retry policy and its builder.

use crate::budget::RetryBudget;
use crate::error::ConfigError;
use crate::machine::Plan;
use dpat_core::Backoff;
use std::time::Duration;

/// What a retry does when it runs inside an attempt of another retry or hedge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nested {
    /// Makes one attempt and leaves the retrying to the outer one, so that attempts do not multiply.
    #[default]
    Once,
    /// Retries all the same.
    Allow,
}

/// When and how often an operation is tried again.
///
/// A value: cheap to clone (one reference count for the budget), without state of its own. The default is right for
/// a remote call that may be repeated:
///
/// | setting | default | why |
/// |---|---|---|
/// | attempts | 3 | three times the load at worst, and the budget stops that early |
/// | backoff | 100 ms, doubling, at most 20 s, full jitter | clients do not come back together |
/// | timeout | 30 s for the whole operation | a caller is never stuck |
/// | attempt timeout | 10 s | a hanging attempt leaves time for two more |
/// | largest `Retry-After` | 60 s | a wrong header cannot park the caller |
/// | idempotent | yes | see [`RetryBuilder::idempotent`] |
/// | budget | [`RetryBudget::process`] | a dead peer is not hit three times as hard |
/// | nested | [`Nested::Once`] | layers of retries do not multiply |
///
/// # Examples
/// ```
/// use dpat_retry::Retry;
/// use std::time::Duration;
///
/// let policy = Retry::builder()
///     .attempts(5)
///     .timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok::<(), dpat_retry::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    pub(crate) plan: Plan,
    pub(crate) budget: Option<RetryBudget>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            plan: Plan::DEFAULT,
            budget: Some(RetryBudget::process()),
        }
    }
}

impl Retry {
    /// Starts from the defaults.
    pub fn builder() -> RetryBuilder {
        RetryBuilder {
            plan: Plan::DEFAULT,
            budget: Budget::Process,
        }
    }

    /// Returns the largest number of attempts.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.plan.attempts
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

/// Builds a [`Retry`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBuilder {
    plan: Plan,
    budget: Budget,
}

#[derive(Clone, Debug)]
enum Budget {
    Process,
    None,
    Own(RetryBudget),
}

impl RetryBuilder {
    /// Sets the largest number of attempts, the first one included; at least 1.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.plan.attempts = attempts;
        self
    }

    /// Sets the waits between attempts.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.plan.backoff = backoff;
        self
    }

    /// Sets the time for the whole operation, waits included.
    ///
    /// A surrounding deadline that is nearer wins.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.plan.timeout = Some(timeout);
        self
    }

    /// Leaves the whole operation to a surrounding or explicit deadline.
    pub const fn no_timeout(mut self) -> Self {
        self.plan.timeout = None;
        self
    }

    /// Sets the time for one attempt.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.plan.attempt_timeout = Some(timeout);
        self
    }

    /// Lets one attempt take all the time that is left.
    pub const fn no_attempt_timeout(mut self) -> Self {
        self.plan.attempt_timeout = None;
        self
    }

    /// Sets the longest wait that the other side can ask for; longer ones are cut to it.
    pub const fn max_retry_after(mut self, max: Duration) -> Self {
        self.plan.max_retry_after = max;
        self
    }

    /// Says whether doing the operation twice does no harm.
    ///
    /// If not, a failure is retried only when its effect is [`NotDone`](dpat_core::Effect::NotDone), as told by
    /// [`by_class`](crate::RetryCall::by_class) or [`effect_of`](crate::RetryCall::effect_of); a timeout never is.
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.plan.idempotent = idempotent;
        self
    }

    /// Sets the budget; share one between all that call the same peer.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Budget::Own(budget);
        self
    }

    /// Retries without a budget.
    pub fn no_budget(mut self) -> Self {
        self.budget = Budget::None;
        self
    }

    /// Sets what happens inside another retry.
    pub const fn nested(mut self, nested: Nested) -> Self {
        self.plan.nested = nested;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the number of attempts or a timeout is 0.
    pub fn build(self) -> Result<Retry, ConfigError> {
        at_least_one("attempts", self.plan.attempts == 0)?;
        at_least_one("timeout (ns)", self.plan.timeout == Some(Duration::ZERO))?;
        at_least_one(
            "attempt_timeout (ns)",
            self.plan.attempt_timeout == Some(Duration::ZERO),
        )?;
        Ok(Retry {
            plan: self.plan,
            budget: match self.budget {
                Budget::Process => Some(RetryBudget::process()),
                Budget::None => None,
                Budget::Own(budget) => Some(budget),
            },
        })
    }
}

pub(crate) const fn at_least_one(field: &'static str, is_zero: bool) -> Result<(), ConfigError> {
    if is_zero {
        Err(ConfigError::TooSmall { field, min: 1 })
    } else {
        Ok(())
    }
}
