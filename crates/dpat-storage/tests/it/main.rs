//! One binary for all integration tests.

mod any;
mod differential;
mod fs;
mod lossy;
mod mem;
mod mutants;
mod process;
mod threads;
