//! One binary for all integration tests.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod any;
mod differential;
mod fs;
mod lossy;
mod mem;
mod mutants;
mod process;
mod threads;
