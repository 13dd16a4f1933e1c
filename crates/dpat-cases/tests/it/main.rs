//! The shop, run for real: sockets, stores, kills.
#![allow(clippy::unwrap_used)] // helpers of tests fail the test

mod chaos;
mod checks;
mod policy;
mod protocols;
mod services;
mod simulated;
mod stores;
mod switches;
mod workflow;
mod world;
