//! What travels with a task into nested calls: the deadline, and that a retry is at work.

use dpat_core::Deadline;

/// Who surrounds the current call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Surrounding {
    #[default]
    Nothing,
    Retry,
    Hedge,
}

#[cfg(feature = "tokio")]
mod task {
    use super::{Deadline, Surrounding};

    tokio::task_local! {
        static SURROUNDING: Surrounding;
    }

    /// Runs `poll` inside an attempt.
    pub(crate) fn enter<R>(
        deadline: Deadline,
        surrounding: Surrounding,
        poll: impl FnOnce() -> R,
    ) -> R {
        // A hedge inside a retry stays known as a retry to what is inside of it, and the reverse; the inner wins.
        SURROUNDING.sync_scope(surrounding, || deadline.enter(poll))
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
        Surrounding::Nothing
    }

    pub(crate) const fn deadline() -> Deadline {
        Deadline::NEVER
    }
}

pub(crate) use task::{deadline, enter, surrounding};
