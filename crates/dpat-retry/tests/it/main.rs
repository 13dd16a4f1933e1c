//! The integration tests of dpat-retry: the bullets of its specification by module, all in virtual time.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

mod alloc;
mod budget;
mod cancel;
mod deadline;
mod hedge;
mod judge;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod observe;
mod pitfalls;
mod retry;
mod support;
mod timeout;
#[cfg(feature = "tower")]
mod tower;
mod types;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;
