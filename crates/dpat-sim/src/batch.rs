//! Many seeds: run, merged, and asked whether they tested anything.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dpat_model::Digest;

use crate::simulation::{full_name, verdict_only};
use crate::{Coverage, Families, Family, Info, Outcome, RunSpec, Simulation, SpecError, Violation};

/// The most violations that a [`BatchReport`] keeps; the first of them by seed.
pub const VIOLATIONS_MAX: usize = 10_000;

/// The fewest seeds of a batch that must have seen every kind of fault it drew. Fewer may miss one by chance.
pub const FAULT_GATE_SEEDS: u64 = 16;

/// A seed whose run violated a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// The hash of the run.
    pub trace_hash: u64,
}

/// What a batch of seeds came to. The same for every number of threads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport {
    /// The protocol, with its mutant as `NAME@MUTANT`.
    pub protocol: String,
    /// The seeds that were run.
    pub seeds: Range<u64>,
    /// Events of all runs.
    pub events: u64,
    /// Messages that reached a process in all runs.
    pub delivered: u64,
    /// The hash of the run, or of the hashes of several in the order of their seeds.
    pub trace_hash: u64,
    /// The seeds that failed, in order, at most [`VIOLATIONS_MAX`].
    pub violations: Vec<Failed>,
    /// How many failed.
    pub failed: u64,
    /// Why the batch shows nothing, if it does not.
    pub vacuous: Vec<String>,
    /// What was reached.
    pub coverage: Coverage,
    /// The families that at least one script had.
    pub drawn: Families,
}

impl BatchReport {
    /// Returns the exit code of a command: 0 if all held, 1 if a property failed, 2 if nothing can be told.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.failed, self.vacuous.is_empty()) {
            (0, true) => 0,
            (0, false) => 2,
            _ => 1,
        }
    }
}

/// Runs a range of seeds on some threads and merges what they came to.
///
/// The seed and the trace of `spec` are not used. The report does not depend on the number of threads.
///
/// # Errors
/// [`SpecError`] if there are no such runs.
pub fn batch(
    sim: &dyn Simulation,
    seeds: Range<u64>,
    spec: &RunSpec,
    threads: usize,
) -> Result<BatchReport, SpecError> {
    let (total, _) = shared(sim, &seeds, spec, threads, false)?;
    Ok(total.report(sim, seeds, spec))
}

/// Runs seeds until one fails and returns the first that does, with its run.
///
/// Looks at no seed after it, so that a mutant that is found soon costs little.
///
/// # Errors
/// [`SpecError`] if there are no such runs.
pub fn first_failure(
    sim: &dyn Simulation,
    seeds: Range<u64>,
    spec: &RunSpec,
    threads: usize,
) -> Result<Option<Outcome>, SpecError> {
    let (_, first) = shared(sim, &seeds, spec, threads, true)?;
    let Some(seed) = first else { return Ok(None) };
    let mut spec = verdict_only(spec);
    spec.seed = seed;
    sim.run(&spec).map(Some)
}

/// Lets threads share the seeds; returns the merged runs and the first seed that failed.
fn shared(
    sim: &dyn Simulation,
    seeds: &Range<u64>,
    spec: &RunSpec,
    threads: usize,
    first_only: bool,
) -> Result<(Total, Option<u64>), SpecError> {
    let next = AtomicU64::new(seeds.start);
    // The first seed that failed; later ones need not be run if only that is asked for.
    let limit = AtomicU64::new(u64::MAX);
    let worker = || {
        let mut total = Total::new(&sim.info());
        let mut spec = verdict_only(spec);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let skipped = first_only && seed > limit.load(Ordering::Relaxed);
            if seed >= seeds.end || skipped {
                return Ok(total);
            }
            spec.seed = seed;
            match sim.run(&spec) {
                Ok(outcome) => {
                    if outcome.violation.is_some() {
                        limit.fetch_min(seed, Ordering::Relaxed);
                    }
                    total.add(seed, outcome);
                }
                Err(error) => {
                    // Nobody needs the other seeds.
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err((seed, error));
                }
            }
        }
    };
    let parts: Vec<Result<Total, (u64, SpecError)>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        };
        workers.into_iter().map(join).collect()
    });
    let mut total = Total::new(&sim.info());
    let mut error: Option<(u64, SpecError)> = None;
    for part in parts {
        match part {
            Ok(part) => total.merge(part),
            Err(found) if error.as_ref().is_none_or(|(seed, _)| found.0 < *seed) => {
                error = Some(found);
            }
            Err(_) => {}
        }
    }
    if let Some((_, error)) = error {
        return Err(error);
    }
    let first = limit.into_inner();
    Ok((total, (first != u64::MAX).then_some(first)))
}

