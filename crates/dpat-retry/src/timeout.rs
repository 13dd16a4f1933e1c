//! A limit on the time of one future.

use crate::call::poll_timer;
use crate::error::TimedOut;
use crate::scope;
use dpat_core::{Deadline, Instant, Sleep};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Gives `future` at most `limit`, in tokio's time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let stuck = std::future::pending::<()>();
/// assert!(dpat_retry::timeout(Duration::from_millis(5), stuck).await.is_err());
/// # });
/// ```
#[cfg(feature = "tokio")]
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F, dpat_core::TokioTime> {
    timeout_on(dpat_core::TokioTime, limit, future)
}

/// Gives `future` at most `limit`, in the time of `time`.
pub const fn timeout_on<S: Sleep, F>(time: S, limit: Duration, future: F) -> Timeout<F, S> {
    Timeout {
        future: Some(future),
        time,
        limit,
        deadline: None,
        timer: None,
    }
}

pin_project! {
    /// The future of [`timeout_on`]. The time runs from the first poll.
    ///
    /// A surrounding deadline that is nearer wins, and nested calls see the nearer of both.
    ///
    /// # Errors
    /// [`TimedOut`]; by then the inner future has been dropped.
    ///
    /// # Panics
    /// If polled again after it has completed.
    ///
    /// # Cancel safety
    /// Dropping it drops the inner future.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F, S>
    where
        S: Sleep,
    {
        #[pin]
        future: Option<F>,
        time: S,
        limit: Duration,
        deadline: Option<(Instant, Deadline)>,
        #[pin]
        timer: Option<S::Sleeping>,
    }
}

impl<F: Future, S: Sleep> Future for Timeout<F, S> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let is_first = this.deadline.is_none();
        let (started, deadline) = *this.deadline.get_or_insert_with(|| {
            let now = this.time.now();
            (
                now,
                Deadline::after(now, *this.limit).earlier(scope::deadline()),
            )
        });
        let limit = deadline.remaining(started);
        if !(is_first && limit.is_zero()) {
            #[allow(clippy::panic)] // the contract of every future
            let Some(future) = this.future.as_mut().as_pin_mut() else {
                panic!("`Timeout` polled after completion")
            };
            let polled = scope::enter(deadline, scope::surrounding(), || future.poll(cx));
            if let Poll::Ready(output) = polled {
                this.future.set(None);
                return Poll::Ready(Ok(output));
            }
            ready!(poll_timer(this.timer, deadline, &*this.time, cx));
        }
        this.future.set(None);
        Poll::Ready(Err(TimedOut {
            limit,
            started: !(is_first && limit.is_zero()),
        }))
    }
}

impl<F, S: Sleep> fmt::Debug for Timeout<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
