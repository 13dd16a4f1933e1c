//! What a run does, wherever it runs.

use dpat_model::Script;

use super::chaos;
use super::config::{Config, Scenario};
use super::generator::Generator;
use super::story::{self, Watched};

/// What all nodes of a run have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run.
    pub run: Config,
    /// The faults.
    pub script: Script,
    /// The orders of which everything is written down.
    pub watched: Watched,
}

impl Plan {
    /// Draws the plan of a configuration.
    #[must_use]
    pub fn of(run: Config) -> Self {
        let orders = || Generator::new(&run).map(|planned| planned.order);
        let script = chaos::plan(&run, orders());
        Self::with(run, script)
    }

    /// Makes the plan of a configuration with these faults.
    #[must_use]
    pub fn with(run: Config, script: Script) -> Self {
        let orders = Generator::new(&run).map(|planned| planned.order);
        let watched = story::watch(&script, orders, run.scenario == Scenario::RetryStorm);
        Self {
            run,
            script,
            watched,
        }
    }
}
