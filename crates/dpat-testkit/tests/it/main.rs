//! The kit tested on known-good and known-bad subjects.

mod alloc;
mod cancel;
mod contract;
mod task;
