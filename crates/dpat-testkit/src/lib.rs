#![doc = include_str!("../README.md")]
//!
//! This crate depends on no crate of the family, and reads a clock only to wait for servers.

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
