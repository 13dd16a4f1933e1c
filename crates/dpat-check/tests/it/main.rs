//! Integration tests.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod atomic;
mod delivery;
mod format;
mod linear;
mod naive;
mod random;
mod report;
mod txn;
mod weak;
