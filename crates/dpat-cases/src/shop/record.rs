//! What a run leaves behind: the verdict, and everything that a report draws.

use std::collections::BTreeMap;

use dpat_sim::Trace;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::domain::State;
use super::service::ports::{Peer, Step};

/// The first event that shows a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBad {
    /// Which order, if it is about one.
    pub order_id: Option<String>,
    /// When, in milliseconds since the start of the run.
    pub at_ms: u64,
    /// What happened.
    pub event: String,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its name.
    pub invariant: String,
    /// How often it is broken.
    pub count: u64,
    /// How often it may be.
    pub limit: u64,
    /// The first time.
    pub first: Option<FirstBad>,
}

/// Whether everything holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No invariant is broken.
    Ok,
    /// At least one is.
    Violated,
}

/// The result of a run, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Version of this form.
    pub schema: u32,
    /// Which scenario.
    pub scenario: String,
    /// Where the services keep their state: `embedded`.
    pub engine: String,
    /// Seed of orders and faults.
    pub seed: u64,
    /// Patterns left out.
    pub without: Vec<String>,
    /// Orders sent.
    pub orders: u64,
    /// Orders whose record is durable.
    pub accepted: u64,
    /// Accepted orders that were completed.
    pub completed: u64,
    /// Accepted orders that were undone.
    pub compensated: u64,
    /// Orders that were not accepted.
    pub rejected: u64,
    /// Accepted orders that are not terminal.
    pub unresolved: u64,
    /// Charges beyond the first of an order.
    pub duplicate_charges: u64,
    /// Completed orders that shipping does not know.
    pub lost_events: u64,
    /// Whether no unit of stock appeared or vanished.
    pub stock_conserved: bool,
    /// Whether no cent appeared or vanished.
    pub money_conserved: bool,
    /// Faults injected, by kind.
    pub faults_injected: BTreeMap<String, u64>,
    /// How many times a service was started again.
    pub restarts: u64,
    /// Intended send time to 202, median.
    pub p50_ms: f64,
    /// Intended send time to 202, 99th percentile.
    pub p99_ms: f64,
    /// Intended send time to the terminal state, median.
    pub complete_p50_ms: f64,
    /// Intended send time to the terminal state, 99th percentile.
    pub complete_p99_ms: f64,
    /// Orders accepted a second, from the first sending to the last answer.
    pub throughput_per_s: f64,
    /// Peak memory of all processes.
    pub rss_peak_mb: f64,
    /// Invariants that this run is expected to break.
    pub expected: Vec<String>,
    /// The result.
    pub verdict: Outcome,
    /// What is broken.
    pub violations: Vec<Violation>,
    /// Path of the report.
    pub report: Option<String>,
    /// What only a simulated run has.
    #[serde(flatten)]
    pub simulation: Option<Simulation>,
}

/// What only a simulated run has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulation {
    /// True.
    pub simulated: bool,
    /// A hash over every event of the run, as 16 hexadecimal digits: equal for equal runs, in every process.
    pub trace_hash: String,
    /// How many events there were.
    pub events: u64,
    /// How long the run took in the time of its services.
    pub simulated_ms: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Simulation {
    /// Returns how many times faster than the time of its services the run was.
    #[must_use]
    pub fn times_real_time(&self) -> u64 {
        self.simulated_ms / self.elapsed_ms.max(1)
    }
}

