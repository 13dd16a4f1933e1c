#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "queue"),
    allow(
        dead_code,
        unused_imports,
        reason = "without a port nothing uses the ground that it stands on"
    )
)]

mod config;
mod connection;
mod error;
mod reply;
mod script;
mod server;
mod sync;

#[cfg(feature = "queue")]
mod queue;

pub use config::{Config, ConfigError, NAME_BYTES_MAX, TIMEOUT, TIMEOUT_MAX};
#[cfg(feature = "queue")]
pub use dpat_queue;
pub use error::{EngineError, OpenError};
#[cfg(feature = "queue")]
pub use queue::{QueueClock, QueueSettings, QueueStore};
pub use server::{Durability, ServerInfo};
