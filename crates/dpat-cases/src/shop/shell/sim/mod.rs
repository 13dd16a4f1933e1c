//! What connects the services to a simulated machine: its network, its stores, its clocks.

mod host;
mod outbox;
mod queue;
mod store;
mod transport;
mod wire;

pub use host::Board;
pub(crate) use queue::open as open_queue;
pub use store::{COMMIT_MAX, COMMIT_MIN, Durable, SimStore};
pub use transport::{SimTime, SimTransport};

pub(crate) use host::{Shell, SimEnv};
