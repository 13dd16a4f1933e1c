#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "outbox"),
    allow(
        dead_code,
        reason = "without a port nothing uses the ground that all of them stand on"
    )
)]

mod config;
mod connection;
mod error;
mod listener;
mod schema;
pub mod sql;
#[cfg(feature = "sqlx")]
mod sqlx_client;
mod sync;
mod tls;
mod tx;

#[cfg(feature = "outbox")]
mod outbox;

pub use config::{
    CONNECT_TIMEOUT, CONNECTIONS, CONNECTIONS_MAX, Config, ConfigError, PREFIX_BYTES_MAX,
    SCHEMA_BYTES_MAX, TIMEOUT, TIMEOUT_MAX, Tables,
};
#[cfg(feature = "outbox")]
pub use dpat_outbox;
#[cfg(feature = "tokio-postgres")]
pub use error::commit;
pub use error::{EngineError, OpenError};
#[cfg(feature = "outbox")]
pub use outbox::{LAG_ROWS_MAX, Outbox};
pub use schema::migrate;
#[cfg(feature = "sqlx")]
pub use sqlx;
#[cfg(feature = "sqlx")]
pub use sqlx_client::commit_sqlx;
pub use tokio_postgres;
pub use tx::Transaction;
