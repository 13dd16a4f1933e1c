use super::body::ReplayBody;
use http::Response;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The answer of an [`IdempotencyService`](crate::IdempotencyService).
///
/// # Cancel safety
/// Dropping it drops the request, which may have had an effect: its key is busy until the lease ends, then in doubt.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<R, E> {
    inner: Inner<R, E>,
}

type Inner<R, E> = Pin<Box<dyn Future<Output = Result<Response<ReplayBody<R>>, E>> + Send>>;

impl<R, E> ResponseFuture<R, E> {
    pub(super) fn new(
        future: impl Future<Output = Result<Response<ReplayBody<R>>, E>> + Send + 'static,
    ) -> Self {
        Self {
            inner: Box::pin(future),
        }
    }
}

impl<R, E> Future for ResponseFuture<R, E> {
    type Output = Result<Response<ReplayBody<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<R, E> fmt::Debug for ResponseFuture<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
