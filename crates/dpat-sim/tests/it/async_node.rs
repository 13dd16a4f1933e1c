//! The executor of asynchronous programs.

mod bench;
mod faults;
mod laws;
mod network;
