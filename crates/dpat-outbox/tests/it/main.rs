//! The laws of dpat-outbox, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod bugs;
mod cancel;
mod crash;
mod memory;
mod mutants;
mod observe;
mod relay;
mod world;
