//! Tests of the public API.
// helpers of tests, which clippy does not know as tests
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod alloc;
mod choose;
mod commit;
mod digest;
mod log;
mod mux;
mod node;
mod puppet;

#[cfg(all(feature = "stateright", feature = "test-util"))]
mod explore;
#[cfg(feature = "stateright")]
mod theorems;

#[cfg(feature = "json")]
mod history;
#[cfg(feature = "json")]
mod schema;
mod script;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;
