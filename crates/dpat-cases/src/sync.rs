//! The one lock of this crate.

#[allow(clippy::disallowed_types)] // the facade itself
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};

/// A mutex for short sections: never held across an await, a caller's closure or I/O.
///
/// A panic inside a section leaves whole values behind here, so poisoning is ignored.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types)]
pub(crate) struct Mutex<T>(StdMutex<T>);

#[allow(clippy::disallowed_types)]
impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(StdMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
