//! The lock of the disk.

use std::sync::PoisonError;

/// A mutex without poisoning: no caller's code runs under it, so a panic leaves nothing half done.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types)] // the one place of the disk that names a lock
pub(super) struct Mutex<T>(std::sync::Mutex<T>);

#[allow(clippy::disallowed_types)] // as above
impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
