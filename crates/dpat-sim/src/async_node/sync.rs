//! The one lock of the executor.

use std::sync::{MutexGuard, PoisonError};

/// A mutex for short sections: never held across a poll, a waker, a destructor of the program's, or its closures.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types)] // the one place of the executor that names a lock
pub(super) struct Mutex<T>(std::sync::Mutex<T>);

#[allow(clippy::disallowed_types)] // as above
impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
