//! Locks: of std, or of loom in this crate's models. Other crates' models see std here.
#![allow(clippy::disallowed_types, reason = "the one place that names a lock")]

#[cfg(all(dpat_loom, test))]
use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};
#[cfg(not(all(dpat_loom, test)))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

/// A value behind a lock that is held for one closure of this crate.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks it. Nothing of this crate stops halfway, so a poisoned value is whole.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the closure alone.
    #[inline]
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        run(&mut self.lock())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// A number that is written behind a lock, and read by others without it: they may see an earlier one.
#[derive(Debug)]
pub(crate) struct Written(AtomicU64);

impl Written {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Only behind the lock.
    #[inline]
    pub(crate) fn add(&self, value: u64) {
        self.set(self.seen() + value);
    }

    /// Only behind the lock.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
