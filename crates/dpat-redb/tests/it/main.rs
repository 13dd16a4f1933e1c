//! The laws of dpat-redb, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod crash;
mod files;
mod inboxes;
mod kit;
mod outboxes;
mod relay;
mod responses;
mod tables;
