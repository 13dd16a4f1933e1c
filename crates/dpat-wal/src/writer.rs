//! The one who writes: owned by whoever leads a commit.

use dpat_core::{Classify, Effect};
use dpat_storage::{ErrorKind, File, Operation, Storage, StorageError};

use crate::config::Durability;
use crate::disk::{Active, Disk};
use crate::format::{FRAME_HEADER_BYTES, FrameHeader, complete, raw_header, segment_name};
use crate::machine::Progress;
use crate::position::Position;
use crate::segments::Index;

pub(crate) struct Writer<F> {
    active: Active<F>,
    index: Index,
    /// The position of the next record.
    end: u64,
}

/// What became of a commit.
pub(crate) struct Outcome {
    pub(crate) progress: Progress,
    /// What readers must know, in order.
    pub(crate) grown: Vec<Grown>,
    /// The last segment is complete up to this offset.
    pub(crate) offset: u64,
    pub(crate) error: Option<CommitError>,
}

/// How the log has grown.
pub(crate) enum Grown {
    /// A segment was begun; the one before is complete.
    Segment { first: u64 },
    /// Readers may find this position at this offset of the last segment.
    Index { position: u64, offset: u64 },
}

/// Why a commit did not come to its end.
pub(crate) enum CommitError {
    /// Nothing of the rest is in the log, or will ever be.
    Refused(StorageError),
    /// The rest may be in the log. Nobody may write to it again.
    Failed(StorageError),
}

/// The frames of a group that go into one segment.
struct Part {
    bytes: usize,
    frames: u64,
    records: u64,
}

impl<F: File> Writer<F> {
    pub(crate) fn new(active: Active<F>, index: Index, end: Position) -> Self {
        Self {
            active,
            index,
            end: end.0,
        }
    }

    /// Writes frames and makes them durable. With `sync`, that is so whatever is configured.
    pub(crate) fn commit<S: Storage<File = F>>(
        &mut self,
        disk: &Disk<S>,
        group: &mut Vec<u8>,
        sync: bool,
    ) -> Outcome {
        let mut outcome = Outcome {
            progress: Progress {
                frames: 0,
                end: Position(self.end),
            },
            grown: Vec::new(),
            offset: self.active.end,
            error: None,
        };
        let syncs = sync || disk.config.durability == Durability::PowerLoss;
        if let Err(error) = self.write_all(disk, group, syncs, &mut outcome) {
            outcome.error = Some(error);
        }
        outcome
    }

    fn write_all<S: Storage<File = F>>(
        &mut self,
        disk: &Disk<S>,
        group: &mut Vec<u8>,
        syncs: bool,
        outcome: &mut Outcome,
    ) -> Result<(), CommitError> {
        let mut at = 0;
        loop {
            let part = self.fitting(disk, &group[at..]);
            if part.frames > 0 {
                let (index, entries) = self.complete_headers(&mut group[at..at + part.bytes]);
                let is_last = at + part.bytes == group.len();
                let ahead = if is_last {
                    self.ahead(disk, part.bytes)
                } else {
                    0
                };
                self.write(disk, group, at..at + part.bytes, ahead)?;
                self.index = index;
                outcome.grown.extend(entries);
                at += part.bytes;
            }
            if syncs {
                self.sync(disk)?;
            }
            self.end += part.records;
            outcome.progress.frames += part.frames;
            outcome.progress.end = Position(self.end);
            outcome.offset = self.active.end;
            if at == group.len() {
                return Ok(());
            }
            self.next_segment(disk)?;
            outcome.grown.push(Grown::Segment { first: self.end });
            outcome.offset = self.active.end;
        }
    }

    /// Counts the frames that the segment has room for; in an empty one, one at least.
    fn fitting<S: Storage>(&self, disk: &Disk<S>, group: &[u8]) -> Part {
        // A mark fits behind the last frame.
        let room =
            (disk.config.segment_bytes - FRAME_HEADER_BYTES as u64).saturating_sub(self.active.end);
        let mut part = Part {
            bytes: 0,
            frames: 0,
            records: 0,
        };
        while part.bytes < group.len() {
            let header = raw_header(&group[part.bytes..]);
            let end = part.bytes as u64 + header.frame_bytes();
            let is_only = self.active.first == self.end && part.frames == 0;
            if end > room && !is_only {
                break;
            }
            #[allow(clippy::cast_possible_truncation)] // within the group
            let end = end as usize;
            part = Part {
                bytes: end,
                frames: part.frames + 1,
                records: part.records + u64::from(header.count),
            };
        }
        part
    }

    /// Completes the headers of a part, and returns the index as it is once the part is written.
    fn complete_headers(&self, part: &mut [u8]) -> (Index, Vec<Grown>) {
        let (mut index, mut entries) = (self.index, Vec::new());
        let mut at = 0;
        while at < part.len() {
            let header = complete(part, at, self.active.seed, self.active.synced);
            let offset = self.active.end + at as u64;
            if index.wants(offset) {
                index.add(offset);
                let position = header.position;
                entries.push(Grown::Index { position, offset });
            }
            #[allow(clippy::cast_possible_truncation)] // within the part
            let bytes = header.frame_bytes() as usize;
            at += bytes;
        }
        (index, entries)
    }

