//! Reading in order, up to the durable end and as it moves on.

use std::future::poll_fn;
use std::sync::Arc;

use dpat_storage::{ErrorKind, File, Storage, StorageError};

use crate::error::{CorruptionKind, ReadError};
use crate::format::{
    BadHeader, FRAME_HEADER_BYTES, HEAD_BYTES, Records, SEGMENT_HEADER_BYTES, SegmentHeader,
    corrupt, seed_of, segment_name,
};
use crate::log::Leave;
use crate::position::Position;
use crate::segments::Index;
use crate::shared::{Shared, Who};
use crate::source::Source;
use crate::sync::wait;

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// Where it is.
    pub position: Position,
    /// What it holds.
    pub bytes: &'a [u8],
    /// How many records of the same batch follow; 0 for a record that was appended alone.
    pub following: u32,
}

/// Reads records in order, each once, and can wait for those to come.
///
/// Only durable records are read. A reader has a file of its own and a buffer of 256 KiB, or of the largest frame it
/// met; it keeps nobody from appending. It outlives the handles: after the log is closed it reads what is there.
///
/// # Examples
/// ```
/// use dpat_storage::MemStorage;
/// use dpat_wal::{Config, Position, Wal};
///
/// let (wal, _) = Wal::open(MemStorage::new(), Config::default())?;
/// wal.append(b"one").wait()?;
/// wal.append(b"two").wait()?;
/// let mut reader = wal.reader(Position::ZERO)?;
/// let mut bytes = 0;
/// while let Some(record) = reader.next_ready()? {
///     bytes += record.bytes.len();
/// }
/// assert_eq!((bytes, reader.position()), (6, Position(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<S: Storage> {
    shared: Arc<Shared<S>>,
    /// The next record to be returned.
    position: u64,
    /// Records before this are durable, as far as it was looked.
    durable: u64,
    open: Option<Open<S::File>>,
}

/// The segment that is read.
struct Open<F> {
    source: Source<F>,
    segment: u64,
    seed: u32,
    /// Where the next segment begins; none as long as this is the last.
    until: Option<u64>,
    /// The frame that comes next, and its position.
    offset: u64,
    at: u64,
    frame: Option<Frame>,
    ready: Option<Ready>,
    /// What was seen of the segment from its beginning on, if it may have no index.
    seen: Option<(Index, Vec<(u64, u64)>)>,
}

/// The frame whose records are being returned.
#[derive(Clone, Copy)]
struct Frame {
    payload: u64,
    len: usize,
    position: u64,
    records: Records,
}

/// The record that is returned next: where its bytes are, and how many follow in its batch.
#[derive(Clone, Copy)]
struct Ready {
    offset: u64,
    len: usize,
    following: u32,
}

