//! The only place that names a lock.

use std::sync::PoisonError;

/// A mutex without poisoning: no caller's code runs under it, so a panic leaves nothing half done.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types)] // this is the facade
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

#[allow(clippy::disallowed_types)] // this is the facade
impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
