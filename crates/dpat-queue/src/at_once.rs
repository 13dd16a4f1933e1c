//! Futures of what is mostly done by the first poll.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What has to wait.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that may be done without waiting.
pub(crate) trait Attempt<'a> {
    /// What it comes to.
    type Output;

    /// Does it, or does nothing, for it has to wait.
    fn now(&mut self) -> Poll<Self::Output>;

    /// Does it, and waits.
    fn later(&mut self) -> Later<'a, Self::Output>;
}

/// A future that is no larger than what it was given: what has to wait is in a box.
///
/// An `async fn` is as large as all that it may have to wait for, and is made and moved for each message.
#[must_use]
pub(crate) enum AtOnce<'a, A: Attempt<'a>> {
    First(A),
    Later(Later<'a, A::Output>),
}

impl<'a, A: Attempt<'a> + Unpin> Future for AtOnce<'a, A> {
    type Output = A::Output;

    // What it comes to is made where its caller has it, and not moved.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        let mut out = match &mut *self {
            Self::First(attempt) => attempt.now(),
            Self::Later(_) => Poll::Pending,
        };
        if out.is_pending() {
            out = self.wait(cx);
        }
        out
    }
}

impl<'a, A: Attempt<'a>> AtOnce<'a, A> {
    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<A::Output> {
        if let Self::First(attempt) = self {
            *self = Self::Later(attempt.later());
        }
        match self {
            Self::Later(later) => later.as_mut().poll(cx),
            Self::First(_) => Poll::Pending,
        }
    }
}
