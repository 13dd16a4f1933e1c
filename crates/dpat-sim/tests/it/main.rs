//! Integration tests.

mod links;

mod batch;
mod fake;
mod plan;
mod registry;
mod report;
mod shrink;
mod slice;
