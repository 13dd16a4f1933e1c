//! The write-ahead log of `dpat-wal` on a simulated disk, struck wherever a script says.
//!
//! There is one node and no network: an event is an operation of the disk, so that `on_event` strikes at any of them.
//! The workload is drawn from the seed; its actions are the calls of one client, and what recovery finds is compared
//! with what was promised ([`Workload`]). Understands `crash`, `kill`, `disk_error` and `disk_full` at an event, and at
//! time 0 the odds of the disk and `disk_corrupt`, which strikes when the work is over.

use std::hash::Hasher;

use dpat_core::{Entropy, SplitMix64};
use dpat_model::{Digest, Fault, MILLION, NodeIx, Nodes, Op, Script, Trigger};
use dpat_sim::disk::{SimDisk, Strike};
use dpat_sim::{
    Coverage, Crashes, Families, Family, Info, Mutant, Outcome, Plan, RunSpec, Simulation,
    SpecError, Trace, TraceEvent, TraceMode, Violation, hex,
};
use dpat_wal::testing::{Action, Ledger, Mutant as Rule, Restart, Workload};

const NAME: &str = "wal";
const NODE: NodeIx = NodeIx(0);
/// The actions of a workload.
const ACTIONS: usize = 24;
/// Strikes are drawn from so many operations; most workloads ask for more.
const OPERATIONS: u64 = 200;

const KEPT: &str = "kept";
const TOLD: &str = "told";

const KINDS: &[&str] = &[
    "create",
    "open",
    "rename",
    "remove",
    "sync_dir",
    "list",
    "read_at",
    "write_at",
    "truncate",
    "sync_data",
];

/// The rules that are left out, each with the number of seeds within which that is found.
///
/// Of [`Rule::ALL`] only the torn tail that is kept is missing: strikes by chance do not meet it within 1 000 seeds, and
/// it is left to the tests of `dpat-wal`, which strike everywhere.
const RULES: [(Rule, u64); 11] = [
    (Rule::AckBeforeSync, 10),
    (Rule::SkipDirectorySync, 10),
    (Rule::SkipParentSync, 20),
    (Rule::NoChecksum, 20),
    (Rule::CutInTheMiddle, 100),
    (Rule::TrustFoundTail, 60),
    (Rule::KeepFailedWrite, 150),
    (Rule::RemoveBeforeMark, 60),
    (Rule::NameBeforeSync, 30),
    (Rule::SplitBatches, 60),
    (Rule::SyncAgain, 60),
];

const MUTANTS: [Mutant; RULES.len()] = {
    let mut mutants = [Mutant {
        name: "",
        rule: "",
        seeds_max: 0,
    }; RULES.len()];
    let mut at = 0;
    while at < mutants.len() {
        let (rule, seeds_max) = RULES[at];
        mutants[at] = Mutant {
            name: rule.name(),
            rule: rule.rule(),
            seeds_max,
        };
        at += 1;
    }
    mutants
};

/// The log as a [`Simulation`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl Simulation for Log {
    fn info(&self) -> Info {
        Info {
            name: NAME,
            about: "what a write-ahead log acknowledged is there, in order, once, however its disk fails",
            nodes_default: 1,
            nodes_min: 1,
            properties: &[KEPT, TOLD],
            mutants: &MUTANTS,
            kinds: KINDS,
            phases: &["up"],
            plan: Plan {
                families: Families::of(&[Family::Crash, Family::Disk]),
                crashes: Crashes::Recovery,
                ..Plan::default()
            },
        }
    }

    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError> {
        checked(spec)
    }

    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError> {
        let script = checked(spec)?;
        let rule = spec.mutant.as_deref().and_then(Rule::named);
        Ok(Run::new(spec.seed, &script, rule).complete(spec, script))
    }
}

