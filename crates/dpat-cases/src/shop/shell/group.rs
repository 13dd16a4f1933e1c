//! Transactions that wait for a writer, which runs many of them and commits once.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use crate::shop::service::ports::StoreError;

use super::rows::Rows;

/// How many transactions may wait; further callers wait for a place.
pub(super) const QUEUE_MAX: usize = 4_096;
/// How many transactions share one commit.
pub(super) const GROUP_MAX: usize = 512;

/// One transaction that waits: runs, and is told later what became of it.
pub(super) type Job = Box<dyn FnOnce(&mut dyn Rows) -> Result<Answer, Refusal> + Send>;
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A transaction that failed by itself, and whom to tell.
pub(super) struct Refusal {
    pub(super) error: StoreError,
    pub(super) answer: Answer,
}

/// Hands a transaction to the writer; resolves once the writer has told what became of it.
///
/// Cancel safety: a dropped call may or may not be committed.
pub(super) fn transact<R, F>(
    jobs: mpsc::Sender<Job>,
    work: F,
) -> impl Future<Output = Result<R, StoreError>> + Send
where
    R: Send + 'static,
    F: FnOnce(&mut dyn Rows) -> Result<R, StoreError> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |tables| match work(tables) {
        Ok(value) => Ok(Box::new(move |result: Result<(), StoreError>| {
            // A caller that has gone does not need the answer.
            let _ = sender.send(result.map(|()| value));
        })),
        Err(error) => Err(Refusal {
            error,
            answer: Box::new(move |result: Result<(), StoreError>| {
                if let Err(error) = result {
                    let _ = sender.send(Err(error));
                }
            }),
        }),
    });
    async move {
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }
}
