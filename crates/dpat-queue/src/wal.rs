//! The queue on a write-ahead log.

use std::fmt;
use std::sync::Arc;

use dpat_codec::{Codec, DecodeError, Postcard};
use dpat_core::{AnyTime, Class, Classify, Clock, Effect, Sleep};
use dpat_storage::Storage;
use dpat_wal::{
    AppendError, Batch, Committer, Durability, MaintainError, Position, ReadError, TornTail, Wal,
};
use serde::{Deserialize, Serialize};

use crate::capability::Survives;
use crate::config::{Builder, range};
use crate::embedded::{Embedded, Journal, PURGE_STEP, Ticket};
use crate::error::{BackendError, ConfigError};
use crate::machine::{Machine, Record};
use crate::queue::Queue;
use crate::sync::Lock;

/// What stands around a payload at most: headers, texts, numbers.
const RECORD_OVERHEAD_BYTES: u64 = 20 << 10;

/// What the record of a claim or a removal takes at most in a batch.
const CLAIM_BYTES_MAX: u64 = 40;

/// The largest record: the largest payload, and what stands around it.
const RECORD_BYTES_MAX: usize = (16 << 20) + (20 << 10);

const CODEC: Postcard = Postcard::with_bytes_max(RECORD_BYTES_MAX);

/// How many records are worth a snapshot, however small it is.
const SNAPSHOT_RECORDS: u64 = 100_000;
/// Or so many bytes of records.
const SNAPSHOT_BYTES: u64 = 16 << 20;

/// A record as it is stored.
#[derive(Serialize, Deserialize)]
enum Stored<R> {
    V0(R),
}

/// A queue on a write-ahead log.
///
/// What is acknowledged is in the log, as safe as its durability says; a message is handed out once its claim is. After a
/// restart every message is there that was sent and not settled, with its count; nobody holds a lease. Where the log fails,
/// the queue ends, and everything is refused until it is opened again: then it is what the log says.
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_core::ManualTime;
/// use dpat_queue::{Message, Queue, WalQueue};
/// use dpat_storage::MemStorage;
///
/// let storage = MemStorage::new(); // or FsStorage::open("queue")?
/// let open = || {
///     let log = dpat_wal::Config::default();
///     WalQueue::open(storage.clone(), log, Queue::builder(), ManualTime::new())
/// };
/// let (wal, _) = open()?;
/// wal.queue().send(Message::new("order 7")).await?;
/// wal.close()?;
///
/// let (wal, recovered) = open()?;
/// assert_eq!(recovered.messages, 1);
/// assert_eq!(wal.queue().receive().await?.payload(), "order 7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct WalQueue<S: Storage> {
    queue: Queue,
    wal: Wal<S>,
}

/// What was found when a queue was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Messages, dead letters left out.
    pub messages: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records that were read behind the snapshot.
    pub records: u64,
    /// What the log cut off behind its last whole record.
    pub torn: Option<TornTail>,
}

