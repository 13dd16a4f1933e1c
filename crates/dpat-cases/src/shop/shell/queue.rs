//! The queue of shipping, on a write-ahead log: in files, or on a simulated disk.

use std::path::Path;
use std::thread::JoinHandle;

use dpat_core::Sleep;
use dpat_queue::{Queue, WalQueue};
use dpat_storage::{FsStorage, Storage};

use super::group::engine;
use crate::shop::service::ports::StoreError;
use crate::shop::service::shipping::queue_limits;

/// The directory of the log within its storage.
const DIRECTORY: &str = "queue";
/// Bytes of a segment of the log, and of a frame.
const SEGMENT_BYTES: u64 = 1 << 20;
const FRAME_BYTES_MAX: u64 = 128 << 10;

/// Opens the queue in a storage.
pub(super) fn open_in<S: Storage + 'static>(
    storage: S,
    backpressure: bool,
    time: impl Sleep + 'static,
) -> Result<WalQueue<S>, StoreError> {
    let log = dpat_wal::Config::builder()
        .directory(DIRECTORY)
        .segment_bytes(SEGMENT_BYTES)
        .frame_bytes_max(FRAME_BYTES_MAX)
        .preallocate_bytes(0)
        .build()
        .map_err(engine)?;
    let (queue, _recovered) =
        WalQueue::open(storage, log, queue_limits(backpressure), time).map_err(engine)?;
    Ok(queue)
}

/// The queue of a node on a real machine. Its log is written by a thread of its own.
pub struct FileQueue {
    wal: WalQueue<FsStorage>,
    keeper: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for FileQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileQueue").finish_non_exhaustive()
    }
}

impl FileQueue {
    /// Opens or creates the queue in a folder.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn open(
        folder: &Path,
        backpressure: bool,
        time: impl Sleep + 'static,
    ) -> Result<Self, StoreError> {
        let storage = FsStorage::open(folder).map_err(engine)?;
        let wal = open_in(storage, backpressure, time)?;
        let keeper = match wal.committer() {
            None => None,
            Some(keeper) => {
                let thread = std::thread::Builder::new().name("queue".to_owned());
                let run = move || keeper.run_blocking();
                Some(thread.spawn(run).map_err(engine)?)
            }
        };
        Ok(Self { wal, keeper })
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        self.wal.queue()
    }

    /// Ends the log, and the thread that writes it.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn close(self) -> Result<(), StoreError> {
        let closed = self.wal.close().map_err(engine);
        let joined = self.keeper.map(JoinHandle::join).transpose();
        joined.map_err(|_| engine("the writer of the queue panicked"))?;
        closed
    }
}
