//! The laws of dpat-core, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod alloc;
mod auto_traits;
mod causality;
#[cfg(feature = "tokio")]
mod deadline;
mod hlc;
mod restart;
#[cfg(feature = "serde")]
mod serde;
mod snowflake;
mod text;
mod threads;
mod time;
mod ulid;
mod uuid7;

use dpat_core::Wall;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;

/// Milliseconds after 2020-09-13T12:26:40Z.
fn at(millis: u64) -> Wall {
    Wall::from_nanos((1_600_000_000_000 + millis) * 1_000_000)
}
