//! `dpat shrink`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use dpat_cases::protocols::registry::registry;
use dpat_model::Script;
use dpat_sim::{Info, Outcome, RunSpec, ShrinkError, ShrinkLimits, Simulation, SpecError, shrink};

use crate::output::{say, write};
use crate::refusal::Refusal;
use crate::runs::specify;
use crate::{OK, UNKNOWN, VIOLATED};

/// Options of `dpat shrink`.
#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// A protocol or a known-bad variant of one: PROTOCOL@MUTANT.
    protocol: String,
    /// The seed of a run that fails.
    seed: u64,
    /// Start from these faults (JSON) instead of those that the seed draws.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How many nodes [default: those of the script, or of the protocol].
    #[arg(long)]
    nodes: Option<u32>,
}

/// Shrinks the run, prints the script that is left, and returns the exit code.
pub(crate) fn run(options: &Shrink) -> u8 {
    let registry = registry();
    let Shrink {
        protocol,
        seed,
        nodes,
        ..
    } = options;
    let specified = specify(
        &registry,
        protocol,
        *seed,
        *nodes,
        options.script.as_deref(),
    );
    let (sim, spec) = match specified {
        Ok(found) => found,
        Err(refusal) => return refusal.exit(),
    };
    let watched = Watched {
        sim,
        runs: AtomicU64::new(0),
    };
    let shrunk = match shrink(&watched, &spec, &ShrinkLimits::default()) {
        Ok(shrunk) => shrunk,
        Err(ShrinkError::Spec(error)) => return Refusal::from(error).exit(),
        Err(error) => {
            say(&format!("dpat: {error}"));
            return match error {
                ShrinkError::Holds { .. } => VIOLATED,
                _ => UNKNOWN,
            };
        }
    };
    if let Some(violation) = &shrunk.outcome.violation {
        say(&format!(
            "{} at event {}: {}",
            violation.property, violation.at_event, violation.message
        ));
    }
    let needed = if shrunk.minimal {
        "without any one of them it does not fail"
    } else {
        "the search ended before each was shown to be needed"
    };
    say(&format!(
        "{} of {} faults and calls are left after {} runs; {needed}",
        shrunk.units, shrunk.units_before, shrunk.tried
    ));
    write(&shrunk.script.to_json());
    OK
}

/// Says now and then how far the search is.
struct Watched<'s> {
    sim: &'s dyn Simulation,
    runs: AtomicU64,
}

impl Simulation for Watched<'_> {
    fn info(&self) -> Info {
        self.sim.info()
    }

    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError> {
        self.sim.script(spec)
    }

    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError> {
        let outcome = self.sim.run(spec)?;
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        if runs.is_power_of_two() {
            let ops = outcome.script.ops.len();
            say(&format!("run {runs}: {ops} operations"));
        }
        Ok(outcome)
    }
}
