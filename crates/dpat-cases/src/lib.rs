//! Whole systems built from the dpat crates.
//!
//! [`shop`] is the order platform: five services on real sockets with stores of their own, an open-loop client,
//! seeded faults, and a verdict computed from the stores.
#![forbid(unsafe_code)]

pub mod shop;
mod sync;
