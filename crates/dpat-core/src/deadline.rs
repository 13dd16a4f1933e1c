//! One point in time by which a whole operation must end.

use crate::Instant;
use std::time::Duration;

/// The instant by which an operation must have ended, or never.
///
/// An explicit value: pass it down, and give each nested call what is [`remaining`](Self::remaining). On the wire
/// send the remaining time, not the instant.
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

    /// Ends `duration` after `now`.
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

    /// Says whether it has passed at `now`.
    #[must_use]
    pub fn is_past(self, now: Instant) -> bool {
        now >= self.0
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
        /// Cancel safety: dropping the returned future drops `future`.
        pub async fn scope<F: Future>(self, future: F) -> F::Output {
            CURRENT.scope(self.earlier(Self::current()), future).await
        }

        /// Runs `call` with this deadline, or the surrounding one if that is earlier.
        ///
        /// For hand-written futures: enter at each poll.
        pub fn enter<R>(self, call: impl FnOnce() -> R) -> R {
            CURRENT.sync_scope(self.earlier(Self::current()), call)
        }

        /// Returns the deadline of the current task, or [`Deadline::NEVER`].
        #[must_use]
        pub fn current() -> Self {
            CURRENT
                .try_with(|deadline| *deadline)
                .unwrap_or(Self::NEVER)
        }
    }
}
