//! The lock of the crate.

#![allow(
    clippy::disallowed_types,
    reason = "this is the `sync.rs` that the ban points to"
)]

use std::sync::{Mutex as Inner, PoisonError};

/// A lock that ignores poisoning and lends its value to a closure of this crate, so that no guard can escape.
#[derive(Default)]
pub(crate) struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
