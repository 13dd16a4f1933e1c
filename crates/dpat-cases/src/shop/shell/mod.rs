//! What connects the services to a machine: sockets, files and clocks of a real one, or a simulated one.

mod group;
pub mod http;
pub mod metrics;
pub mod queue;
pub mod redb;
mod relay;
mod rows;
pub mod sim;
pub mod time;
