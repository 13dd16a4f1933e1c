//! What travels with a task into nested calls: the deadline, and whether a retry or a hedge is at work.

use dpat_core::Deadline;
use std::cell::Cell;

/// Who surrounds the current call, at any depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surrounding {
    pub(crate) retry: bool,
    pub(crate) hedge: bool,
}

impl Surrounding {
    pub(crate) const NOTHING: Self = Self {
        retry: false,
        hedge: false,
    };
    pub(crate) const RETRY: Self = Self {
        retry: true,
        hedge: false,
    };
    pub(crate) const HEDGE: Self = Self {
        retry: false,
        hedge: true,
    };

    const fn and(self, inner: Self) -> Self {
        Self {
            retry: self.retry || inner.retry,
            hedge: self.hedge || inner.hedge,
        }
    }
}

std::thread_local! {
    // Set while an attempt is polled, so that it belongs to the task and not to the thread.
    static SURROUNDING: Cell<Surrounding> = const { Cell::new(Surrounding::NOTHING) };
}

/// Runs `poll` inside `deadline` and `inner`, besides what surrounds both.
#[inline]
pub(crate) fn enter<R>(deadline: Deadline, inner: Surrounding, poll: impl FnOnce() -> R) -> R {
    struct Restore(Surrounding);
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            SURROUNDING.set(self.0);
        }
    }

    let before = surrounding();
    SURROUNDING.set(before.and(inner));
    let _restore = Restore(before);
    enter_deadline(deadline, poll)
}

#[inline]
pub(crate) fn surrounding() -> Surrounding {
    SURROUNDING.get()
}

#[cfg(feature = "tokio")]
#[inline]
fn enter_deadline<R>(deadline: Deadline, poll: impl FnOnce() -> R) -> R {
    if deadline.is_never() {
        // What surrounds holds.
        poll()
    } else {
        deadline.enter(poll)
    }
}

#[cfg(not(feature = "tokio"))]
fn enter_deadline<R>(_: Deadline, poll: impl FnOnce() -> R) -> R {
    poll()
}

/// Returns the deadline of the surrounding task.
#[inline]
pub(crate) fn deadline() -> Deadline {
    #[cfg(feature = "tokio")]
    let deadline = Deadline::current();
    #[cfg(not(feature = "tokio"))]
    let deadline = Deadline::NEVER;
    deadline
}
