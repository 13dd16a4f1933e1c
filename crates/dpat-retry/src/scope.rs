//! What travels with a task into nested calls: the deadline, and whether a retry or a hedge is at work.

use dpat_core::Deadline;

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

    #[cfg(feature = "tokio")]
    const fn and(self, inner: Self) -> Self {
        Self {
            retry: self.retry || inner.retry,
            hedge: self.hedge || inner.hedge,
        }
    }
}

#[cfg(feature = "tokio")]
mod task {
    use super::{Deadline, Surrounding};

    tokio::task_local! {
        static SURROUNDING: Surrounding;
    }

    /// Runs `poll` inside `deadline` and `inner`, besides what surrounds both.
    pub(crate) fn enter<R>(deadline: Deadline, inner: Surrounding, poll: impl FnOnce() -> R) -> R {
        SURROUNDING.sync_scope(surrounding().and(inner), || deadline.enter(poll))
    }

    pub(crate) fn surrounding() -> Surrounding {
        SURROUNDING.try_with(|it| *it).unwrap_or_default()
    }

    pub(crate) fn deadline() -> Deadline {
        Deadline::current()
    }
}

#[cfg(not(feature = "tokio"))]
mod task {
    use super::{Deadline, Surrounding};

    pub(crate) fn enter<R>(_: Deadline, _: Surrounding, poll: impl FnOnce() -> R) -> R {
        poll()
    }

    pub(crate) const fn surrounding() -> Surrounding {
        Surrounding::NOTHING
    }

    pub(crate) const fn deadline() -> Deadline {
        Deadline::NEVER
    }
}

pub(crate) use task::{deadline, enter, surrounding};
