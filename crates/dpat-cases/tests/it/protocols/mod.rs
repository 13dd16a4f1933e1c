//! The protocols: explored, simulated, broken, shrunk.

mod explored;
mod undecided;
