//! The laws of dpat-idempotency, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod bugs;
mod cancel;
mod contract;
mod crash;
mod http;
mod inbox;
mod memory;
mod mutants;
mod observe;
mod run;
mod world;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;
