//! What dpat-queue promises, seen from outside.

// Clippy's exception for tests does not reach their helpers; some tests need a lock.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod alloc;
mod batches;
mod bugs;
mod cancel;
#[cfg(feature = "wal")]
mod crash;
#[cfg(feature = "wal")]
mod histories;
#[cfg(feature = "wal")]
mod hostile;
mod memory;
mod mutants;
mod pitfalls;
#[cfg(feature = "wal")]
mod process;
#[cfg(feature = "wal")]
mod wal;
mod worker;
mod world;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;
