//! The standard library's primitives, or loom's in this crate's models.

#![allow(clippy::disallowed_types)] // the one place where locks may be named

#[cfg(all(dpat_loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU64, fence};
#[cfg(all(dpat_loom, test))]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(dpat_loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU64, fence};
#[cfg(not(all(dpat_loom, test)))]
use std::sync::{Mutex, MutexGuard};

use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock under which nothing panics, so that it is never poisoned with half a change.
#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock for many readers, under which nothing panics. Not modelled: it only guards maps of modelled breakers.
#[derive(Debug)]
pub(crate) struct SharedLock<T>(RwLock<T>);

impl<T> SharedLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