impl<S: Storage> Reader<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, from: Position) -> Result<Self, ReadError> {
        let reader = Self {
            shared,
            position: from.0,
            durable: 0,
            open: None,
        };
        reader.check_compacted()?;
        Ok(reader)
    }

    /// Returns the position of the next record.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position(self.position)
    }

    /// Returns the next record, if it is durable already.
    ///
    /// # Errors
    /// [`ReadError`]; the position stays, and trying again is possible.
    pub fn next_ready(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        Ok(if self.find()? { self.take() } else { None })
    }

    /// Waits for the next record. None: the log has ended.
    ///
    /// # Errors
    /// As [`next_ready`](Self::next_ready).
    ///
    /// # Cancel safety
    /// May be dropped at any time; no record is lost.
    pub async fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        while !self.find()? {
            let position = Position(self.position);
            let mut left = Leave {
                shared: &*self.shared,
                place: None,
            };
            let more = poll_fn(|cx| {
                let place = &mut left.place;
                left.shared
                    .poll_beyond(position, place, cx.waker(), Who::Future)
            })
            .await?;
            if !more {
                return Ok(None);
            }
        }
        Ok(self.take())
    }

    /// Blocks the thread until there is a next record. None: the log has ended.
    ///
    /// # Errors
    /// As [`next_ready`](Self::next_ready).
    pub fn next_blocking(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        while !self.find()? {
            let (position, mut place) = (Position(self.position), None);
            let shared = &self.shared;
            if !wait(|waker| shared.poll_beyond(position, &mut place, waker, Who::Blocking))? {
                return Ok(None);
            }
        }
        Ok(self.take())
    }

    /// Finds the next record. False: there is none yet.
    fn find(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.position >= self.durable && !self.look_again()? {
                return Ok(false);
            }
            let Some(open) = &mut self.open else {
                self.open = Some(self.open_segment()?);
                continue;
            };
            if open.ready.is_some() {
                return Ok(true);
            }
            let ended = open.frame.is_none() && open.until.is_some_and(|until| open.at >= until);
            if ended {
                if let Some((_, seen)) = open.seen.take() {
                    self.shared.state().segments.learn(open.segment, seen);
                }
                self.open = None;
            } else if !open.step(self.position)? {
                let path = self.shared.disk.path(&segment_name(open.segment));
                let position = open.at.max(self.position);
                return Err(corrupt(&path, open.offset, position, CorruptionKind::Frame).into());
            }
        }
    }

    /// Returns the record that was found.
    fn take(&mut self) -> Option<Record<'_>> {
        let open = self.open.as_mut()?;
        let ready = open.ready.take()?;
        let position = Position(self.position);
        self.position += 1;
        Some(Record {
            position,
            bytes: open.source.buffered(ready.offset, ready.len),
            following: ready.following,
        })
    }

    /// Asks how far the log is durable by now. False: no further than the last record read.
    fn look_again(&mut self) -> Result<bool, ReadError> {
        let state = self.shared.state();
        let durable = state.machine.durable().0;
        if self.position >= durable {
            return Ok(false);
        }
        let end = state.segments.end;
        if let Some(open) = &mut self.open {
            let until = state.segments.until(open.segment);
            let completed = open.until.is_none() && until.is_some();
            if until.is_none() {
                open.source.raise_limit(end);
            }
            drop(state);
            if completed {
                let len = open.source.file.len()?;
                open.source.raise_limit(len);
            }
            open.until = until;
        }
        self.durable = durable;
        Ok(true)
    }

    fn compacted(&self, first: u64) -> ReadError {
        ReadError::Compacted {
            position: Position(self.position),
            first: Position(first),
        }
    }

    fn check_compacted(&self) -> Result<(), ReadError> {
        let first = self.shared.state().segments.low;
        if self.position < first {
            return Err(self.compacted(first));
        }
        Ok(())
    }

    /// Opens the segment that holds the next record, near to it.
    fn open_segment(&self) -> Result<Open<S::File>, ReadError> {
        self.check_compacted()?;
        let (place, end) = {
            let state = self.shared.state();
            let place = state
                .segments
                .place_of(Position(self.position), SEGMENT_HEADER_BYTES);
            (place, state.segments.end)
        };
        // The oldest segment begins at the low-water mark or before.
        let place = place.ok_or_else(|| self.compacted(self.position))?;
        let path = self.shared.disk.path(&segment_name(place.segment));
        let opened = self.shared.disk.storage.open(&path);
        if let Err(error) = &opened {
            if error.kind() == ErrorKind::NotFound {
                // Compacted in between.
                self.check_compacted()?;
            }
        }
        let file = opened?;
        let limit = match place.until {
            Some(_) => file.len()?,
            None => end,
        };
        let mut source = Source::new(file, limit, self.shared.disk.config.rules);
        let head = source.bytes(0, HEAD_BYTES)?;
        let header = head
            .and_then(|head| head.try_into().ok())
            .map_or(Err(BadHeader::Damaged), SegmentHeader::decode);
        let damaged = |kind| ReadError::from(corrupt(&path, 0, self.position, kind));
        let header = header.map_err(|bad| damaged(bad.kind()))?;
        if header.first != place.segment {
            return Err(damaged(CorruptionKind::Misplaced));
        }
        let from_the_beginning = place.offset == SEGMENT_HEADER_BYTES;
        Ok(Open {
            source,
            segment: place.segment,
            seed: seed_of(header.salt),
            until: place.until,
            offset: place.offset,
            at: place.position,
            frame: None,
            ready: None,
            seen: from_the_beginning.then(Default::default),
        })
    }
}

impl<F: File> Open<F> {
    /// Goes on by one record or frame, to what is `wanted`. False: what comes next is damaged.
    fn step(&mut self, wanted: u64) -> Result<bool, StorageError> {
        let Some(mut frame) = self.frame else {
            return self.next_frame(wanted);
        };
        let Some(payload) = self.source.bytes(frame.payload, frame.len)? else {
            return Ok(false);
        };
        let Some(range) = frame.records.next(payload) else {
            self.frame = None;
            return Ok(true);
        };
        if frame.position >= wanted {
            self.ready = Some(Ready {
                offset: frame.payload + range.start as u64,
                len: range.len(),
                following: frame.records.left(),
            });
        }
        frame.position += 1;
        self.frame = Some(frame);
        Ok(true)
    }

    fn next_frame(&mut self, wanted: u64) -> Result<bool, StorageError> {
        let (offset, position) = (self.offset, self.at);
        let header = self.source.header(offset, position, self.seed)?;
        // Before the durable end stands no mark.
        let Some(header) = header.filter(|header| header.count > 0) else {
            return Ok(false);
        };
        let next = position + u64::from(header.count);
        if next > wanted {
            let Some((payload, records)) = self.source.payload(offset, &header)? else {
                return Ok(false);
            };
            self.frame = Some(Frame {
                payload: offset + FRAME_HEADER_BYTES as u64,
                len: payload.len(),
                position,
                records,
            });
        }
        if let Some((index, entries)) = &mut self.seen {
            if index.wants(offset) {
                index.add(offset);
                entries.push((position, offset));
            }
        }
        self.offset = offset + header.frame_bytes();
        self.at = next;
        Ok(true)
    }
}

impl<S: Storage> std::fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
