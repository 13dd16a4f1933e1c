#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "idempotency", feature = "outbox")),
    allow(
        dead_code,
        reason = "without a port nothing uses the ground that all of them stand on"
    )
)]

mod config;
mod error;
mod schema;
mod threads;

#[cfg(feature = "idempotency")]
mod inbox;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(feature = "idempotency")]
mod responses;

pub use config::{Config, ConfigError, PREFIX_BYTES_MAX, Threads};
#[cfg(feature = "idempotency")]
pub use dpat_idempotency;
#[cfg(feature = "outbox")]
pub use dpat_outbox;
pub use error::{EngineError, OpenError, commit};
#[cfg(feature = "idempotency")]
pub use inbox::{Inbox, InboxTx, MARKERS_MAX};
#[cfg(feature = "outbox")]
pub use outbox::{Outbox, OutboxTx};
pub use redb;
#[cfg(feature = "idempotency")]
pub use responses::{ResponseLimits, ResponseStore};
