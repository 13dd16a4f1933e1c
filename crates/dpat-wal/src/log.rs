//! The handle.

use std::future::poll_fn;
use std::sync::Arc;

use dpat_storage::{ErrorKind, Storage};

use crate::append::Append;
use crate::batch::Batch;
use crate::committer::Committer;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{AppendError, MaintainError, OpenError, ReadError};
use crate::format::{LOW, NamedPosition, segment_name};
use crate::position::Position;
use crate::reader::Reader;
use crate::recover::{Recovery, recover};
use crate::shared::{Shared, Who};
use crate::sync::wait;
use crate::waiters::Place;

/// A write-ahead log. Clones share it.
///
/// Appending is [`append`](Self::append) and [`append_batch`](Self::append_batch), reading is [`reader`](Self::reader).
/// What is no longer needed goes by [`compact`](Self::compact), usually after a [`snapshot`](Self::snapshot).
///
/// # Examples
/// ```
/// use dpat_storage::MemStorage;
/// use dpat_wal::{Config, Position, Wal};
///
/// let (wal, recovery) = Wal::open(MemStorage::new(), Config::default())?;
/// assert_eq!(recovery.end, Position::ZERO);
/// wal.append(b"one").wait()?;
/// let at = wal.append(b"two").wait()?;
/// assert_eq!(wal.read(at)?.as_deref(), Some(&b"two"[..]));
/// wal.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Wal<S: Storage> {
    owner: Arc<Owner<S>>,
}

/// Ends the log with its last handle.
struct Owner<S: Storage> {
    shared: Arc<Shared<S>>,
}

impl<S: Storage> Drop for Owner<S> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl<S: Storage> Clone for Wal<S> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<S: Storage> Wal<S> {
    /// Opens the log in a storage, or makes an empty one.
    ///
    /// Takes the storage's lock, cuts off a tail that was written in part, and makes durable what was found whole. Reads
    /// the heads of all segments and the last segment; damage elsewhere is found when it is read.
    ///
    /// # Errors
    /// [`OpenError`]. Of a damaged log nothing is cut off, so that whatever is left can still be looked at.
    pub fn open(storage: S, config: Config) -> Result<(Self, Recovery), OpenError> {
        let guard = if config.locks {
            Some(storage.lock()?)
        } else {
            None
        };
        let disk = Disk { storage, config };
        let recovered = recover(&disk)?;
        let recovery = recovered.recovery.clone();
        let shared = Arc::new(Shared::new(disk, guard, recovered));
        shared.telemetry.recovered(&recovery);
        let owner = Arc::new(Owner { shared });
        Ok((Self { owner }, recovery))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.owner.shared
    }

    /// Appends a record: await it, or [`wait`](Append::wait) for it.
    pub fn append<'a>(&'a self, record: &'a [u8]) -> Append<'a, S> {
        Append::record(self.shared(), record)
    }

    /// Appends records of which all or none are there after a crash: await it, or [`wait`](Append::wait) for it.
    pub fn append_batch<'a>(&'a self, batch: &'a Batch) -> Append<'a, S> {
        Append::batch(self.shared(), batch)
    }

    /// Makes the one committer, if there is none.
    #[must_use]
    pub fn committer(&self) -> Option<Committer<S>> {
        Committer::attach(self.shared())
    }

    /// Returns the first record that can be read.
    #[must_use]
    pub fn first(&self) -> Position {
        Position(self.shared().state().segments.low)
    }

