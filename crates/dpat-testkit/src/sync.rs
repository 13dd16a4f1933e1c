//! The one lock of the kit.

#![allow(
    clippy::disallowed_types,
    reason = "this is the `sync.rs` that the ban points to"
)]

pub(crate) use std::sync::MutexGuard;
use std::sync::PoisonError;

/// A lock that ignores poisoning: laws about panics go on after one.
#[derive(Debug)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