/// Merged runs. Merging is commutative, so that the order in which threads took seeds does not show.
struct Total {
    events: u64,
    delivered: u64,
    hash: u64,
    /// The hash of some run: of the one run, if there is only one.
    last: Option<u64>,
    violations: Vec<Failed>,
    failed: u64,
    coverage: Coverage,
    /// The faults of the scripts, by name.
    drawn: BTreeMap<&'static str, Family>,
}

impl Total {
    fn new(info: &Info) -> Self {
        Self {
            events: 0,
            delivered: 0,
            hash: 0,
            last: None,
            violations: Vec::new(),
            failed: 0,
            coverage: Coverage::new(info.kinds, info.phases),
            drawn: BTreeMap::new(),
        }
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.events += outcome.events;
        self.delivered += outcome.delivered;
        // A sum of hashes that each contain their seed: adding is commutative, and swapped runs still show.
        let part = Digest::of(&(seed, outcome.trace_hash));
        self.hash = self.hash.wrapping_add(part);
        self.last = Some(outcome.trace_hash);
        self.coverage.merge(&outcome.coverage);
        for op in &outcome.script.ops {
            if let Some(family) = Family::of(&op.fault) {
                self.drawn.insert(op.fault.name(), family);
            }
        }
        if let Some(violation) = outcome.violation {
            self.failed += 1;
            // A thread takes seeds in order: those after the first so many are not among the first of all.
            if self.violations.len() < VIOLATIONS_MAX {
                self.violations.push(Failed {
                    seed,
                    violation,
                    trace_hash: outcome.trace_hash,
                });
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.delivered += other.delivered;
        self.hash = self.hash.wrapping_add(other.hash);
        self.last = self.last.or(other.last);
        self.violations.extend(other.violations);
        self.failed += other.failed;
        self.coverage.merge(&other.coverage);
        self.drawn.extend(other.drawn);
    }

    fn report(mut self, sim: &dyn Simulation, seeds: Range<u64>, spec: &RunSpec) -> BatchReport {
        let info = sim.info();
        let one = seeds.end.saturating_sub(seeds.start) == 1;
        self.violations.sort_by_key(|failed| failed.seed);
        self.violations.truncate(VIOLATIONS_MAX);
        let mut drawn = Families::NONE;
        self.drawn.values().for_each(|family| drawn.insert(*family));
        BatchReport {
            protocol: full_name(info.name, spec.mutant.as_deref()),
            vacuous: self.vacuous(&info, &seeds, spec),
            seeds,
            events: self.events,
            delivered: self.delivered,
            trace_hash: if one {
                self.last.unwrap_or(0)
            } else {
                self.hash
            },
            violations: self.violations,
            failed: self.failed,
            coverage: self.coverage,
            drawn,
        }
    }

    /// The gates: reasons why the runs would have passed whatever the protocol does.
    fn vacuous(&self, info: &Info, seeds: &Range<u64>, spec: &RunSpec) -> Vec<String> {
        let mut reasons = Vec::new();
        if seeds.is_empty() {
            reasons.push("no seed was run".to_owned());
            return reasons;
        }
        for kind in self.coverage.undelivered() {
            reasons.push(format!("no message {kind} was delivered"));
        }
        if self.coverage.compared() == 0 {
            reasons.push("no operation was compared".to_owned());
        }
        for (name, times) in self.coverage.sometimes() {
            if *times == 0 {
                reasons.push(format!("{name} never happened"));
            }
        }
        let many = seeds.end - seeds.start >= FAULT_GATE_SEEDS;
        if !many || spec.script.is_some() {
            return reasons;
        }
        let mut struck = Families::NONE;
        for (name, times) in self.coverage.faults() {
            if let (Some(family), true) = (self.drawn.get(name), *times > 0) {
                struck.insert(*family);
            }
        }
        let mut drawn = Families::NONE;
        self.drawn.values().for_each(|family| drawn.insert(*family));
        for family in drawn.iter().filter(|family| !struck.has(*family)) {
            let name = family.name();
            reasons.push(format!("faults of {name} were drawn, and none struck"));
        }
        if info.plan.may_crash() && !drawn.has(Family::Crash) {
            reasons.push("no node crashed, although the plan allows it".to_owned());
        }
        reasons
    }
}
