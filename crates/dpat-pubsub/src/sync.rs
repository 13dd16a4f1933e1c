//! Locks, atomics and cells: of std, or of loom in this crate's models. Other crates' models see std here.
#![allow(clippy::disallowed_types, reason = "the one place that names a lock")]

#[cfg(all(dpat_loom, test))]
use loom::sync::Mutex;
#[cfg(all(dpat_loom, test))]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(not(all(dpat_loom, test)))]
use std::sync::Mutex;
#[cfg(not(all(dpat_loom, test)))]
pub(crate) use std::sync::atomic::AtomicU64;

use std::fmt;
use std::ops::Deref;
use std::sync::{PoisonError, RwLock};

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

/// A value behind a lock for many readers. Not modelled: it guards maps of modelled buffers.
pub(crate) struct SharedLock<T>(RwLock<T>);

impl<T> SharedLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub(crate) fn read<R>(&self, run: impl FnOnce(&T) -> R) -> R {
        run(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        run(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A cell that is filled once; reading it takes no lock.
#[cfg(not(all(dpat_loom, test)))]
#[derive(Debug)]
pub(crate) struct Once<T>(std::sync::OnceLock<T>);

#[cfg(not(all(dpat_loom, test)))]
impl<T: Clone> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    /// Fills the cell; a second value is dropped.
    #[inline]
    pub(crate) fn fill(&self, value: T) {
        let _ = self.0.set(value);
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<T> {
        self.0.get().cloned()
    }
}

/// A cell that is filled once. loom has none; the value is behind a lock of its own.
#[cfg(all(dpat_loom, test))]
#[derive(Debug)]
pub(crate) struct Once<T>(Mutex<Option<T>>);

#[cfg(all(dpat_loom, test))]
impl<T: Clone> Once<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn fill(&self, value: T) {
        let mut cell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cell.get_or_insert(value);
    }

    pub(crate) fn get(&self) -> Option<T> {
        let cell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cell.clone()
    }
}

/// A value on cache lines of its own: two lines, because adjacent lines are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
