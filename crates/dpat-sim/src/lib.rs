#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod protocol;
mod run;

mod engine;

mod clock;
mod links;
mod rng;

mod coverage;
mod history;
mod judge;
mod trace;

mod plan;

pub use protocol::{Call, ClientCx, Happened, Mutant, Protocol, Setup, Simulable, What, Wire};
pub use run::{Outcome, RunSpec, SpecError, TraceMode};

pub use engine::World;

pub use clock::{NodeClock, WALL_START_NS};
pub use links::{
    Cause, DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, Fate, Links, Route, SELF_DELAY_NS,
};
pub use rng::Stream;

pub use coverage::{Coverage, Families, Family};
pub use history::Recorder;
pub use judge::{Judge, Violation};
pub use trace::{FateWord, Sent, SentFate, Shade, Trace, TraceEvent};

pub use plan::Plan;
