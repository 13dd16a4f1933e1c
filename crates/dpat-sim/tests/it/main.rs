//! Integration tests.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod async_node;
mod disk;
mod engine;
mod links;
#[allow(dead_code, reason = "more scenarios follow")]
mod puppet;

mod batch;
mod fake;
mod plan;
mod registry;
mod report;
mod shrink;
mod slice;