/// Says why a queue was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] dpat_wal::OpenError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record is whole, and not one of ours.
    #[error("position {position}: {source}")]
    Record {
        /// Where.
        position: Position,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A snapshot is whole, and not one of ours.
    #[error("snapshot before position {position}: damaged at byte {byte}")]
    Snapshot {
        /// Where.
        position: Position,
        /// Where in it.
        byte: usize,
    },
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Log(error) => error.class(),
            Self::Read(error) => error.class(),
            Self::Record { .. } | Self::Snapshot { .. } => Class::Corrupt,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Log(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

impl<S: Storage + 'static> WalQueue<S> {
    /// Opens the queue in a storage, or makes an empty one. What it survives is what the log's durability says.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        storage: S,
        log: dpat_wal::Config,
        queue: Builder,
        time: impl Sleep + 'static,
    ) -> Result<(Self, Recovered), OpenError> {
        let config = queue.validated()?;
        // The largest message, and the largest batch of claims, fit into one frame.
        let batch = config.batch_max.max(PURGE_STEP) as u64 * CLAIM_BYTES_MAX;
        let least = (config.message_bytes_max as u64 + RECORD_OVERHEAD_BYTES).max(batch);
        range("frame_bytes_max", log.frame_bytes_max(), least, u64::MAX)?;
        let survives = match log.durability() {
            Durability::ProcessKill => Survives::ProcessKill,
            Durability::PowerLoss => Survives::PowerLoss,
        };
        let (wal, recovery) = Wal::open(storage, log)?;
        let mut machine = Machine::new(config);
        let from = load_snapshot(&wal, &mut machine)?;
        let (mut records, mut read) = (0, 0);
        let mut reader = wal.reader(from)?;
        while let Some(record) = reader.next_ready()? {
            let position = record.position;
            let record_bytes = record.bytes.len() as u64;
            let Stored::V0(record) = CODEC
                .decode(record.bytes)
                .map_err(|source| OpenError::Record { position, source })?;
            machine.apply(record);
            records += 1;
            read += record_bytes;
        }
        machine.recovered();
        let time = AnyTime::new(time);
        machine.tick(time.wall());
        let stats = machine.stats();
        let recovered = Recovered {
            messages: stats.ready + stats.waiting + stats.leased,
            dead: stats.dead,
            records,
            torn: recovery.torn,
        };
        let journal = Log {
            wal: wal.clone(),
            state: Lock::new(LogState {
                end: recovery.end,
                since_snapshot: records,
                bytes_since: read,
                tidying: false,
                batch: Batch::new(),
                bytes: Vec::new(),
                broken: None,
            }),
        };
        let shell = Embedded::new(config, time, machine).with_journal(Box::new(journal), survives);
        let queue = Queue::embedded(shell);
        Ok((Self { queue, wal }, recovered))
    }

    /// Returns the queue.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Makes the one who commits for everybody, if there is none: run it on a thread of its own, and no task blocks on the
    /// disk.
    ///
    /// Without one, the task or thread that waits for a record writes and syncs it, for all that wait.
    #[must_use]
    pub fn committer(&self) -> Option<Keeper<S>> {
        self.wal.committer().map(|committer| Keeper { committer })
    }

    /// Puts a snapshot in the place of the records before it. Blocks.
    ///
    /// It happens by itself when the log has grown by more than four times what is in the queue, and by 100 000 records or
    /// 16 MiB.
    ///
    /// # Errors
    /// [`BackendError`]. The log is as it was, or begins at the snapshot; if it has failed, so has the queue.
    pub fn snapshot(&self) -> Result<(), BackendError> {
        match self.queue.shell() {
            Some(shell) => shell.snapshot(),
            None => Ok(()),
        }
    }

    /// Ends the log in order. Clones of the queue are refused from now on. Blocks.
    ///
    /// Dropping the queue instead loses nothing that was acknowledged.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn close(self) -> Result<(), BackendError> {
        self.wal.close().map_err(maintain_error)
    }
}

/// Commits for everybody, on a thread of its own; see [`WalQueue::committer`].
#[must_use = "one that does not run keeps tasks waiting"]
pub struct Keeper<S: Storage> {
    committer: Committer<S>,
}

impl<S: Storage> Keeper<S> {
    /// Runs on this thread until the log ends.
    pub fn run_blocking(self) {
        self.committer.run_blocking();
    }

    /// Runs as a task, for simulators: each poll commits one group at most, and blocks meanwhile.
    ///
    /// Its waker is called while the queue is locked, so that it must not use the queue itself.
    #[cfg(feature = "test-util")]
    pub async fn run(self) {
        self.committer.run().await;
    }
}

/// Applies the newest snapshot, and returns where the records behind it begin.
fn load_snapshot<S: Storage>(wal: &Wal<S>, machine: &mut Machine) -> Result<Position, OpenError> {
    let Some(mut snapshot) = wal.latest_snapshot()? else {
        return Ok(Position::ZERO);
    };
    let position = snapshot.position();
    let bytes = snapshot.read_to_end()?;
    let mut at = 0;
    let damaged = |byte| OpenError::Snapshot { position, byte };
    while at < bytes.len() {
        let Some((head, rest)) = bytes[at..].split_first_chunk::<4>() else {
            return Err(damaged(at));
        };
        let len = u32::from_le_bytes(*head) as usize;
        let record = rest.get(..len).ok_or(damaged(at))?;
        let Stored::V0(record) = CODEC.decode(record).map_err(|_| damaged(at))?;
        machine.apply(record);
        at += 4 + len;
    }
    Ok(position)
}

struct Log<S: Storage> {
    wal: Wal<S>,
    state: Lock<LogState>,
}

