//! Integration tests.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod disk;
mod links;

mod batch;
mod fake;
mod plan;
mod registry;
mod report;
mod shrink;
mod slice;
