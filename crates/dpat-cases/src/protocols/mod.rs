//! Protocols between nodes, small enough to read: simulated, explored, and broken on purpose.

pub mod broadcast;
pub mod cap;
pub mod consensus;
pub mod counter;
pub mod delivery;
pub mod echo;
pub mod flp;
mod harness;
pub mod mc;
pub mod queue;
pub mod register;
pub mod registry;
pub mod two_phase;
pub mod wal;
