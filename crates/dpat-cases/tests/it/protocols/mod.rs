//! The protocols: explored, simulated, broken, shrunk.

mod cap;
mod counter;
mod delivery;
mod explored;
mod queue;
mod registered;
mod undecided;
