//! What connects the services to a machine: sockets, files and clocks of a real one, or a simulated one.

mod group;
pub mod http;
pub mod metrics;
pub mod postgres;
pub mod queue;
pub mod redb;
mod relay;
pub mod sim;
pub mod sqlite;
pub mod time;

pub use group::{NodeStore, StoreOwner};
