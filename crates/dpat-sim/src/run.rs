//! One run: what it is told, and what it comes to.

use dpat_model::{Script, ScriptError};
use thiserror::Error;

use crate::{Coverage, Trace, Violation};

/// What to run.
///
/// # Examples
/// ```
/// use dpat_sim::{RunSpec, TraceMode};
///
/// let spec = RunSpec { trace: TraceMode::Off, ..RunSpec::new(7) };
/// assert_eq!(spec.events_max, RunSpec::EVENTS_MAX);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// How many nodes; by default those of the script, or of the protocol.
    pub nodes: Option<u32>,
    /// The mutant to run instead of the protocol.
    pub mutant: Option<String>,
    /// The faults; drawn from the seed if there is no script. A script replaces every drawn fault.
    pub script: Option<Script>,
    /// What is recorded.
    pub trace: TraceMode,
    /// A run with more events ends with the violation `event-limit`.
    pub events_max: u64,
}

impl RunSpec {
    /// The default of [`events_max`](Self::events_max).
    pub const EVENTS_MAX: u64 = 20_000_000;

    /// Runs a seed with everything else as the protocol says, and hashes the trace.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: None,
            mutant: None,
            script: None,
            trace: TraceMode::Hash,
            events_max: Self::EVENTS_MAX,
        }
    }
}

/// What is recorded of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// Nothing; the trace hash is 0.
    Off,
    /// A hash over every event.
    Hash,
    /// The hash, and the first events with texts, states and causes.
    Full {
        /// How many events.
        events_max: usize,
    },
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How many events were processed.
    pub events: u64,
    /// How many messages reached a process.
    pub delivered: u64,
    /// A hash over every event, equal for equal runs in every process.
    pub trace_hash: u64,
    /// The first property that did not hold.
    pub violation: Option<Violation>,
    /// What the run reached.
    pub coverage: Coverage,
    /// The faults of the run; with the seed they repeat it.
    pub script: Script,
    /// How many calls each client has begun, counting those that the script leaves out.
    pub calls: Vec<u64>,
    /// The recorded trace, if one was asked for.
    pub trace: Option<Trace>,
}

/// A run that cannot begin. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The protocol has no such mutant.
    #[error("mutant: {protocol} has no mutant {name:?}")]
    NoMutant {
        /// The protocol.
        protocol: &'static str,
        /// What was asked for.
        name: String,
    },
    /// Too few or too many nodes, or not those of the script.
    #[error("nodes: {asked} is not within {min}..={max}")]
    Nodes {
        /// What was asked for.
        asked: u32,
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The script is for something else.
    #[error("script.protocol: the script is for {script:?}, not for {protocol}")]
    OtherProtocol {
        /// The name in the script.
        script: String,
        /// The protocol that was to run.
        protocol: &'static str,
    },
    /// The script breaks one of its own bounds.
    #[error("script.{0}")]
    Script(#[from] ScriptError),
    /// The script has a fault that this simulation cannot produce.
    #[error("script.ops[{op}].do: {fault} {reason}")]
    Refused {
        /// The index of the operation.
        op: usize,
        /// The name of the fault.
        fault: &'static str,
        /// Why.
        reason: &'static str,
    },
}
