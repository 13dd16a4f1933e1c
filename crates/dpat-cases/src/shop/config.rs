//! What a run is made of.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dpat_model::Script;
use serde::{Deserialize, Serialize};

use super::chaos;
use super::domain::Order;
use super::engine::{Engine, Url};

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
    /// The limit on retries, in the scenario that is about it.
    Budget,
    /// Acknowledging an event to its queue after it has taken effect, not before.
    Ack,
    /// The limit of the queue between the relay and the packing of parcels.
    Backpressure,
}

impl Pattern {
    /// Every pattern that can be left out.
    pub const ALL: [Self; 7] = [
        Self::Breaker,
        Self::Retry,
        Self::Idempotency,
        Self::Outbox,
        Self::Budget,
        Self::Ack,
        Self::Backpressure,
    ];

    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Retry => "retry",
            Self::Idempotency => "idempotency",
            Self::Outbox => "outbox",
            Self::Budget => "budget",
            Self::Ack => "ack",
            Self::Backpressure => "backpressure",
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
            Self::Budget => "retry_amplification",
            Self::Ack => "nothing_lost",
            Self::Backpressure => "bounded_memory",
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
    /// A plan given.
    Script(#[serde(with = "chaos::as_json")] Script),
}

/// What the run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Scenario {
    /// Every kind of fault.
    #[default]
    Shop,
    /// Payment fails most requests for a while; retries must not multiply them. Without breakers, which would end the
    /// storm before the budget could.
    RetryStorm,
    /// Payment hangs for long; its callers must not hang with it.
    CascadingFailure,
    /// Some events cannot be handled, ever; the others must not wait for them.
    PoisonMessage,
    /// Packing is slower than selling for a while; what waits must stay within its limit.
    SlowConsumer,
}

impl Scenario {
    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::RetryStorm => "retry-storm",
            Self::CascadingFailure => "cascading-failure",
            Self::PoisonMessage => "poison-message",
            Self::SlowConsumer => "slow-consumer",
        }
    }

    /// Returns the patterns that can be left out.
    #[must_use]
    pub const fn patterns(self) -> &'static [Pattern] {
        match self {
            Self::Shop => &[
                Pattern::Breaker,
                Pattern::Retry,
                Pattern::Idempotency,
                Pattern::Outbox,
                Pattern::Ack,
                Pattern::Backpressure,
            ],
            Self::PoisonMessage => &[],
            Self::SlowConsumer => &[Pattern::Backpressure],
            Self::RetryStorm => &[Pattern::Budget],
            Self::CascadingFailure => &[Pattern::Breaker],
        }
    }

    /// Says why a pattern cannot be left out, and which can.
    fn refusal(self, pattern: Pattern) -> String {
        let names: Vec<&str> = self.patterns().iter().map(|one| one.name()).collect();
        let may = match names.as_slice() {
            [] => "it shows what is given up, and no pattern can".to_owned(),
            names => format!("only {} can", names.join(", ")),
        };
        format!(
            "{pattern} cannot be left out of scenario {}: {may}",
            self.name()
        )
    }
}

/// Where the nodes run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nodes {
    /// Each in a thread of this process.
    #[default]
    Threads,
    /// Each in a process of its own: `program node --config FILE`.
    Processes {
        /// The program.
        program: PathBuf,
    },
    /// In the simulator: in virtual time, on a simulated network, the same way again for the same seed.
    Simulated,
}

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// What it is about.
    pub scenario: Scenario,
    /// Where the nodes run.
    pub nodes: Nodes,
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
    /// On which engine.
    #[serde(default)]
    pub engine: Engine,
    /// Its server, if it is not one of this run alone. Not written anywhere.
    #[serde(skip)]
    pub engine_url: Option<Url>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Whether the services stay up for others until Ctrl-C.
    pub serve: bool,
    /// Orders given, instead of drawn from the seed; `orders` is their number.
    #[serde(skip)]
    pub input: Option<Arc<[Order]>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scenario: Scenario::Shop,
            nodes: Nodes::Threads,
            seed: 7,
            orders: 2_000,
            rate: 400.0,
            without: Vec::new(),
            faults: Faults::Seeded,
            engine: Engine::Embedded,
            engine_url: None,
            report: None,
            serve: false,
            input: None,
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
        let least = u64::from(!self.serve);
        if self.orders < least || self.orders > ORDERS_MAX {
            return Err(ConfigError {
                field: "orders",
                reason: format!("must be {least} to {ORDERS_MAX}, is {}", self.orders),
            });
        }
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            return Err(ConfigError {
                field: "rate",
                reason: format!("must be above 0 and at most {RATE_MAX}, is {}", self.rate),
            });
        }
        if self.nodes == Nodes::Simulated && self.engine != Engine::Embedded {
            return Err(ConfigError {
                field: "engine",
                reason: format!("{} is not simulated; the embedded one is", self.engine),
            });
        }
        for pattern in &self.without {
            if !self.scenario.patterns().contains(pattern) {
                return Err(ConfigError {
                    field: "without",
                    reason: self.scenario.refusal(*pattern),
                });
            }
        }
        Ok(())
    }

    /// Returns the other side of a scenario that is about one pattern: without it, or with it again.
    #[must_use]
    pub fn counterpart(&self) -> Option<Self> {
        let two_sided = matches!(
            self.scenario,
            Scenario::RetryStorm | Scenario::CascadingFailure | Scenario::SlowConsumer
        );
        if !two_sided || self.serve {
            return None;
        }
        let without = if self.without.is_empty() {
            self.scenario.patterns().to_vec()
        } else {
            Vec::new()
        };
        Some(Self {
            without,
            report: None,
            ..self.clone()
        })
    }

    /// Says whether a pattern is in use.
    #[must_use]
    pub fn uses(&self, pattern: Pattern) -> bool {
        let by_scenario = self.scenario != Scenario::RetryStorm || pattern != Pattern::Breaker;
        by_scenario && !self.without.contains(&pattern)
    }

    /// Returns how long the orders take to send.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.orders as f64 / self.rate)
    }
}
