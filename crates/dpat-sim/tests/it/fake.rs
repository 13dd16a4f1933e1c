//! Simulations whose outcomes a test makes up.

use dpat_model::{Nodes, Script};
use dpat_sim::{
    Coverage, Families, Info, Mutant, Outcome, Plan, RunSpec, Simulation, SpecError, Violation,
};

pub(crate) const KINDS: &[&str] = &["Ping", "Pong"];
pub(crate) const PHASES: &[&str] = &["up"];

/// Runs a function.
pub(crate) struct Fake<F> {
    pub(crate) plan: Plan,
    pub(crate) mutants: &'static [Mutant],
    pub(crate) outcome: F,
}

impl<F> Fake<F>
where
    F: Fn(&RunSpec, &mut Outcome) + Send + Sync,
{
    /// A simulation without faults, whose runs reach everything unless the function changes that.
    pub(crate) fn new(outcome: F) -> Self {
        Self {
            plan: Plan::calm(),
            mutants: &[],
            outcome,
        }
    }
}

impl<F> Simulation for Fake<F>
where
    F: Fn(&RunSpec, &mut Outcome) + Send + Sync,
{
    fn info(&self) -> Info {
        Info {
            name: "fake",
            about: "Says what a test wants",
            nodes_default: 3,
            nodes_min: 1,
            properties: &["right", "good"],
            mutants: self.mutants,
            kinds: KINDS,
            phases: PHASES,
            plan: self.plan,
        }
    }

    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError> {
        Ok(match &spec.script {
            Some(script) => script.clone(),
            None => self.plan.script("fake", 3, KINDS, spec.seed),
        })
    }

    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError> {
        let mut outcome = Outcome {
            seed: spec.seed,
            events: 10 + spec.seed,
            delivered: spec.seed,
            trace_hash: spec.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            violation: None,
            coverage: Coverage::new(KINDS, PHASES),
            script: self.script(spec)?,
            trace: None,
            calls: Vec::new(),
        };
        outcome.coverage.delivered(0, 0, Families::NONE);
        outcome.coverage.delivered(1, 0, Families::NONE);
        outcome.coverage.note_compared(1);
        for op in &outcome.script.ops {
            outcome.coverage.struck(&op.fault);
        }
        (self.outcome)(spec, &mut outcome);
        if outcome
            .violation
            .as_ref()
            .is_some_and(|found| found.property == "no such run")
        {
            return Err(SpecError::Nodes {
                asked: u32::try_from(spec.seed).unwrap_or(u32::MAX),
                min: 1,
                max: 2,
            });
        }
        Ok(outcome)
    }
}

pub(crate) fn violation(property: &str) -> Option<Violation> {
    Some(Violation {
        property: property.to_owned(),
        at_event: 4,
        message: "it is not".to_owned(),
    })
}

/// Everything that has to be of a plain script without faults.
pub(crate) fn bare() -> Script {
    Script::new("fake", Nodes::Count(3), 7)
}
