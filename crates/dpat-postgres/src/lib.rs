#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "idempotency", feature = "outbox", feature = "queue")),
    allow(
        dead_code,
        reason = "each port uses a part of the ground that all of them stand on"
    )
)]

mod config;
mod connection;
mod error;
#[cfg(any(feature = "idempotency", feature = "outbox", feature = "queue"))]
mod gauge;
#[cfg(any(feature = "idempotency", feature = "queue"))]
mod join;
#[cfg(any(feature = "outbox", feature = "queue"))]
mod listener;
mod prepared;
mod schema;
pub mod sql;
#[cfg(feature = "sqlx")]
mod sqlx_client;
mod sync;
mod tls;
mod tx;

#[cfg(feature = "idempotency")]
mod inbox;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(feature = "queue")]
mod queue;
#[cfg(feature = "idempotency")]
mod responses;

pub use config::{
    CONNECT_TIMEOUT, CONNECTIONS, CONNECTIONS_MAX, Config, ConfigError, PREFIX_BYTES_MAX,
    SCHEMA_BYTES_MAX, TIMEOUT, TIMEOUT_MAX, Tables,
};
#[cfg(feature = "idempotency")]
pub use dpat_idempotency;
#[cfg(feature = "outbox")]
pub use dpat_outbox;
#[cfg(feature = "queue")]
pub use dpat_queue;
#[cfg(feature = "tokio-postgres")]
pub use error::commit;
pub use error::{EngineError, OpenError};
#[cfg(feature = "idempotency")]
pub use inbox::{Accepting, Arrived, Inbox, MARKERS_MAX};
#[cfg(feature = "outbox")]
pub use outbox::{LAG_ROWS_MAX, Outbox};
pub use prepared::Prepared;
#[cfg(feature = "tokio-postgres")]
pub use prepared::PreparedTransaction;
#[cfg(feature = "queue")]
pub use queue::{QueueClock, QueueSettings, QueueStore};
#[cfg(feature = "idempotency")]
pub use responses::{ResponseLimits, ResponseStore};
pub use schema::migrate;
#[cfg(feature = "sqlx")]
pub use sqlx;
#[cfg(feature = "sqlx")]
pub use sqlx_client::commit_sqlx;
pub use tokio_postgres;
pub use tx::Transaction;
