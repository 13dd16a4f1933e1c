//! Appending: one future for both faces.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dpat_storage::Storage;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::AppendError;
use crate::format::Frame;
use crate::machine::Submitted;
use crate::position::Position;
use crate::shared::{Phase, Shared, Who};
use crate::sync::wait;

/// A record or batch that is about to be appended. Await it, [`wait`](Self::wait) for it, or [`submit`](Self::submit)
/// it.
///
/// Nothing happens before that. The output is the position of the (first) record, once it is durable. Records are in the
/// log in the order in which they were taken in: at the first poll, unless there was no room.
///
/// # Cancel safety
/// Dropped before it was taken in, nothing is appended. Dropped later, the record is on its way: it will be committed
/// with the next group, and nobody will be told.
#[must_use = "nothing is appended before it is awaited, waited for or submitted"]
pub struct Append<'a, S: Storage> {
    shared: &'a Arc<Shared<S>>,
    frame: Result<Frame<'a>, AppendError>,
    phase: Phase,
}

/// A record or batch that was taken in, and is on its way. Await it or [`wait`](Self::wait) for it.
///
/// Its place in the log is fixed, unless it is refused. Whoever commits next commits it: the
/// [`Committer`](crate::Committer) if there is one, else whoever waits for a record.
///
/// # Cancel safety
/// Dropping it cancels nothing: the record stays on its way.
#[must_use = "what became of the record is not known before it is awaited"]
pub struct Appending<S: Storage> {
    shared: Arc<Shared<S>>,
    submitted: Submitted,
    phase: Phase,
}

impl<'a, S: Storage> Append<'a, S> {
    pub(crate) fn record(shared: &'a Arc<Shared<S>>, record: &'a [u8]) -> Self {
        let frame = frame(&shared.disk.config, "record", [&[], record], 1);
        Self::new(shared, frame)
    }

    pub(crate) fn batch(shared: &'a Arc<Shared<S>>, batch: &'a Batch) -> Self {
        let frame = if batch.is_empty() {
            Err(AppendError::Empty)
        } else {
            frame(&shared.disk.config, "batch", batch.parts(), batch.records())
        };
        Self::new(shared, frame)
    }

    fn new(shared: &'a Arc<Shared<S>>, frame: Result<Frame<'a>, AppendError>) -> Self {
        Self {
            shared,
            frame,
            phase: Phase::New(None),
        }
    }

    /// Blocks the thread until the record is durable. If nobody commits, this thread does, for all that wait.
    ///
    /// # Errors
    /// [`AppendError`]; its effect says whether the record may be in the log.
    pub fn wait(mut self) -> Result<Position, AppendError> {
        wait(|waker| self.poll_as(waker, Who::Blocking))
    }

    /// Takes the record in and returns at once.
    ///
    /// # Errors
    /// [`AppendError::Full`] if there is no room; otherwise as [`wait`](Self::wait). Nothing was appended.
    pub fn submit(mut self) -> Result<Appending<S>, AppendError> {
        let frame = std::mem::replace(&mut self.frame, Err(AppendError::Closed))?;
        let submitted = self.shared.submit(&frame)?;
        Ok(Appending {
            shared: Arc::clone(self.shared),
            submitted,
            phase: Phase::Submitted(submitted, None),
        })
    }

    fn poll_as(&mut self, waker: &Waker, who: Who) -> Poll<Result<Position, AppendError>> {
        let frame = match &self.frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        let answer = self
            .shared
            .poll_append(&mut self.phase, Some(frame), waker, who);
        answer.map(|answer| answer.map(|submitted| submitted.position))
    }
}

impl<S: Storage> Future for Append<'_, S> {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_as(cx.waker(), Who::Future)
    }
}

impl<S: Storage> Drop for Append<'_, S> {
    fn drop(&mut self) {
        self.shared.leave(&self.phase);
    }
}

impl<S: Storage> Appending<S> {
    /// Returns the position that the (first) record has if it is not refused.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.submitted.position
    }

    /// Blocks the thread until the record is durable. If nobody commits, this thread does, for all that wait.
    ///
    /// # Errors
    /// As [`Append::wait`]; and [`AppendError::Forgotten`] if this is asked after more than 64 later failures.
    pub fn wait(mut self) -> Result<Position, AppendError> {
        wait(|waker| self.poll_as(waker, Who::Blocking))
    }

    fn poll_as(&mut self, waker: &Waker, who: Who) -> Poll<Result<Position, AppendError>> {
        let answer = self.shared.poll_append(&mut self.phase, None, waker, who);
        answer.map(|answer| answer.map(|submitted| submitted.position))
    }
}

impl<S: Storage> Future for Appending<S> {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_as(cx.waker(), Who::Future)
    }
}

impl<S: Storage> Drop for Appending<S> {
    fn drop(&mut self) {
        self.shared.leave(&self.phase);
    }
}

fn frame<'a>(
    config: &Config,
    field: &'static str,
    parts: [&'a [u8]; 2],
    count: u32,
) -> Result<Frame<'a>, AppendError> {
    let given = (parts[0].len() as u64).saturating_add(parts[1].len() as u64);
    let limit = config.frame_bytes_max;
    Some(parts)
        .filter(|_| given <= limit)
        .and_then(|parts| Frame::new(parts, count))
        .ok_or(AppendError::TooLarge {
            field,
            given,
            limit,
        })
}

impl<S: Storage> std::fmt::Debug for Append<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Append")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> std::fmt::Debug for Appending<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appending")
            .field("position", &self.submitted.position)
            .finish_non_exhaustive()
    }
}
