#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod choose;
mod digest;
mod ids;

mod cx;
mod process;

mod log;
mod mux;
mod node;

mod history;
#[cfg(feature = "json")]
mod json;
mod script;

#[cfg(feature = "stateright")]
pub mod explore;

pub use choose::{Branch, Choose, Draw};
pub use cx::Cx;
pub use digest::Digest;
pub use history::{Event, Kind, Pairing, Unpaired};
#[cfg(feature = "json")]
pub use history::{HistoryLimits, read_history, write_history};
pub use ids::{Lsn, NodeIx, Peer, ReqId, Token};
#[cfg(feature = "json")]
pub use json::InputError;
pub use log::{Diverged, MemLog};
pub use mux::{Either, Mux};
#[cfg(feature = "test-util")]
pub use node::CommitRule;
pub use node::{Breach, Limits, Node, Reading};
pub use process::{Admit, Answer, Input, Link, Output, Process, Refusal};
#[cfg(feature = "json")]
pub use script::{Accept, OpCheck};
pub use script::{
    Delay, Fault, LinkSet, MAX_NAME_BYTES, MAX_NODES, MAX_OPS, MILLION, Nodes, Op, Script,
    ScriptError, Trigger,
};
