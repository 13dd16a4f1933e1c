#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "idempotency", feature = "outbox", feature = "queue")),
    allow(
        dead_code,
        reason = "without a port nothing uses the ground that all of them stand on"
    )
)]

mod config;
mod connection;
mod error;
#[cfg(feature = "sqlx")]
mod in_sqlx;
mod schema;
pub mod sql;
mod sync;

#[cfg(feature = "idempotency")]
mod inbox;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(feature = "queue")]
mod queue;
#[cfg(feature = "idempotency")]
mod responses;

pub use config::{
    BUSY_TIMEOUT, BUSY_TIMEOUT_MAX, Config, ConfigError, PREFIX_BYTES_MAX, Tables, Threads,
};
#[cfg(feature = "idempotency")]
pub use dpat_idempotency;
#[cfg(feature = "outbox")]
pub use dpat_outbox;
#[cfg(feature = "queue")]
pub use dpat_queue;
pub use error::{EngineError, OpenError, commit};
#[cfg(feature = "sqlx")]
pub use in_sqlx::commit_sqlx;
#[cfg(feature = "idempotency")]
pub use inbox::{Inbox, InboxTx, MARKERS_MAX};
#[cfg(feature = "outbox")]
pub use outbox::{Outbox, OutboxTx};
#[cfg(feature = "queue")]
pub use queue::{QueueSettings, QueueStore, QueueTx};
#[cfg(feature = "idempotency")]
pub use responses::{ResponseLimits, ResponseStore};
pub use rusqlite;
pub use schema::migrate;
#[cfg(feature = "sqlx")]
pub use sqlx;