    /// Returns the position behind the last durable record.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.shared().state().machine.durable()
    }

    /// Waits until everything is synced that was submitted before.
    ///
    /// With [`Durability::PowerLoss`](crate::Durability) that is what awaiting the records does already.
    ///
    /// # Errors
    /// [`AppendError`] if the log has failed or is closed.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the sync may still happen.
    pub async fn sync(&self) -> Result<(), AppendError> {
        let number = self.shared().want_sync()?;
        let mut left = Leave {
            shared: self.shared(),
            place: None,
        };
        poll_fn(|cx| {
            left.shared
                .poll_sync(number, &mut left.place, cx.waker(), Who::Future)
        })
        .await
    }

    /// Blocks the thread until everything is synced that was submitted before.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn sync_blocking(&self) -> Result<(), AppendError> {
        let shared = self.shared();
        let number = shared.want_sync()?;
        let mut place = None;
        wait(|waker| shared.poll_sync(number, &mut place, waker, Who::Blocking))
    }

    /// Reads records from a position on.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] before the first record. A position behind the end is fine: it will be reached.
    pub fn reader(&self, from: Position) -> Result<Reader<S>, ReadError> {
        Reader::new(Arc::clone(self.shared()), from)
    }

    /// Reads one record. None: there is none yet.
    ///
    /// Looks for it from the nearest entry of an index on; for many records use a [`reader`](Self::reader).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, position: Position) -> Result<Option<Vec<u8>>, ReadError> {
        let mut reader = self.reader(position)?;
        Ok(reader.next_ready()?.map(|record| record.bytes.to_vec()))
    }

    /// Gives up all records before `low`, and removes the segments that hold no others.
    ///
    /// The mark is durable when this returns; it never goes down. Blocks for a few calls of the storage.
    ///
    /// # Errors
    /// [`MaintainError`]. Whatever it is, no record from `low` on is touched.
    pub fn compact(&self, low: Position) -> Result<(), MaintainError> {
        let shared = self.shared();
        let busy = MaintainError::Busy { what: "compaction" };
        let before = {
            let mut state = shared.state();
            if state.compacting {
                return Err(busy);
            }
            if low.0 <= state.segments.low {
                return Ok(());
            }
            state.compacting = true;
            state.low
        };
        if !shared.disk.config.rules.mark_before_removal() {
            let gone = shared.state().segments.below(low);
            for first in gone {
                shared.disk.remove(&segment_name(first))?;
            }
        }
        let done = self.move_mark(low, before);
        let mut state = shared.state();
        state.compacting = false;
        let mark = done?;
        state.low = mark;
        let gone = state.segments.compact(low);
        drop(state);
        shared.telemetry.compacted(low.0, gone.len());
        // In any order, and not synced: the mark says that they are not needed.
        for first in gone {
            shared.disk.remove(&segment_name(first))?;
        }
        Ok(())
    }

    /// Makes the low-water mark durable, which is the name of an empty file.
    fn move_mark(
        &self,
        low: Position,
        before: NamedPosition,
    ) -> Result<NamedPosition, MaintainError> {
        let shared = self.shared();
        self.check_durable(low)?;
        let rename = |from: NamedPosition, to: NamedPosition| {
            let (from, to) = (from.name(LOW), to.name(LOW));
            let disk = &shared.disk;
            match disk.storage.rename(&disk.path(&from), &disk.path(&to)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                renamed => renamed.map(|()| true),
            }
        };
        let mut mark = NamedPosition::new(low);
        // An earlier try may have renamed it, and said that it might have failed. What it left is a mark that nobody
        // else keeps, so that it must not be removed for one that there may be no room for.
        if !rename(before, mark)? {
            let found = mark;
            mark = mark.renewed();
            if !rename(found, mark)? {
                drop(shared.disk.create_anew(&found.name(LOW))?);
                mark = found;
            }
        }
        shared.disk.sync_dir()?;
        Ok(mark)
    }

    /// Makes sure that what is to be replaced by something durable was durable itself.
    pub(crate) fn check_durable(&self, position: Position) -> Result<(), MaintainError> {
        let failed = |error| match error {
            AppendError::Failed(failure) | AppendError::InDoubt(failure) => {
                MaintainError::Failed(failure)
            }
            _ => MaintainError::Closed,
        };
        if self.shared().disk.config.durability == crate::Durability::ProcessKill {
            self.sync_blocking().map_err(failed)?;
        } else {
            self.shared().state().machine.check().map_err(failed)?;
        }
        let durable = self.durable();
        if position > durable {
            return Err(MaintainError::NotDurable { position, durable });
        }
        Ok(())
    }

    /// Ends the log in order: commits what waits, and writes a synced mark behind it. Blocks.
    ///
    /// The storage's lock is free afterwards. Other handles are refused from now on. Dropping the last handle instead
    /// loses nothing that was acknowledged; it just leaves no mark.
    ///
    /// # Errors
    /// [`MaintainError::Failed`] if the log has failed, [`MaintainError::Closed`] if another handle has closed it,
    /// [`MaintainError::Storage`] if the mark could not be written.
    pub fn close(self) -> Result<(), MaintainError> {
        let mut place = None;
        wait(|waker| self.shared().poll_close(&mut place, waker))
    }
}

/// Takes a waiter out when its future is dropped.
pub(crate) struct Leave<'a, S: Storage> {
    pub(crate) shared: &'a Shared<S>,
    pub(crate) place: Option<Place>,
}

impl<S: Storage> Drop for Leave<'_, S> {
    fn drop(&mut self) {
        self.shared.leave_place(self.place.take());
    }
}

impl<S: Storage> std::fmt::Debug for Wal<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared().state();
        f.debug_struct("Wal")
            .field("first", &state.segments.low)
            .field("durable", &state.machine.durable())
            .field("segments", &state.segments.all.len())
            .finish_non_exhaustive()
    }
}
