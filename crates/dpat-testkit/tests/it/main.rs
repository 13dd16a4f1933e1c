//! The kit tested on known-good and known-bad subjects.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod alloc;
mod cancel;
mod contract;
mod proxy;
mod task;
