#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "pubsub"),
    allow(
        dead_code,
        reason = "without a port nothing uses the ground that all of them stand on"
    )
)]

mod answers;
mod config;
mod connection;
mod error;
mod headers;
mod signals;
mod sync;
mod version;

#[cfg(feature = "pubsub")]
mod pubsub;

pub use async_nats;
pub use config::{
    CLIENT_BUFFER, CONNECT_TIMEOUT, Config, ConfigError, NAME_BYTES_MAX, PENDING_MAX,
    PING_INTERVAL, RECONNECT_DELAYS, REQUEST_TIMEOUT, SERVERS_MAX, TIMEOUT_MAX,
};
pub use connection::Connection;
#[cfg(feature = "pubsub")]
pub use dpat_pubsub;
pub use error::{Access, ConnectError, EngineError};
#[cfg(feature = "pubsub")]
pub use pubsub::CorePubSub;
pub use version::ServerVersion;
