//! The protocols: explored, simulated, broken, shrunk.

mod counter;
mod explored;
mod registered;
mod undecided;
