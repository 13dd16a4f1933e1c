#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod position;

mod batch;
mod config;
mod error;
mod format;
mod rules;

mod machine;
mod segments;
mod source;
mod waiters;

mod disk;
mod recover;
mod writer;

mod shared;
mod sync;
mod trace;

mod append;
mod committer;
mod log;
mod reader;
mod snapshot;

#[cfg(feature = "test-util")]
pub mod testing;

#[cfg(test)]
mod commit_tests;

pub use append::{Append, Appending};
pub use batch::Batch;
pub use committer::Committer;
pub use config::{Config, ConfigBuilder, Durability};
pub use error::{
    AppendError, ConfigError, Corruption, CorruptionKind, MaintainError, OpenError, ReadError,
};
pub use log::Wal;
pub use position::Position;
pub use reader::{Reader, Record};
pub use recover::{Recovery, TornTail};
pub use snapshot::{Snapshot, SnapshotWriter};
