//! Executes a protocol.

mod world;

pub use world::World;
