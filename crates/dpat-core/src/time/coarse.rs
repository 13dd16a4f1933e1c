//! The operating system's coarse clock: a quarter of the cost, some milliseconds behind.

use super::{Clock, Instant, Wall, system::system_wall};
#[cfg(feature = "tokio")]
use super::{Sleep, TokioTime};
#[cfg(feature = "tokio")]
use std::future::Future;
#[cfg(feature = "tokio")]
use std::pin::Pin;
use std::time::Duration;

/// A monotonic clock that is cheap to read and a little behind.
///
/// On Linux it is `CLOCK_MONOTONIC_COARSE`: a reading is the time of the kernel's last tick, some milliseconds ago (see
/// [`resolution`](Self::resolution)); elsewhere it is [`SystemClock`](super::SystemClock). It is never ahead of
/// [`SystemClock`](super::SystemClock), and both share an origin, so that their instants may be compared.
///
/// For code that looks at the clock with every message and whose times are seconds. The wall clock is the exact one.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, CoarseClock, SystemClock};
///
/// let coarse = CoarseClock.now();
/// assert!(coarse <= SystemClock.now());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseClock;

impl CoarseClock {
    /// Returns how far apart two readings are that differ, as the operating system tells it.
    #[must_use]
    pub fn resolution() -> Duration {
        os::resolution()
    }
}

impl Clock for CoarseClock {
    #[inline]
    fn now(&self) -> Instant {
        os::now()
    }

    fn wall(&self) -> Wall {
        system_wall()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod os {
    use crate::time::{Clock, Instant, SystemClock};
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
    use std::sync::OnceLock;
    use std::time::Duration;

    /// What a reading of the operating system is less than ours, in nanoseconds, modulo 2⁶⁴.
    static AHEAD: OnceLock<u64> = OnceLock::new();

    /// In nanoseconds. The clocks asked here begin at zero.
    #[inline]
    fn whole(time: Timespec) -> u64 {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
    }

    #[cold]
    fn ahead() -> u64 {
        // In this order: what passes in between makes us earlier, not later.
        let ours = SystemClock.now().as_nanos();
        ours.wrapping_sub(whole(clock_gettime(ClockId::Monotonic)))
    }

    #[inline]
    pub(super) fn now() -> Instant {
        let ahead = *AHEAD.get_or_init(ahead);
        let time = whole(clock_gettime(ClockId::MonotonicCoarse));
        Instant::from_nanos(time.wrapping_add(ahead))
    }

    pub(super) fn resolution() -> Duration {
        Duration::from_nanos(whole(clock_getres(ClockId::MonotonicCoarse)))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod os {
    use crate::time::{Clock, Instant, SystemClock};
    use std::time::Duration;

    #[inline]
    pub(super) fn now() -> Instant {
        SystemClock.now()
    }

    pub(super) fn resolution() -> Duration {
        Duration::from_nanos(1)
    }
}

/// [`CoarseClock`] with tokio's timer.
///
/// Unlike [`TokioTime`] it does not follow `tokio::time::pause`: tests take another time. Sleeping needs a runtime with the
/// time driver; reading does not.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseTime;

#[cfg(feature = "tokio")]
impl Clock for CoarseTime {
    #[inline]
    fn now(&self) -> Instant {
        CoarseClock.now()
    }

    fn wall(&self) -> Wall {
        CoarseClock.wall()
    }
}

#[cfg(feature = "tokio")]
impl Sleep for CoarseTime {
    type Sleeping = Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Completes once this clock, which is behind, has come to `at`.
    ///
    /// # Panics
    /// When it is polled outside a tokio runtime with the time driver enabled, as every tokio timer does.
    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        let (time, step) = (*self, CoarseClock::resolution());
        Box::pin(async move {
            if time.now() < at {
                TokioTime.sleep_until(at).await;
            }
            while time.now() < at {
                tokio::time::sleep(step).await;
            }
        })
    }
}
