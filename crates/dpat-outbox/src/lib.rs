#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod event;
mod row;
mod store;

mod config;
mod machine;
mod relay;
mod sink;

mod memory;
mod signal;

#[cfg(feature = "conformance")]
pub mod conformance;
mod sync;
mod trace;

pub use config::{ConfigError, OnPoison, RelayConfig, RelayConfigBuilder};
pub use error::{AppendError, PublishError, RelayError, StoreError};
pub use event::{
    Event, EventBuilder, EventError, HEADERS_BYTES_MAX, HEADERS_MAX, PAYLOAD_BYTES_MAX,
    TEXT_BYTES_MAX,
};
pub use memory::{Contended, MemoryOutbox, MemoryTx};
pub use relay::{Relay, RelayStats};
pub use row::{
    Lane, Outcome, Phase, Position, REASON_BYTES_MAX, RowState, Settled, Settlement, Token,
};
pub use signal::{Changed, Signal, Ticket};
pub use sink::{Delivery, Sink};
pub use store::{
    Appended, Batch, Claim, Claimed, Lag, Limits, Parked, Repair, Repaired, Replay, ReplayFrom,
    Replayed, Store,
};
