//! Snapshots: the state before a position, in a file of its own.
//!
//! ```text
//! header, 64 bytes, as that of a segment with its own magic; `first` is the position
//! chunks: frames as in a segment, of count 1, numbered from 0
//! end: a mark with the number of chunks
//! ```

use std::sync::Arc;

use dpat_core::Entropy;
use dpat_storage::{File, Storage, StorageError};

use crate::disk::SNAPSHOT_IN_MAKING;
use crate::error::{CorruptionKind, MaintainError, ReadError};
use crate::format::{
    BadHeader, FRAME_HEADER_BYTES, Frame, FrameHeader, HEAD_BYTES, NamedPosition,
    SEGMENT_HEADER_BYTES, SNAPSHOT, SegmentHeader, complete, corrupt, seed_of,
};
use crate::log::Wal;
use crate::position::Position;
use crate::shared::Shared;
use crate::source::Source;

/// How much goes into one chunk.
const CHUNK_BYTES: usize = 256 << 10;

impl<S: Storage> Wal<S> {
    /// Begins a snapshot of the state before `position`, which must be durable.
    ///
    /// Write the state to it, and [`finish`](SnapshotWriter::finish) it. It takes memory for one chunk of 256 KiB, and
    /// nobody who appends waits for it. After that, [`compact`](Self::compact) may give up the records before.
    ///
    /// # Errors
    /// [`MaintainError`]; [`Busy`](MaintainError::Busy) while another one is being written.
    pub fn snapshot(&self, position: Position) -> Result<SnapshotWriter<S>, MaintainError> {
        let shared = self.shared();
        {
            let mut state = shared.state();
            if state.snapshotting {
                return Err(MaintainError::Busy { what: "snapshot" });
            }
            state.snapshotting = true;
        }
        // From here on dropping it ends the turn.
        let mut writer = SnapshotWriter {
            shared: Arc::clone(shared),
            file: None,
            position,
            seed: 0,
            offset: SEGMENT_HEADER_BYTES,
            chunks: 0,
            chunk: Vec::new(),
        };
        self.check_durable(position)?;
        writer.begin()?;
        Ok(writer)
    }

    /// Opens the newest snapshot.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn latest_snapshot(&self) -> Result<Option<Snapshot<S>>, ReadError> {
        let newest = self.shared().state().snapshots.last().copied();
        newest
            .map(|named| Snapshot::open(self.shared(), named))
            .transpose()
    }

    /// Opens the newest snapshot of the state before a position, or of an earlier state.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn snapshot_before(&self, position: Position) -> Result<Option<Snapshot<S>>, ReadError> {
        let state = self.shared().state();
        let named = state
            .snapshots
            .iter()
            .rev()
            .find(|named| named.position <= position.0);
        let named = named.copied();
        drop(state);
        named
            .map(|named| Snapshot::open(self.shared(), named))
            .transpose()
    }

    /// Returns the position of the oldest snapshot that is kept and has all records that follow it: compaction up to there
    /// leaves each of them of use.
    #[must_use]
    pub fn oldest_snapshot(&self) -> Option<Position> {
        let state = self.shared().state();
        let low = state.segments.low;
        let positions = state.snapshots.iter().map(|named| named.position);
        let mut of_use = positions.filter(|position| *position >= low);
        of_use.next().map(Position)
    }
}

/// A snapshot that is being written. Dropped before it is finished, it was never there.
#[must_use = "a snapshot that is not finished is not there"]
pub struct SnapshotWriter<S: Storage> {
    shared: Arc<Shared<S>>,
    file: Option<S::File>,
    position: Position,
    seed: u32,
    offset: u64,
    chunks: u64,
    chunk: Vec<u8>,
}

impl<S: Storage> SnapshotWriter<S> {
    fn begin(&mut self) -> Result<(), StorageError> {
        let salt = self.shared.disk.config.entropy.next_u64();
        let header = SegmentHeader {
            salt,
            first: self.position.0,
            previous: self.position.0,
        };
        self.seed = seed_of(salt);
        let mut file = self.shared.disk.create_anew(SNAPSHOT_IN_MAKING)?;
        file.write_at(0, &header.encode_snapshot())?;
        self.file = Some(file);
        Ok(())
    }

