//! Instants, wall-clock readings, and the ports that deliver them.

mod any;
#[cfg(feature = "coarse")]
mod coarse;
#[cfg(feature = "test-util")]
mod manual;
mod system;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "tokio")]
pub use self::tokio::TokioTime;
pub use any::{AnySleep, AnyTime};
#[cfg(feature = "coarse")]
pub use coarse::CoarseClock;
#[cfg(all(feature = "coarse", feature = "tokio"))]
pub use coarse::CoarseTime;
#[cfg(feature = "test-util")]
pub use manual::{ManualSleep, ManualTime};
pub use system::SystemClock;

use std::future::Future;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A monotonic reading in nanoseconds since an origin that the clock chose.
///
/// Readings of different clocks must not be compared. All arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

/// A wall-clock reading in nanoseconds since 1970-01-01T00:00:00Z.
///
/// Wall clocks step backwards; only ids, logs and people should use them. All arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(u64);

/// Converts to nanoseconds, saturating after about 584 years.
#[inline]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    match duration.as_secs().checked_mul(1_000_000_000) {
        Some(nanos) => nanos.saturating_add(duration.subsec_nanos() as u64),
        None => u64::MAX,
    }
}

macro_rules! reading {
    ($name:ident) => {
        impl $name {
            /// The earliest reading.
            pub const MIN: Self = Self(0);
            /// The latest reading; arithmetic saturates here.
            pub const MAX: Self = Self(u64::MAX);

            /// Makes a reading from nanoseconds since the origin.
            #[must_use]
            #[inline]
            pub const fn from_nanos(nanos: u64) -> Self {
                Self(nanos)
            }

            /// Returns nanoseconds since the origin.
            #[must_use]
            #[inline]
            pub const fn as_nanos(self) -> u64 {
                self.0
            }

            /// Returns whole milliseconds since the origin.
            #[must_use]
            pub const fn as_millis(self) -> u64 {
                self.0 / 1_000_000
            }

            /// Returns the time since `earlier`, or zero if `earlier` is later.
            #[must_use]
            #[inline]
            pub const fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }

            /// Adds, saturating at [`Self::MAX`].
            #[must_use]
            #[inline]
            pub const fn saturating_add(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(nanos(duration)))
            }

            /// Subtracts, saturating at [`Self::MIN`].
            #[must_use]
            #[inline]
            pub const fn saturating_sub(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(duration)))
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;
            /// Saturating.
            #[inline]
            fn add(self, duration: Duration) -> Self {
                self.saturating_add(duration)
            }
        }

        impl Sub<Duration> for $name {
            type Output = Self;
            /// Saturating.
            #[inline]
            fn sub(self, duration: Duration) -> Self {
                self.saturating_sub(duration)
            }
        }
    };
}

reading!(Instant);
reading!(Wall);

/// Tells the time.
///
/// `now` never goes back within one clock; `wall` may.
pub trait Clock: Send + Sync {
    /// Returns the monotonic time.
    fn now(&self) -> Instant;
    /// Returns the wall-clock time.
    fn wall(&self) -> Wall;
}

/// A clock that can also wait.
pub trait Sleep: Clock {
    /// The future of [`Sleep::sleep_until`]. Dropping it cancels the wait.
    type Sleeping: Future<Output = ()> + Send + 'static;

    /// Completes at or after `at` of this clock; at once if `at` has passed.
    fn sleep_until(&self, at: Instant) -> Self::Sleeping;

    /// Completes `duration` from now.
    fn sleep(&self, duration: Duration) -> Self::Sleeping {
        self.sleep_until(self.now() + duration)
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Instant {
        (**self).now()
    }
    fn wall(&self) -> Wall {
        (**self).wall()
    }
}

impl<S: Sleep + ?Sized> Sleep for &S {
    type Sleeping = S::Sleeping;
    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        (**self).sleep_until(at)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }
    fn wall(&self) -> Wall {
        (**self).wall()
    }
}

impl<S: Sleep + ?Sized> Sleep for std::sync::Arc<S> {
    type Sleeping = S::Sleeping;
    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        (**self).sleep_until(at)
    }
}
