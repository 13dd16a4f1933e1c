#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "idempotency", feature = "pubsub", feature = "queue")),
    allow(
        dead_code,
        unused_imports,
        reason = "each port uses a part of the ground that all of them stand on"
    )
)]

mod config;
mod connection;
mod error;
#[cfg(any(feature = "queue", feature = "idempotency"))]
mod join;
mod open;
mod reply;
mod script;
mod server;
mod sync;

#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "queue")]
mod queue;
#[cfg(feature = "idempotency")]
mod responses;

pub use config::{Config, ConfigError, NAME_BYTES_MAX, TIMEOUT, TIMEOUT_MAX};
#[cfg(feature = "idempotency")]
pub use dpat_idempotency;
#[cfg(feature = "pubsub")]
pub use dpat_pubsub;
#[cfg(feature = "queue")]
pub use dpat_queue;
pub use error::{EngineError, OpenError};
#[cfg(feature = "pubsub")]
pub use pubsub::ChannelHub;
#[cfg(feature = "queue")]
pub use queue::{QueueClock, QueueSettings, QueueStore};
#[cfg(feature = "idempotency")]
pub use responses::{ResponseLimits, ResponseStore};
pub use server::{Durability, ServerInfo};
