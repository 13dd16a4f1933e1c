//! The five services: what they do, without how they are reached or where they store.
//!
//! Nothing in this folder knows an async runtime, a network, a storage engine or the machine's clock; all of it
//! comes in through [`ports`]. Background work is a `run()` future that the shell polls.

pub mod gateway;
pub mod inventory;
pub mod order;
pub mod payment;
pub mod ports;
pub mod shipping;

use dpat_core::Class;
use ports::{CallError, StoreError};

/// The body does not decode; only a fault of this program sends such a one.
fn bad_body() -> CallError {
    CallError::not_done(Class::InvalidInput, "the body does not decode")
}

/// The store failed; whether the transaction is durable cannot be known.
fn unavailable(_error: &StoreError) -> CallError {
    CallError::unknown(Class::Unavailable, "the store failed")
}
