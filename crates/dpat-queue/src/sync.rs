//! Locks: of std, or of loom in this crate's models. Other crates' models see std here.
#![allow(clippy::disallowed_types, reason = "the one place that names a lock")]

#[cfg(all(dpat_loom, test))]
use loom::sync::Mutex;
#[cfg(not(all(dpat_loom, test)))]
use std::sync::Mutex;

use std::fmt;
use std::sync::PoisonError;

/// A value behind a lock that is held for one closure of this crate.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Runs the closure alone. No closure of this crate stops halfway, so a poisoned value is whole.
    #[inline]
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}
