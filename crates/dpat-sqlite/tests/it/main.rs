//! The laws of dpat-sqlite, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod faults;
mod in_sqlx;
mod inboxes;
mod kit;
mod outboxes;
mod process;
mod queues;
mod relay;
mod responses;
mod tables;
mod torn;
