#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "idempotency", feature = "pubsub", feature = "queue")),
    allow(
        dead_code,
        reason = "each port uses a part of the ground that all of them stand on"
    )
)]

mod answers;
mod config;
mod connection;
mod error;
mod headers;
#[cfg(any(feature = "idempotency", feature = "queue"))]
mod jetstream;
#[cfg(any(feature = "idempotency", feature = "queue"))]
mod open;
#[cfg(any(feature = "idempotency", feature = "queue"))]
mod pull;
#[cfg(any(feature = "idempotency", feature = "queue"))]
mod room;
mod signals;
mod sync;
mod version;

#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "queue")]
mod queue;
#[cfg(feature = "idempotency")]
mod responses;

pub use async_nats;
pub use config::{
    CLIENT_BUFFER, CONNECT_TIMEOUT, Config, ConfigError, NAME_BYTES_MAX, PENDING_MAX,
    PING_INTERVAL, RECONNECT_DELAYS, REQUEST_TIMEOUT, SERVERS_MAX, TIMEOUT_MAX,
};
pub use connection::Connection;
#[cfg(feature = "idempotency")]
pub use dpat_idempotency;
#[cfg(feature = "pubsub")]
pub use dpat_pubsub;
#[cfg(feature = "queue")]
pub use dpat_queue;
pub use error::{Access, ConnectError, EngineError};
#[cfg(any(feature = "idempotency", feature = "queue"))]
pub use open::{Make, OpenError, STREAM_NAME_BYTES_MAX};
#[cfg(feature = "pubsub")]
pub use pubsub::CorePubSub;
#[cfg(feature = "queue")]
pub use queue::{QueueSettings, QueueStatus, StreamQueue};
#[cfg(feature = "idempotency")]
pub use responses::{ResponseStore, StoreSettings};
pub use version::ServerVersion;
