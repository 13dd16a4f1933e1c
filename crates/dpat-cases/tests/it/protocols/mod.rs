//! The protocols: explored, simulated, broken, shrunk.

mod cap;
mod counter;
mod explored;
mod registered;
mod undecided;
