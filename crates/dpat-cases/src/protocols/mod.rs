//! Protocols between nodes, small enough to read: simulated, explored, and broken on purpose.

pub mod consensus;
pub mod counter;
pub mod flp;
pub mod mc;
pub mod two_phase;
