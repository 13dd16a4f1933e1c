//! Somebody who commits for those that do not want to.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use dpat_storage::Storage;

use crate::shared::Shared;
use crate::sync::wait;

/// Commits for everybody: what futures append is written and synced here, not where they are polled.
///
/// A log has one at most. It ends when the log is closed, has failed, or has no handle any more. Without one, whoever waits
/// for a record commits, futures included.
///
/// # Examples
/// ```
/// use dpat_storage::MemStorage;
/// use dpat_wal::{Config, Wal};
///
/// let (wal, _) = Wal::open(MemStorage::new(), Config::default())?;
/// let committer = wal.committer().expect("the first one");
/// let thread = std::thread::spawn(move || committer.run_blocking());
/// # let future = wal.append(b"record");
/// # assert_eq!(future.wait()?.0, 0);
/// wal.close()?;
/// thread.join().expect("the committer does not panic");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a committer that does not run keeps futures waiting"]
pub struct Committer<S: Storage> {
    shared: Arc<Shared<S>>,
}

impl<S: Storage> Committer<S> {
    /// Attaches, unless there is one already.
    pub(crate) fn attach(shared: &Arc<Shared<S>>) -> Option<Self> {
        shared.attach().then(|| Self {
            shared: Arc::clone(shared),
        })
    }

    /// Runs on this thread until the log ends.
    pub fn run_blocking(self) {
        while wait(|waker| self.shared.poll_commit(waker)) {}
    }

    /// Runs as a future until the log ends: for executors whose threads may block, such as one of its own, or a simulator.
    ///
    /// Each poll commits one group at most, and blocks meanwhile.
    ///
    /// # Cancel safety
    /// May be dropped at any time; whoever waits for a record commits from then on.
    pub async fn run(self) {
        poll_fn(|cx| match self.shared.poll_commit(cx.waker()) {
            Poll::Ready(true) => {
                // Others first: they may have something for the next group.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(false) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        })
        .await;
    }
}

impl<S: Storage> Drop for Committer<S> {
    fn drop(&mut self) {
        self.shared.detach();
    }
}

impl<S: Storage> std::fmt::Debug for Committer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}
