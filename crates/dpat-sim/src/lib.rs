#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod protocol;
mod run;

mod engine;

mod determinism;

mod clock;
mod links;
mod rng;

mod coverage;
mod history;
mod judge;
mod trace;

mod plan;
mod simulation;

mod batch;
mod check;
mod report;
mod script;
mod shrink;
mod slice;

pub mod disk;

pub mod async_node;

pub use protocol::{Call, ClientCx, Happened, Mutant, Protocol, Setup, Simulable, What, Wire};
pub use run::{Outcome, RunSpec, SpecError, TraceMode};

pub use engine::{QUEUE_MAX, SYNC_MAX_NS, SYNC_MIN_NS, World, run, run_keeping, script_of};

pub use determinism::assert_deterministic;

pub use clock::{NodeClock, WALL_START_NS};
pub use links::{
    Cause, DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, Fate, Links, Route, SELF_DELAY_NS,
};
pub use rng::Stream;

pub use coverage::{Coverage, Families, Family};
pub use history::Recorder;
pub use judge::{Judge, Violation};
pub use trace::{FateWord, Sent, SentFate, Shade, Trace, TraceEvent};

pub use plan::{Crashes, Plan};
pub use simulation::{Info, Of, Registry, Simulation, Unregistered, full_name};

pub use batch::{BatchReport, FAULT_GATE_SEEDS, Failed, VIOLATIONS_MAX, batch, first_failure};
pub use check::{FoundMutant, MUTANT_SEEDS, MutantReport, check_mutant, check_mutants};
pub use report::{coverage_table, hex, replay_json, replay_line};
pub use script::{ScriptRefused, read_script};
pub use shrink::{ShrinkError, ShrinkLimits, Shrunk, shrink, with_one_less};
pub use slice::slice;
