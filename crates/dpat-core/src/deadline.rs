//! One point in time by which a whole operation must end.

use crate::Instant;
use std::time::Duration;

/// The instant by which an operation must have ended, or never.
///
/// An explicit value: pass it down, and give each nested call what is [`remaining`](Self::remaining). On the wire goes
/// the remaining time, since instants of two clocks cannot be compared; the receiver starts anew with
/// [`after`](Self::after), and the time on the way is lost on the safe side only if the sender subtracts it.
///
/// # Examples
/// ```
/// use dpat_core::{Deadline, Instant};
/// use std::time::Duration;
///
/// let now = Instant::from_nanos(5_000);
/// let deadline = Deadline::after(now, Duration::from_nanos(100));
/// let later = now + Duration::from_nanos(30);
/// assert_eq!(deadline.remaining(later), Duration::from_nanos(70));
/// assert!(deadline.is_past(now + Duration::from_nanos(100)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(Instant::MAX);

    /// Ends at `instant`; [`Instant::MAX`] means never.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// Ends `duration` after `now`; never, if that is beyond [`Instant::MAX`].
    #[must_use]
    pub const fn after(now: Instant, duration: Duration) -> Self {
        Self(now.saturating_add(duration))
    }

    /// Returns the instant; [`Instant::MAX`] if there is none.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// Says whether there is no deadline.
    #[must_use]
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// Returns what is left at `now`: zero once it has passed, [`Duration::MAX`] if there is no deadline.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Duration {
        if self.is_never() {
            Duration::MAX
        } else {
            self.0.since(now)
        }
    }

    /// Says whether it has passed at `now`; [`Deadline::NEVER`] never has.
    #[must_use]
    pub fn is_past(self, now: Instant) -> bool {
        now >= self.0 && !self.is_never()
    }

    /// Returns the earlier of two deadlines.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }
}

/// The deadline that travels with a tokio task.
#[cfg(feature = "tokio")]
mod task {
    use super::Deadline;
    use std::future::Future;

    tokio::task_local! {
        static CURRENT: Deadline;
    }

    impl Deadline {
        /// Runs `future` with this deadline, or the surrounding one if that is earlier.
        ///
        /// The deadline is only told ([`Deadline::current`]); nothing is cut off when it passes. It stays with the
        /// task: hand it over explicitly to whatever is spawned.
        ///
        /// # Cancel safety
        /// Dropping the returned future drops `future`, and the surrounding deadline holds again.
        ///
        /// # Examples
        /// ```
        /// # use dpat_core::{Clock, Deadline, TokioTime};
        /// # use std::time::Duration;
        /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        /// let deadline = Deadline::after(TokioTime.now(), Duration::from_secs(2));
        /// let seen = deadline.scope(async { Deadline::current() }).await;
        /// assert_eq!(seen, deadline);
        /// assert!(Deadline::current().is_never());
        /// # });
        /// ```
        pub async fn scope<F: Future>(self, future: F) -> F::Output {
            CURRENT.scope(self.earlier(Self::current()), future).await
        }

        /// Runs `call` with this deadline, or the surrounding one if that is earlier.
        ///
        /// For hand-written futures (dpat-retry's are): enter at each poll. [`Deadline::scope`] is the same for an
        /// `async` block.
        ///
        /// # Examples
        /// ```
        /// # use dpat_core::{Deadline, Instant};
        /// let deadline = Deadline::at(Instant::from_nanos(7));
        /// assert_eq!(deadline.enter(Deadline::current), deadline);
        /// assert!(Deadline::current().is_never());
        /// ```
        pub fn enter<R>(self, call: impl FnOnce() -> R) -> R {
            CURRENT.sync_scope(self.earlier(Self::current()), call)
        }

        /// Returns the deadline of the current task; [`Deadline::NEVER`] if none is set, also outside a task.
        #[must_use]
        pub fn current() -> Self {
            CURRENT
                .try_with(|deadline| *deadline)
                .unwrap_or(Self::NEVER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn remaining_is_the_wire_form() {
        let sender = Deadline::after(at(1_000), Duration::from_nanos(500));
        let wire = sender.remaining(at(1_200));
        // The receiver's clock has another origin.
        let receiver = Deadline::after(at(77), wire);
        assert_eq!(receiver.remaining(at(77)), Duration::from_nanos(300));
        assert_eq!(sender.remaining(at(9_999)), Duration::ZERO);
        let never = Deadline::after(at(77), Deadline::NEVER.remaining(at(1_000)));
        assert!(never.is_never());
    }

    #[test]
    fn never_does_not_pass() {
        assert!(!Deadline::NEVER.is_past(Instant::MAX));
        assert!(Deadline::at(at(5)).is_past(at(5)));
        assert!(!Deadline::at(at(5)).is_past(at(4)));
    }

    #[test]
    fn the_earlier_of_two_wins() {
        let (soon, late) = (Deadline::at(at(5)), Deadline::at(at(6)));
        assert_eq!(soon.earlier(late), soon);
        assert_eq!(Deadline::NEVER.earlier(late), late);
    }
}