struct LogState {
    /// Where the next record will be.
    end: Position,
    /// Records since the last snapshot, and their bytes.
    since_snapshot: u64,
    bytes_since: u64,
    tidying: bool,
    batch: Batch,
    bytes: Vec<u8>,
    /// Records that were applied are not in the log.
    broken: Option<BackendError>,
}

impl<S: Storage + 'static> Journal for Log<S> {
    fn submit(&self, records: &[Record]) -> Result<Ticket, BackendError> {
        // Called under the queue's lock, so that the order here is that in which records are applied.
        self.state.with(|state| {
            if let Some(broken) = &state.broken {
                return Err(broken.before());
            }
            let LogState { batch, bytes, .. } = state;
            let mut more = 0;
            batch.clear();
            for record in records {
                bytes.clear();
                CODEC.encode(&Stored::V0(record), bytes).map_err(|error| {
                    BackendError::new(Class::InvalidInput, Effect::NotDone, error)
                })?;
                more += bytes.len() as u64;
                if records.len() > 1 {
                    batch.push(bytes);
                }
            }
            let submitted = match records {
                [_] => self.wal.append(bytes).submit(),
                _ => self.wal.append_batch(batch).submit(),
            };
            let appending = submitted.map_err(append_error)?;
            if appending.position() != state.end {
                // Records before this one were refused, perhaps after whoever waited for them had gone.
                let broken = BackendError::new(Class::Unavailable, Effect::Unknown, Diverged);
                state.broken = Some(broken.clone());
                return Err(broken);
            }
            state.end = state.end.after(records.len() as u64);
            state.since_snapshot += records.len() as u64;
            state.bytes_since += more;
            let ticket: Ticket =
                Box::pin(async move { appending.await.map(drop).map_err(append_error) });
            Ok(ticket)
        })
    }

    fn tidy(&self, queue: &Embedded, forced: bool) -> Result<(), BackendError> {
        let (grown, bytes) = self
            .state
            .with(|state| (state.since_snapshot, state.bytes_since));
        if !forced && grown < SNAPSHOT_RECORDS && bytes < SNAPSHOT_BYTES {
            return Ok(());
        }
        // Under both locks: the image is that of exactly the records before `end`.
        let begun = queue.with_machine(|machine| {
            self.state.with(|state| {
                let worth = grown >= 4 * machine.image_len();
                if state.tidying || !(forced || worth) {
                    return None;
                }
                state.tidying = true;
                state.since_snapshot = 0;
                state.bytes_since = 0;
                Some((machine.image(), state.end))
            })
        });
        let Some((image, end)) = begun else {
            return Ok(());
        };
        let done = self.write_snapshot(&image, end);
        self.state.with(|state| state.tidying = false);
        done
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the log has refused records: open the queue again")]
struct Diverged;

impl<S: Storage> Log<S> {
    fn write_snapshot(&self, image: &[Record], end: Position) -> Result<(), BackendError> {
        if self.wal.durable() < end {
            self.wal.sync_blocking().map_err(append_error)?;
        }
        // Were records of the image refused, another one has their place, or none: the image is not what the log says.
        let whole = self.wal.durable() >= end && self.state.with(|state| state.broken.is_none());
        if !whole {
            return Err(BackendError::new(
                Class::Unavailable,
                Effect::NotDone,
                Diverged,
            ));
        }
        let mut snapshot = self.wal.snapshot(end).map_err(maintain_error)?;
        let mut bytes = Vec::new();
        for record in image {
            bytes.clear();
            bytes.extend_from_slice(&[0; 4]);
            let encoded = CODEC.encode(&Stored::V0(record), &mut bytes);
            encoded.map_err(|error| BackendError::new(Class::Permanent, Effect::NotDone, error))?;
            // Bounded by the codec, far below 4 GiB.
            let len = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            snapshot.write(&bytes).map_err(maintain_error)?;
        }
        snapshot.finish().map_err(maintain_error)?;
        match self.wal.oldest_snapshot() {
            None => Ok(()),
            Some(oldest) => self.wal.compact(oldest).map_err(maintain_error),
        }
    }
}

fn append_error(error: AppendError) -> BackendError {
    BackendError::new(error.class(), error.effect(), error)
}

fn maintain_error(error: MaintainError) -> BackendError {
    BackendError::new(error.class(), error.effect(), Arc::new(error))
}

impl<S: Storage> fmt::Debug for WalQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalQueue")
            .field("wal", &self.wal)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