/// Returns the script of a run if there is such a run.
fn checked(spec: &RunSpec) -> Result<Script, SpecError> {
    if let Some(name) = &spec.mutant {
        let known = MUTANTS.iter().any(|mutant| mutant.name == name);
        if !known {
            return Err(SpecError::NoMutant {
                protocol: NAME,
                name: name.clone(),
            });
        }
    }
    let script = spec.script.clone().unwrap_or_else(|| draw(spec.seed));
    script.validate()?;
    if script.protocol != NAME {
        return Err(SpecError::OtherProtocol {
            script: script.protocol,
            protocol: NAME,
        });
    }
    for asked in [spec.nodes.unwrap_or(1), script.nodes.count()] {
        if asked != 1 {
            let (min, max) = (1, 1);
            return Err(SpecError::Nodes { asked, min, max });
        }
    }
    for (op, one) in script.ops.iter().enumerate() {
        let reason = match (&one.when, &one.fault) {
            (Trigger::Event(_), fault) if strike_of(fault).is_some() => continue,
            (Trigger::At(0), fault) if holds_from_the_start(fault) => continue,
            (_, fault) if strike_of(fault).is_some() => "strikes at an event: there is no time",
            (_, fault) if holds_from_the_start(fault) => "holds from time 0",
            _ => "is for networks and clocks, and a log has neither",
        };
        let fault = one.fault.name();
        return Err(SpecError::Refused { op, fault, reason });
    }
    Ok(script)
}

fn strike_of(fault: &Fault) -> Option<Strike> {
    Some(match fault {
        Fault::Crash { .. } => Strike::Crash,
        Fault::Kill { order_id: None, .. } => Strike::Kill,
        Fault::DiskError { .. } => Strike::Fail,
        Fault::DiskFull { .. } => Strike::Full,
        _ => return None,
    })
}

const fn holds_from_the_start(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Calls { .. }
            | Fault::DiskTorn { .. }
            | Fault::DiskLost { .. }
            | Fault::DiskReorder { .. }
            | Fault::DiskCorrupt { .. }
    )
}

/// Draws the faults of a seed. Each family is off in half of the seeds.
fn draw(seed: u64) -> Script {
    let mut script = Script::new(NAME, Nodes::Count(1), seed);
    let stream = |label| SplitMix64::stream(seed, label);
    let node = NODE;
    let mut push = |when, fault| script.ops.push(Op { when, fault });

    let crashes = stream("wal.crash");
    if crashes.below(2) == 0 {
        for _ in 0..=crashes.below(6) {
            let when = Trigger::Event(crashes.below(OPERATIONS));
            let for_us = None;
            let fault = match crashes.below(3) {
                0 => Fault::Kill {
                    node,
                    order_id: None,
                    for_us,
                },
                _ => Fault::Crash { node, for_us },
            };
            push(when, fault);
        }
    }
    let odds = stream("wal.odds");
    if odds.below(2) == 0 {
        let per_million = || [0, 100_000, 350_000, 800_000][below(&odds, 4)];
        for fault in [
            Fault::DiskLost {
                node,
                per_million: per_million(),
            },
            Fault::DiskTorn {
                node,
                per_million: per_million(),
            },
            Fault::DiskReorder {
                node,
                per_million: [0, 500_000, MILLION][below(&odds, 3)],
            },
        ] {
            push(Trigger::At(0), fault);
        }
    }
    let errors = stream("wal.error");
    if errors.below(2) == 0 {
        for _ in 0..=errors.below(6) {
            let when = Trigger::Event(errors.below(OPERATIONS));
            let fault = match errors.below(6) {
                0 => Fault::DiskFull { node, for_us: None },
                _ => Fault::DiskError {
                    node,
                    per_million: MILLION,
                    for_us: None,
                },
            };
            push(when, fault);
        }
    }
    let corrupt = stream("wal.corrupt");
    if corrupt.below(4) == 0 {
        let sectors = 1 + corrupt.below(3) / 2;
        push(Trigger::At(0), Fault::DiskCorrupt { node, sectors });
    }
    script
}

