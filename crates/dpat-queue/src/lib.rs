#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod capability;
mod error;
mod message;

mod config;
mod machine;
mod rules;

mod at_once;
mod backend;
mod embedded;
mod queue;
mod wait;

mod typed;
#[cfg(feature = "wal")]
mod wal;
mod worker;

#[cfg(feature = "conformance")]
pub mod conformance;
mod sync;
#[cfg(feature = "test-util")]
pub mod testing;
mod trace;

#[cfg(test)]
mod loom_tests;

pub use backend::Backend;
pub use capability::{Capabilities, Capability, OrderScope, Requirements, Survives, Unmet};
pub use config::{Builder, Order, WhenFull};
pub use error::{
    BackendError, ConfigError, ManageError, MessageError, ReceiveError, SendError, SettleError,
    Unsupported,
};
pub use message::{
    DeadLetter, Delivery, HEADERS_BYTES_MAX, HEADERS_MAX, Message, MessageId, Outcome,
    PRIORITY_DEFAULT, PRIORITY_MAX, Peeked, REASON_BYTES_MAX, Receipt, Sent, Settlement, Stats,
    TEXT_BYTES_MAX,
};
pub use queue::Queue;
pub use typed::Typed;
#[cfg(feature = "wal")]
pub use wal::{Keeper, OpenError, Recovered, WalQueue};
pub use worker::{Failure, Worker, WorkerBuilder, WorkerError, WorkerStats};
