//! Futures of what is mostly done by the first poll.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What has to wait.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that may be done without waiting.
pub(crate) trait Attempt<'a> {
    /// What it comes to.
    type Output;

    /// Does it, or does nothing, for it has to wait. What it comes to is made where it is returned.
    fn now(&mut self, out: &mut Poll<Self::Output>);

    /// Does it, and waits.
    fn later(&mut self) -> Later<'a, Self::Output>;
}

/// Sets what was pending: there is nothing to drop.
#[inline(always)]
pub(crate) fn set<T>(out: &mut Poll<T>, value: T) {
    mem::forget(mem::replace(out, Poll::Ready(value)));
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

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        let this = &mut *self;
        let mut out = Poll::Pending;
        if let Self::First(attempt) = this {
            attempt.now(&mut out);
            if out.is_pending() {
                *this = Self::Later(attempt.later());
            }
        }
        if let Self::Later(later) = this {
            out = later.as_mut().poll(cx);
        }
        out
    }
}