#[allow(clippy::cast_possible_truncation)] // a small bound
fn below(entropy: &SplitMix64, bound: u64) -> usize {
    entropy.below(bound) as usize
}

/// Draws what a program does: anything, or in half of the seeds groups of records of one size, so that what is left of
/// one write ends where another one does.
fn workload(seed: u64) -> Workload {
    let mut workload = Workload::drawn(seed, ACTIONS);
    let entropy = SplitMix64::stream(seed, "wal.one-size");
    if entropy.below(2) == 0 {
        let bytes = 60;
        workload.shape.preallocate_bytes = 0;
        workload.actions.clear();
        while workload.actions.len() < ACTIONS {
            let next = match entropy.below(8) {
                0 => Action::Append { bytes: 8 },
                1 => Action::Batch { records: 3, bytes },
                2 => Action::Compact,
                3 => Action::Restart(Restart::PowerCut),
                _ => {
                    let records = 8;
                    workload.actions.push(Action::Group { records, bytes });
                    Action::Append { bytes }
                }
            };
            workload.actions.push(next);
        }
        workload.actions.truncate(ACTIONS);
    }
    workload
}

/// One run.
struct Run {
    disk: SimDisk,
    workload: Workload,
    /// How many actions were drawn, those that the script leaves out included.
    actions: u64,
    strikes: Vec<(u64, Strike)>,
    /// In how many sectors the disk is corrupt when the work is over.
    corrupt: u64,
}

impl Run {
    fn new(seed: u64, script: &Script, rule: Option<Rule>) -> Self {
        let disk = SimDisk::new(seed);
        disk.record_steps();
        let mut workload = workload(seed).with_mutant(rule);
        let actions = workload.actions.len() as u64;
        let (mut strikes, mut corrupt) = (Vec::new(), 0);
        for op in &script.ops {
            match (&op.fault, &op.when) {
                (Fault::Calls { client: 0, keep }, _) => {
                    let mut number = 0..;
                    workload
                        .actions
                        .retain(|_| number.next().is_some_and(|number| keep.contains(&number)));
                }
                (Fault::DiskCorrupt { sectors, .. }, _) => corrupt += *sectors,
                (fault, Trigger::Event(event)) => {
                    strikes.extend(strike_of(fault).map(|strike| (*event, strike)));
                }
                (fault, _) => drop(disk.apply(fault)),
            }
        }
        if corrupt > 0 {
            // Only of a log that was closed everything is known to be durable.
            let last = [Action::Append { bytes: 8 }, Action::Restart(Restart::Close)];
            workload.actions.extend(last);
        }
        Self {
            disk,
            workload,
            actions,
            strikes,
            corrupt,
        }
    }

    /// Orders the strikes that are still to come; each life of the disk forgets them.
    fn arm(&self, disk: &SimDisk) {
        disk.set_full(false);
        for (event, strike) in &self.strikes {
            if *event >= disk.operations() {
                disk.strike_at(*event, *strike);
            }
        }
    }

