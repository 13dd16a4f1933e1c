//! The primitives that loom replaces in this crate's models.
//!
//! Only the models of this crate see loom: with `cfg(dpat_loom)` in other crates, the core stays on `std`.

#[cfg(not(all(dpat_loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(all(dpat_loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

#[cfg(any(feature = "rand", feature = "test-util"))]
pub(crate) use mutex::Mutex;

/// A `const fn`, except under loom, whose atomics have no const constructor.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis const fn $($rest:tt)*) => {
        #[cfg(not(all(dpat_loom, test)))]
        $(#[$attribute])*
        $visibility const fn $($rest)*
        #[cfg(all(dpat_loom, test))]
        $(#[$attribute])*
        #[allow(clippy::missing_const_for_fn)]
        $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

#[cfg(any(feature = "rand", feature = "test-util"))]
mod mutex {
    #[allow(clippy::disallowed_types)] // this is the `sync.rs` that the ban points to
    use std::sync::{Mutex as StdMutex, PoisonError};

    /// A lock that ignores poisoning and lends its value to a closure, so that no guard can escape.
    #[derive(Debug)]
    #[allow(clippy::disallowed_types)]
    pub(crate) struct Mutex<T>(StdMutex<T>);

    impl<T> Mutex<T> {
        #[allow(clippy::disallowed_types)]
        pub(crate) const fn new(value: T) -> Self {
            Self(StdMutex::new(value))
        }

        pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
            work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}
