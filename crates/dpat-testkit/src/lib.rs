//! What the tests of the dpat crates share.
//!
//! | need | use |
//! |---|---|
//! | poll a future by hand, see whether it was woken | [`Task`] |
//! | run a future to its end under virtual time, without a runtime | [`run_with`] |
//! | show that a future may be dropped at every await | [`drop_at_every_await`] |
//! | count allocations of a closure | [`CountingAllocator`], [`allocations`] |
//! | show that middleware keeps tower's rules | [`tower::Contract`] (feature `tower`) |
//! | start real servers, kill, restart and pause them, cut and stall their connections | [`servers`], [`proxy`] (feature `servers`) |
//! | run tests and suites of laws on a server, or say why not | [`live`] (feature `servers`) |
//! | show `Send + Sync` at compile time | [`assert_send_sync`] and its kin |
//!
//! This crate depends on no crate of the family, is not published, and reads a clock only to wait for servers.

mod alloc;
mod cancel;
#[cfg(feature = "servers")]
pub mod live;
mod marker;
#[cfg(feature = "servers")]
pub mod proxy;
#[cfg(feature = "servers")]
pub mod servers;
#[cfg(any(feature = "servers", feature = "tower"))]
mod sync;
mod task;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "servers")]
mod wait;

pub use alloc::{Allocated, CountingAllocator, allocated, allocations};
pub use cancel::{End, drop_at_every_await};
pub use marker::{assert_clone, assert_send, assert_send_static, assert_send_sync, assert_unpin};
pub use task::{Task, run_with};
