//! The integration tests of dpat-retry: the bullets of its specification by module, all in virtual time.

mod alloc;
mod budget;
mod cancel;
mod deadline;
mod hedge;
mod judge;
mod retry;
mod support;
mod timeout;
#[cfg(feature = "tower")]
mod tower;
mod types;

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;
