#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod fingerprint;
mod key;

mod config;
mod error;
mod machine;
mod row;

mod claim;
mod memory;
mod responses;
mod store;

pub mod inbox;

#[cfg(feature = "conformance")]
pub mod conformance;
mod sync;
#[cfg(feature = "tower")]
mod tower;
mod trace;

pub use claim::Claim;
pub use config::{Config, ConfigBuilder, ConfigError, OnDoubt, RESPONSE_BYTES_MAX};
pub use error::{BeginError, FinishError, ResolveError, RunError, StoreError};
pub use fingerprint::Fingerprint;
pub use key::{ID_BYTES_MAX, Key, KeyError, SCOPE_BYTES_MAX};
pub use memory::MemoryStore;
pub use responses::{Answer, Begun, InDoubt, Page, Resolution, Responses};
pub use store::{AnyStore, Change, Inserted, Row, Store, Swap, Version};
#[cfg(feature = "tower")]
pub use tower::{
    ByClass, EffectBy, ErrorEffect, IdempotencyLayer, IdempotencyService, ReplayBody,
    ResponseFuture, StatusRule, Unknown, UponStatus,
};