impl Verdict {
    /// Says whether the run shows what it was asked to show.
    ///
    /// Without a pattern that is exactly the invariant it protects; otherwise no violation at all.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let mut found: Vec<&str> = self
            .violations
            .iter()
            .map(|violation| violation.invariant.as_str())
            .collect();
        found.sort_unstable();
        let mut expected: Vec<&str> = self.expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        found == expected
    }
}

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// End of the second, in milliseconds since the start of the run.
    pub at_ms: u64,
    /// Orders accepted so far.
    pub accepted: u64,
    /// Orders completed so far.
    pub completed: u64,
    /// Orders compensated so far.
    pub compensated: u64,
    /// Orders sent and not answered.
    pub unanswered: u64,
    /// Orders accepted and not terminal.
    pub in_flight: u64,
    /// Median of this second, intended send time to 202.
    pub p50_ms: f64,
    /// 99th percentile of this second.
    pub p99_ms: f64,
    /// Breakers, caller to callee.
    pub breakers: Vec<BreakerSample>,
    /// Events that wait for the relay.
    pub outbox: u64,
}

/// One breaker at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerSample {
    /// Who calls.
    pub from: Peer,
    /// Who is called.
    pub to: Peer,
    /// `closed`, `open` or `half_open`.
    pub state: String,
}

/// A fault that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultEvent {
    /// When, in milliseconds since the start of the run.
    pub at_ms: u64,
    /// Where.
    pub target: Peer,
    /// What: `error`, `drop`, `latency`, `hang`, `kill`.
    pub kind: String,
    /// How long, where that has a meaning.
    pub duration_ms: Option<u64>,
    /// Which order was hit, if it was one alone.
    pub order_id: Option<String>,
}

/// One message and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Who calls.
    pub from: Peer,
    /// Who is called.
    pub to: Peer,
    /// For what.
    pub step: Step,
    /// Which sending, from 0.
    pub attempt: u32,
    /// Sent, in milliseconds since the start of the run.
    pub start_ms: f64,
    /// Answered or given up.
    pub end_ms: f64,
    /// What came back.
    pub outcome: String,
}

/// The whole history of one order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// How it ended.
    pub fate: State,
    /// Why it was undone, or what it survived.
    pub note: String,
    /// Which order.
    pub order_id: String,
    /// States entered: name and milliseconds since the start of the run.
    pub states: Vec<(State, f64)>,
    /// Every message about it.
    pub spans: Vec<Span>,
}

/// An invariant and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub invariant: String,
    /// What it says.
    pub says: String,
    /// How many things were looked at.
    pub looked_at: u64,
    /// How often it is broken.
    pub count: u64,
    /// How often it may be.
    pub limit: u64,
    /// What is counted, where it is a highest value and not how often it is broken.
    pub unit: Option<String>,
}

impl Check {
    /// Says what was found: `0 of 2000 (limit 0)`, or `at most 512 bytes, 40 times looked at (limit 1024)`.
    #[must_use]
    pub fn found(&self) -> String {
        let Self {
            looked_at,
            count,
            limit,
            ..
        } = self;
        match &self.unit {
            Some(unit) => {
                format!("at most {count} {unit}, {looked_at} times looked at (limit {limit})")
            }
            None => format!("{count} of {looked_at} (limit {limit})"),
        }
    }
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The order that it is about.
    pub order_id: String,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// The other side of a scenario: the same run with its pattern, or without.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Patterns left out there.
    pub without: Vec<String>,
    /// Its result.
    pub verdict: Verdict,
    /// Every invariant there.
    pub checks: Vec<Check>,
    /// One a second.
    pub samples: Vec<Sample>,
}

/// Everything that a report draws.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// What was run.
    pub config: Config,
    /// The result.
    pub verdict: Verdict,
    /// Every invariant, broken or not.
    pub checks: Vec<Check>,
    /// One a second.
    pub samples: Vec<Sample>,
    /// Every fault.
    pub faults: Vec<FaultEvent>,
    /// One order of each fate.
    pub stories: Vec<Story>,
    /// Every event that was given up.
    #[serde(default)]
    pub dead_letters: Vec<DeadLetter>,
    /// The other side, in a scenario that is about one pattern.
    #[serde(default)]
    pub comparison: Option<Box<Comparison>>,
    /// The first events of a simulated run; only for the page.
    #[serde(skip)]
    pub trace: Option<Box<Trace>>,
}
