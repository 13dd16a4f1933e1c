//! Whether the simulator finds what it must: the known-bad variants of every protocol.

use crate::simulation::{full_name, verdict_only};
use crate::{
    Mutant, Outcome, Registry, RunSpec, ShrinkLimits, Simulation, SpecError, first_failure, shrink,
    with_one_less,
};

/// Among so many seeds, from 0, a mutant must be found at least twice and missed at least once.
pub const MUTANT_SEEDS: u64 = 1_000;

/// What was found of one mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutantReport {
    /// The mutant, as `NAME@MUTANT`.
    pub name: String,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// Within so many seeds it must be found.
    pub seeds_max: u64,
    /// The first seed that fails, if one does.
    pub found: Option<FoundMutant>,
    /// What is wrong with it; a good mutant leaves this empty.
    pub problems: Vec<String>,
}

/// The first seed that fails for a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundMutant {
    /// The seed.
    pub seed: u64,
    /// The property that fails.
    pub property: String,
    /// The hash of the run.
    pub trace_hash: u64,
    /// How many faults and calls the run had.
    pub units_before: usize,
    /// How many the shrunk script has.
    pub units: usize,
}

/// Checks every mutant of every simulation; see [`check_mutant`].
///
/// # Errors
/// [`SpecError`] if a mutant cannot be run.
pub fn check_mutants(registry: &Registry, threads: usize) -> Result<Vec<MutantReport>, SpecError> {
    let mut reports = Vec::new();
    for sim in registry.iter() {
        for mutant in sim.info().mutants {
            reports.push(check_mutant(sim, mutant, threads)?);
        }
    }
    Ok(reports)
}

/// Checks that a mutant shows what simulation is worth.
///
/// - It is found within [`Mutant::seeds_max`] seeds, by a property and not by a panic or a limit.
/// - Its run replays to the same hash and violation.
/// - Its shrunk script still fails, and without any one of its faults and calls it does not.
/// - Of the first [`MUTANT_SEEDS`] seeds at least two find it, and at least one misses it: a mutant that every run
///   finds needs no faults to be found.
///
/// # Errors
/// [`SpecError`] if the mutant cannot be run.
pub fn check_mutant(
    sim: &dyn Simulation,
    mutant: &Mutant,
    threads: usize,
) -> Result<MutantReport, SpecError> {
    let mut report = MutantReport {
        name: full_name(sim.info().name, Some(mutant.name)),
        rule: mutant.rule,
        seeds_max: mutant.seeds_max,
        found: None,
        problems: Vec::new(),
    };
    let spec = RunSpec {
        mutant: Some(mutant.name.to_owned()),
        ..RunSpec::new(0)
    };
    let Some(first) = first_failure(sim, 0..mutant.seeds_max, &spec, threads)? else {
        let missed = format!("not found in {} seeds", mutant.seeds_max);
        report.problems.push(missed);
        return Ok(report);
    };
    let spec = RunSpec {
        seed: first.seed,
        ..spec
    };
    examine(sim, &spec, &first, &mut report)?;
    let rate = rate(sim, &spec, first.seed)?;
    report.problems.extend(rate);
    Ok(report)
}

/// Replays and shrinks the first failing run.
fn examine(
    sim: &dyn Simulation,
    spec: &RunSpec,
    first: &Outcome,
    report: &mut MutantReport,
) -> Result<(), SpecError> {
    let problems = &mut report.problems;
    let property = property(first).unwrap_or_default().to_owned();
    let seed = first.seed;
    let declared = sim.info().properties.contains(&property.as_str());
    if !declared && !["breach", "durable-state", "codec"].contains(&property.as_str()) {
        problems.push(format!(
            "seed {seed} fails by {property}, which is no property"
        ));
    }
    let again = sim.run(&verdict_only(spec))?;
    if (again.trace_hash, &again.violation) != (first.trace_hash, &first.violation) {
        problems.push(format!("seed {seed} does not replay to the same hash"));
    }
    let mut found = FoundMutant {
        seed,
        property,
        trace_hash: first.trace_hash,
        units_before: 0,
        units: 0,
    };
    match shrink(sim, spec, &ShrinkLimits::default()) {
        Err(error) => problems.push(format!("seed {seed} cannot be shrunk: {error}")),
        Ok(shrunk) => {
            found.units_before = shrunk.units_before;
            found.units = shrunk.units;
            let run = |script| {
                let script = Some(script);
                sim.run(&RunSpec {
                    script,
                    ..verdict_only(spec)
                })
            };
            let rerun = run(shrunk.script.clone())?;
            if rerun.violation != shrunk.outcome.violation || rerun.violation.is_none() {
                problems.push(format!(
                    "the shrunk script of seed {seed} does not fail again"
                ));
            }
            for less in with_one_less(&shrunk.script) {
                if self::property(&run(less)?) == Some(&found.property) {
                    problems.push(format!("the shrunk script of seed {seed} is not minimal"));
                    break;
                }
            }
        }
    }
    report.found = Some(found);
    Ok(())
}

/// Looks for a second seed that fails and one that does not.
fn rate(sim: &dyn Simulation, spec: &RunSpec, first: u64) -> Result<Option<String>, SpecError> {
    let mut spec = verdict_only(spec);
    let (mut failed, mut held) = (1, first);
    for seed in first + 1..MUTANT_SEEDS.max(first + 1) {
        if failed >= 2 && held >= 1 {
            break;
        }
        spec.seed = seed;
        match sim.run(&spec)?.violation {
            Some(_) => failed += 1,
            None => held += 1,
        }
    }
    Ok(match (failed, held) {
        (1, _) => Some(format!("found only once in {MUTANT_SEEDS} seeds")),
        (_, 0) => Some(format!("found in every one of {MUTANT_SEEDS} seeds")),
        _ => None,
    })
}

fn property(outcome: &Outcome) -> Option<&str> {
    let violation = outcome.violation.as_ref();
    violation.map(|violation| violation.property.as_str())
}
