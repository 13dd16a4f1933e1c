//! Integration tests.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;

mod async_node;
mod disk;
mod engine;
mod gossip;
mod links;
mod puppet;

mod batch;
mod fake;
mod fresh;
mod pitfalls;
mod plan;
mod registry;
mod report;
mod script;
mod shrink;
mod slice;
mod toy;
