use crate::{CallError, Classifier, OwnedPermit, Rejected};
use dpat_core::{Clock, SystemClock};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The answer of a [`BreakerService`](crate::BreakerService). Dropping it returns the permit and counts nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C = SystemClock, K = crate::ErrIsFailure>
    where
        C: Clock,
    {
        #[pin]
        stage: Stage<F, C, K>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<F, C, K>
    where
        C: Clock,
    {
        Admitted {
            #[pin]
            response: F,
            permit: Option<OwnedPermit<C>>,
            classifier: K,
        },
        Rejected {
            rejected: Rejected,
        },
    }
}

impl<F, C: Clock, K> ResponseFuture<F, C, K> {
    pub(super) fn admitted(response: F, permit: OwnedPermit<C>, classifier: K) -> Self {
        Self {
            stage: Stage::Admitted {
                response,
                permit: Some(permit),
                classifier,
            },
        }
    }

    pub(super) fn rejected(rejected: Rejected) -> Self {
        Self {
            stage: Stage::Rejected { rejected },
        }
    }
}

impl<F, C, K, T, E> Future for ResponseFuture<F, C, K>
where
    F: Future<Output = Result<T, E>>,
    C: Clock,
    K: Classifier<Result<T, E>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().stage.project() {
            StageProjection::Admitted {
                response,
                permit,
                classifier,
            } => {
                let result = ready!(response.poll(cx));
                if let Some(permit) = permit.take() {
                    permit.record(classifier.verdict(&result));
                }
                Poll::Ready(result.map_err(CallError::Inner))
            }
            StageProjection::Rejected { rejected } => Poll::Ready(Err((*rejected).into())),
        }
    }
}

impl<F, C: Clock, K> fmt::Debug for ResponseFuture<F, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
