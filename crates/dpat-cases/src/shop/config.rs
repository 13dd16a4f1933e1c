//! What a run is made of.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A pattern that can be left out, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pattern {
    /// Circuit breakers between the services.
    Breaker,
    /// Repeating calls that failed.
    Retry,
    /// Payment's memory of what it has charged.
    Idempotency,
    /// Writing the event together with the order.
    Outbox,
}

impl Pattern {
    /// Every pattern that can be left out.
    pub const ALL: [Self; 4] = [Self::Breaker, Self::Retry, Self::Idempotency, Self::Outbox];

    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Retry => "retry",
            Self::Idempotency => "idempotency",
            Self::Outbox => "outbox",
        }
    }

    /// Returns the invariant that breaks without the pattern.
    #[must_use]
    pub const fn invariant(self) -> &'static str {
        match self {
            Self::Breaker => "spared_calls",
            Self::Retry => "transient_survived",
            Self::Idempotency => "single_charge",
            Self::Outbox => "event_once",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the faults come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Faults {
    /// A plan drawn from the seed.
    #[default]
    Seeded,
    /// No faults.
    None,
}

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Seed of orders and faults.
    pub seed: u64,
    /// How many orders.
    pub orders: u64,
    /// Orders a second, on average.
    pub rate: f64,
    /// Patterns that are left out.
    pub without: Vec<Pattern>,
    /// Which faults.
    pub faults: Faults,
    /// Where the report goes.
    pub report: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 7,
            orders: 2_000,
            rate: 400.0,
            without: Vec::new(),
            faults: Faults::Seeded,
            report: None,
        }
    }
}

/// A value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// Which value.
    pub field: &'static str,
    /// The limit that it breaks.
    pub reason: String,
}

/// Most orders of one run.
pub const ORDERS_MAX: u64 = 10_000_000;
/// Highest rate.
pub const RATE_MAX: f64 = 100_000.0;

impl Config {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first value that breaks its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.orders == 0 || self.orders > ORDERS_MAX {
            return Err(ConfigError {
                field: "orders",
                reason: format!("must be 1 to {ORDERS_MAX}, is {}", self.orders),
            });
        }
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            return Err(ConfigError {
                field: "rate",
                reason: format!("must be above 0 and at most {RATE_MAX}, is {}", self.rate),
            });
        }
        Ok(())
    }

    /// Says whether a pattern is in use.
    #[must_use]
    pub fn uses(&self, pattern: Pattern) -> bool {
        !self.without.contains(&pattern)
    }

    /// Returns how long the orders take to send.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.orders as f64 / self.rate)
    }
}