    /// How many zeros to write behind so many bytes, so that the file need not grow at each commit.
    fn ahead<S: Storage>(&self, disk: &Disk<S>, bytes: usize) -> usize {
        let step = disk.config.preallocate_bytes;
        // A mark follows.
        let end = self.active.end + bytes as u64;
        let needed = end + FRAME_HEADER_BYTES as u64;
        if step == 0 || needed <= self.active.len {
            return 0;
        }
        let target = needed.next_multiple_of(step).min(disk.config.segment_bytes);
        usize::try_from(target.saturating_sub(end)).unwrap_or(0)
    }

    /// Writes a part of the group at the end of the segment, and zeros behind it.
    fn write<S: Storage>(
        &mut self,
        disk: &Disk<S>,
        group: &mut Vec<u8>,
        part: std::ops::Range<usize>,
        ahead: usize,
    ) -> Result<(), CommitError> {
        let bytes = group.len();
        group.resize(bytes + ahead, 0);
        let written = self
            .active
            .file
            .write_at(self.active.end, &group[part.start..part.end + ahead]);
        group.truncate(bytes);
        match written {
            Ok(()) => {
                let end = self.active.end + part.len() as u64;
                self.active.len = self.active.len.max(end + ahead as u64);
                self.active.end = end;
                Ok(())
            }
            Err(error) if is_final(&error) => Err(CommitError::Failed(error)),
            Err(error) => {
                if disk.config.rules.undo_failed_write() {
                    self.undo()?;
                }
                if ahead > 0 && error.kind() == ErrorKind::NoSpace {
                    return self.write(disk, group, part, 0);
                }
                Err(CommitError::Refused(error))
            }
        }
    }

    /// Takes back a write that failed, so that no part of it can be found later.
    fn undo(&mut self) -> Result<(), CommitError> {
        let end = self.active.end;
        let file = &mut self.active.file;
        let undone = file.truncate(end).and_then(|()| file.sync_data());
        undone.map_err(CommitError::Failed)?;
        self.active.len = end;
        self.active.synced = end;
        Ok(())
    }

    fn sync<S: Storage<File = F>>(&mut self, disk: &Disk<S>) -> Result<(), CommitError> {
        if self.active.synced < self.active.end {
            if disk.config.rules.sync_first() {
                self.sync_file(disk).map_err(CommitError::Failed)?;
            }
            self.active.synced = self.active.end;
        }
        Ok(())
    }

    fn sync_file<S: Storage<File = F>>(&mut self, disk: &Disk<S>) -> Result<(), StorageError> {
        let synced = self.active.file.sync_data();
        if synced.is_err() && !disk.config.rules.failed_sync_is_final() {
            let path = disk.path(&segment_name(self.active.first));
            self.active.file = disk.storage.open(&path)?;
            return self.active.file.sync_data();
        }
        synced
    }

    /// Completes the segment and begins the next.
    fn next_segment<S: Storage<File = F>>(&mut self, disk: &Disk<S>) -> Result<(), CommitError> {
        // Whatever is in the next segment proves that this one was complete.
        self.sync(disk)?;
        if self.active.len > self.active.end {
            // What was allocated ahead goes back; if it does not, it does no harm.
            match self.active.file.truncate(self.active.end) {
                Ok(()) => self.active.len = self.active.end,
                Err(error) if is_final(&error) => return Err(CommitError::Failed(error)),
                Err(_) => {}
            }
        }
        let made = disk.make_segment(self.end, self.active.first);
        let next = made.map_err(|error| {
            // Nothing may be written to a segment that has, perhaps, a next one.
            let renamed =
                error.operation() == Operation::Rename && error.effect() == Effect::Unknown;
            if renamed || is_final(&error) {
                CommitError::Failed(error)
            } else {
                CommitError::Refused(error)
            }
        })?;
        let sealed = self.seal();
        self.active = next;
        self.index = Index::default();
        // A segment without a seal is none the worse, as long as its file takes part in nothing any more.
        match sealed {
            Err(error) if is_final(&error) => Err(CommitError::Failed(error)),
            _ => Ok(()),
        }
    }

    /// Says at the end of the segment that it is not the last, so that it is seen if the next is missing.
    fn seal(&mut self) -> Result<(), StorageError> {
        let seal = FrameHeader::seal(self.end, self.active.end).encode(self.active.seed);
        self.active.file.write_at(self.active.end, &seal)?;
        self.active.file.sync_data()
    }

    /// Writes a mark that everything is durable. It is not synced and not needed: it protects what is before it from
    /// being taken for a torn write, once it has reached the disk. The next frame is written over it.
    pub(crate) fn mark(&mut self) {
        if self.active.synced == self.active.end && self.write_mark().is_ok() {
            let end = self.active.end + FRAME_HEADER_BYTES as u64;
            self.active.len = self.active.len.max(end);
        }
    }

    fn write_mark(&mut self) -> Result<(), StorageError> {
        let mark = FrameHeader::mark(self.end, self.active.end);
        let bytes = mark.encode(self.active.seed);
        self.active.file.write_at(self.active.end, &bytes)
    }

    /// Ends the log in order: all is durable, and a mark says so.
    pub(crate) fn close(&mut self) -> Result<(), StorageError> {
        if self.active.synced < self.active.end {
            self.active.file.sync_data()?;
            self.active.synced = self.active.end;
        }
        self.write_mark()?;
        let end = self.active.end + FRAME_HEADER_BYTES as u64;
        self.active.file.truncate(end)?;
        self.active.file.sync_data()
    }
}

/// Says whether the file or the storage must not be used any more.
pub(crate) fn is_final(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::SyncFailed | ErrorKind::AfterFailedSync | ErrorKind::Closed
    )
}