    /// Writes more of the state.
    ///
    /// # Errors
    /// [`MaintainError::Storage`]; drop it then, and begin anew.
    pub fn write(&mut self, mut state: &[u8]) -> Result<(), MaintainError> {
        while !state.is_empty() {
            let taken = state.len().min(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(&state[..taken]);
            state = &state[taken..];
            if self.chunk.len() == CHUNK_BYTES {
                self.write_chunk()?;
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> Result<(), StorageError> {
        let (Some(file), Some(frame)) = (&mut self.file, Frame::new([&[], &self.chunk], 1)) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        frame.push_to(&mut bytes, self.chunks);
        complete(&mut bytes, 0, self.seed, SEGMENT_HEADER_BYTES);
        file.write_at(self.offset, &bytes)?;
        self.offset += bytes.len() as u64;
        self.chunks += 1;
        self.chunk.clear();
        Ok(())
    }

    /// Makes the snapshot durable, and removes those that are older than the newest that are kept.
    ///
    /// # Errors
    /// [`MaintainError::Storage`]: by its effect, the snapshot is not there, or perhaps it is. Older ones are.
    pub fn finish(mut self) -> Result<(), MaintainError> {
        if !self.chunk.is_empty() {
            self.write_chunk()?;
        }
        let end = FrameHeader::mark(self.chunks, self.offset).encode(self.seed);
        if let Some(file) = &mut self.file {
            file.write_at(self.offset, &end)?;
            if self.shared.disk.config.rules.sync_before_name() {
                file.sync_data()?;
            }
        }
        let disk = &self.shared.disk;
        let known = self.shared.state().snapshots.clone();
        let same = known
            .iter()
            .rfind(|named| named.position == self.position.0);
        let named = same.map_or(NamedPosition::new(self.position), |same| same.renewed());
        let from = disk.path(SNAPSHOT_IN_MAKING);
        disk.storage
            .rename(&from, &disk.path(&named.name(SNAPSHOT)))?;
        disk.sync_dir()?;

        let mut kept = known.clone();
        same.map(|same| kept.remove(same));
        kept.insert(named);
        while kept.len() > disk.config.snapshots_kept {
            kept.pop_first();
        }
        self.shared.state().snapshots.clone_from(&kept);
        for old in known.difference(&kept) {
            disk.remove(&old.name(SNAPSHOT))?;
        }
        Ok(())
    }
}

impl<S: Storage> Drop for SnapshotWriter<S> {
    fn drop(&mut self) {
        self.shared.state().snapshotting = false;
    }
}

/// A snapshot that is read, chunk by chunk, each checked before it is given out.
pub struct Snapshot<S: Storage> {
    source: Source<S::File>,
    path: String,
    position: Position,
    seed: u32,
    offset: u64,
    chunks: u64,
}

impl<S: Storage> Snapshot<S> {
    fn open(shared: &Shared<S>, named: NamedPosition) -> Result<Self, ReadError> {
        let path = shared.disk.path(&named.name(SNAPSHOT));
        let file = shared.disk.storage.open(&path)?;
        let limit = file.len()?;
        let mut source = Source::new(file, limit, shared.disk.config.rules);
        let position = Position(named.position);
        let head = source.bytes(0, HEAD_BYTES)?;
        let header = head
            .and_then(|head| head.try_into().ok())
            .map_or(Err(BadHeader::Damaged), SegmentHeader::decode_snapshot);
        let damaged = |kind| corrupt(&path, 0, position.0, kind);
        let header = header.map_err(|bad| damaged(bad.kind()))?;
        if header.first != position.0 {
            return Err(damaged(CorruptionKind::Misplaced).into());
        }
        Ok(Self {
            source,
            path,
            position,
            seed: seed_of(header.salt),
            offset: SEGMENT_HEADER_BYTES,
            chunks: 0,
        })
    }

    /// Returns the position before which it holds the state: reading goes on there.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns the next piece of the state, of 256 KiB but for the last. None: that was all.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if it is damaged or not whole. An older snapshot may be sound:
    /// [`Wal::snapshot_before`].
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, ReadError> {
        let (offset, seed) = (self.offset, self.seed);
        let header = self.source.header(offset, self.chunks, seed)?;
        let damaged = corrupt(&self.path, offset, self.position.0, CorruptionKind::Frame);
        let Some(header) = header else {
            return Err(damaged.into());
        };
        if header.count == 0 {
            return Ok(None);
        }
        if self.source.payload(offset, &header)?.is_none() {
            return Err(damaged.into());
        }
        self.offset += header.frame_bytes();
        self.chunks += 1;
        let payload = offset + FRAME_HEADER_BYTES as u64;
        Ok(Some(self.source.buffered(payload, header.len as usize)))
    }

    /// Reads the whole rest into memory.
    ///
    /// # Errors
    /// As [`next_chunk`](Self::next_chunk).
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut state = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            state.extend_from_slice(chunk);
        }
        Ok(state)
    }
}

impl<S: Storage> std::fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> std::fmt::Debug for SnapshotWriter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("position", &self.position)
            .field("bytes", &self.offset)
            .finish_non_exhaustive()
    }
}