    fn complete(self, spec: &RunSpec, script: Script) -> Outcome {
        let mut ledger = Ledger::default();
        let mut last = self.disk.clone();
        self.arm(&self.disk);
        self.workload.run(&self.disk, &mut ledger, |disk, how| {
            last = match (disk.down_by(), how) {
                (Some(Strike::Kill), _) => disk.kill(),
                (Some(_), _) | (None, Restart::PowerCut) => disk.crash(),
                (None, _) => disk.kill(),
            };
            self.arm(&last);
            Some(last.clone())
        });
        let operations = self.disk.operations();
        let judged = self.judge(&last, &ledger);
        let steps = last.take_steps();

        let mut digest = Digest::new();
        let mut coverage = Coverage::new(KINDS, &["up"]);
        let mut full = Vec::new();
        let events_max = match spec.trace {
            TraceMode::Full { events_max } => events_max,
            _ => 0,
        };
        for (event, step) in (0..).zip(&steps) {
            let name = step.operation.name();
            digest.write(name.as_bytes());
            digest.write(step.path.as_bytes());
            let strike = self.strikes.iter().find(|(at, _)| *at == event);
            let strike = strike.map(|(_, strike)| *strike);
            if let Some(kind) = KINDS.iter().position(|kind| *kind == name) {
                coverage.delivered(kind, 0, families(strike));
            }
            if full.len() < events_max {
                full.push(told(event, name, &step.path, strike));
            }
        }
        digest.write_u64(ledger.acknowledged());
        digest.write_u64(ledger.found());
        for op in &script.ops {
            let struck = match op.when {
                Trigger::Event(event) => event < operations,
                _ => !matches!(op.fault, Fault::Calls { .. }),
            };
            if struck {
                coverage.struck(&op.fault);
            }
        }
        coverage.note_compared(ledger.acknowledged());
        coverage.note_sometimes("a record in doubt is found", ledger.found());

        let violation = judged.err().map(|(property, message)| Violation {
            property: property.to_owned(),
            at_event: operations.saturating_sub(1),
            message,
        });
        if let Some(violation) = &violation {
            digest.write(violation.message.as_bytes());
        }
        let trace_hash = match spec.trace {
            TraceMode::Off => 0,
            _ => digest.finish(),
        };
        let events = steps.len() as u64;
        let trace = matches!(spec.trace, TraceMode::Full { .. }).then(|| Trace {
            version: Trace::VERSION,
            protocol: NAME.to_owned(),
            mutant: spec.mutant.clone(),
            seed: spec.seed,
            nodes: vec!["disk".to_owned()],
            trace_hash: hex(trace_hash),
            truncated: full.len() < steps.len(),
            events: full,
            violation: violation.clone(),
            script: Some(script.clone()),
            ..Trace::default()
        });
        Outcome {
            seed: spec.seed,
            events,
            delivered: events,
            trace_hash,
            violation,
            coverage,
            script,
            calls: vec![self.actions],
            trace,
        }
    }

    /// Opens what is left and compares it with what was promised.
    fn judge(&self, last: &SimDisk, ledger: &Ledger) -> Result<(), (&'static str, String)> {
        let next = last.crash();
        next.set_full(false);
        if self.corrupt == 0 {
            let found = self.workload.check(&next, ledger);
            return found.map(drop).map_err(|message| (KEPT, message));
        }
        let flips = next.corrupt(self.corrupt);
        // Of two flips one may be in the last record and the other in the mark behind it, its only proof.
        let was_closed = self.strikes.is_empty() && self.corrupt == 1;
        let said = self.workload.check_damaged(&next, ledger, was_closed);
        said.map(drop)
            .map_err(|message| (TOLD, format!("{message}, after {flips:?}")))
    }
}

fn families(strike: Option<Strike>) -> Families {
    match strike {
        None => Families::NONE,
        Some(Strike::Crash | Strike::Kill) => Families::of(&[Family::Crash]),
        Some(_) => Families::of(&[Family::Disk]),
    }
}

fn told(event: u64, name: &str, path: &str, strike: Option<Strike>) -> TraceEvent {
    let what = match strike {
        None if name.starts_with("sync") => "synced",
        None => "poll",
        Some(Strike::Crash | Strike::Kill) => "crash",
        Some(_) => "fault",
    };
    TraceEvent {
        i: event,
        at_ns: event * 1000,
        node: Some(NODE.0),
        what: what.to_owned(),
        kind: None,
        label: strike.map_or_else(|| name.to_owned(), |strike| format!("{strike} in {name}")),
        detail: path.to_owned(),
        causes: event.checked_sub(1).into_iter().collect(),
        ..TraceEvent::default()
    }
}
