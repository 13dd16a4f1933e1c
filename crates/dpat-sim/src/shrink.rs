//! From a failing seed to a script from which nothing can be taken away.

mod minimize;

use std::collections::BTreeMap;

use dpat_model::{Fault, Op, Script, Trigger};

use crate::{Outcome, RunSpec, Simulation, SpecError, TraceMode};

/// How much work shrinking may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShrinkLimits {
    /// The most runs. 20 000 by default.
    pub runs_max: u64,
}

impl Default for ShrinkLimits {
    fn default() -> Self {
        Self { runs_max: 20_000 }
    }
}

/// What is left of a failing run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shrunk {
    /// Faults and calls that are left. Run with it, the same property fails.
    pub script: Script,
    /// The run of that script.
    pub outcome: Outcome,
    /// How many runs it took.
    pub tried: u64,
    /// Faults and calls before.
    pub units_before: usize,
    /// Faults and calls that are left.
    pub units: usize,
    /// Whether each was shown to be needed: without any one of them that property does not fail. False only if
    /// [`ShrinkLimits::runs_max`] ended the search.
    pub minimal: bool,
}

/// Why a run could not be shrunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShrinkError {
    /// The run holds.
    #[error("seed {seed} violates nothing")]
    Holds {
        /// The seed.
        seed: u64,
    },
    /// The run fails no more when its own script and calls are written out.
    #[error("seed {seed} violates {property:?}, but not with its script written out")]
    NotReplayed {
        /// The seed.
        seed: u64,
        /// The property.
        property: String,
    },
    /// There is no such run.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Reduces a failing run to a 1-minimal script: taking away any one fault, or any one call of a client, makes it pass.
///
/// Delta debugging (Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input") over faults and
/// calls together. Only runs in which the *same* property fails count as failing, so that one fault is not traded for
/// another. What is left of the calls is written into the script as [`Fault::Calls`].
///
/// # Errors
/// [`ShrinkError`] if there is no such run, or it does not fail.
pub fn shrink(
    sim: &dyn Simulation,
    spec: &RunSpec,
    limits: &ShrinkLimits,
) -> Result<Shrunk, ShrinkError> {
    let seed = spec.seed;
    let mut spec = spec.clone();
    spec.trace = TraceMode::Hash;
    let first = sim.run(&spec)?;
    let Some(violation) = &first.violation else {
        return Err(ShrinkError::Holds { seed });
    };
    let property = violation.property.clone();
    let units = Units::of(&first);
    let mut run = |kept: &[usize]| -> Result<Option<Outcome>, SpecError> {
        spec.script = Some(units.script(kept));
        let outcome = sim.run(&spec)?;
        let same = outcome.violation.as_ref().map(|found| &found.property) == Some(&property);
        Ok(same.then_some(outcome))
    };
    let all: Vec<usize> = (0..units.len()).collect();
    let Some(mut outcome) = run(&all)? else {
        return Err(ShrinkError::NotReplayed { seed, property });
    };
    let found = minimize::minimize(units.len(), limits.runs_max.saturating_sub(2), |kept| {
        Ok::<_, SpecError>(match run(kept)? {
            Some(failing) => {
                outcome = failing;
                true
            }
            None => false,
        })
    })?;
    Ok(Shrunk {
        script: units.script(&found.kept),
        outcome,
        tried: found.tried + 2,
        units_before: units.len(),
        units: found.kept.len(),
        minimal: found.minimal,
    })
}

/// Returns every script with one unit less: one fault, or one call of a client.
///
/// A script of [`shrink`] is 1-minimal exactly if none of these fails.
#[must_use]
pub fn with_one_less(script: &Script) -> Vec<Script> {
    let mut scripts = Vec::new();
    for (at, op) in script.ops.iter().enumerate() {
        if let Fault::Calls { client, keep } = &op.fault {
            for call in keep {
                let mut less = script.clone();
                less.ops[at].fault = Fault::Calls {
                    client: *client,
                    keep: keep.iter().copied().filter(|kept| kept != call).collect(),
                };
                scripts.push(less);
            }
        } else {
            let mut less = script.clone();
            less.ops.remove(at);
            scripts.push(less);
        }
    }
    scripts
}

/// What can be taken away: faults, then calls.
struct Units {
    bare: Script,
    faults: Vec<Op>,
    calls: Vec<(u64, u64)>,
    clients: u64,
}

impl Units {
    fn of(outcome: &Outcome) -> Self {
        let mut bare = outcome.script.clone();
        let ops = std::mem::take(&mut bare.ops);
        let (kept, faults): (Vec<Op>, Vec<Op>) = ops
            .into_iter()
            .partition(|op| matches!(op.fault, Fault::Calls { .. }));
        let made = (0_u64..).zip(&outcome.calls);
        let clients = outcome.calls.len() as u64;
        let calls = made
            .flat_map(|(client, made)| (0..*made).map(move |call| (client, call)))
            .filter(|(client, call)| {
                kept.iter().all(|op| match &op.fault {
                    Fault::Calls { client: of, keep } => of != client || keep.contains(call),
                    _ => true,
                })
            })
            .collect();
        Self {
            bare,
            faults,
            calls,
            clients,
        }
    }

    fn len(&self) -> usize {
        self.faults.len() + self.calls.len()
    }

    fn script(&self, kept: &[usize]) -> Script {
        let mut script = self.bare.clone();
        let mut calls: BTreeMap<u64, Vec<u64>> = (0..self.clients)
            .map(|client| (client, Vec::new()))
            .collect();
        for unit in kept {
            match unit.checked_sub(self.faults.len()) {
                None => script.ops.push(self.faults[*unit].clone()),
                Some(call) => {
                    let (client, call) = self.calls[call];
                    calls.entry(client).or_default().push(call);
                }
            }
        }
        script
            .ops
            .extend(calls.into_iter().map(|(client, keep)| Op {
                when: Trigger::At(0),
                fault: Fault::Calls { client, keep },
            }));
        script
    }
}
