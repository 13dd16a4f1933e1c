//! What a subscriber leaves behind, in a file of bounded size.

mod frame;

use crate::config::within;
use crate::error::{ConfigError, SubscribeError};
use crate::message::Message;
use crate::ring::Store;
use crate::trace::Telemetry;
use dpat_storage::{AnyStorage, ErrorKind, File, Storage, StorageError};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// The smallest file, in bytes.
const BYTES_MIN: usize = 4 << 10;
/// The largest file, in bytes.
const BYTES_MAX: usize = 1 << 40;

/// A file for the messages that a subscriber's buffer has no room for, used as a ring of exactly `bytes_max` bytes.
///
/// It is written and read by whoever publishes or receives, without syncs: nothing in it outlives the process. A message
/// takes its payload, its headers and about 32 bytes. A message that was damaged on the way is lost, counted as lag, as is
/// one that cannot be written. One subscription, or one queue group, uses a path at a time; the file is removed with it.
#[derive(Clone)]
pub struct Spill {
    storage: AnyStorage,
    path: Arc<str>,
    bytes_max: usize,
}

impl Spill {
    /// Names the file. A file that is there already, of a process that was killed, is replaced.
    ///
    /// `bytes_max` is 4 KiB to 1 TiB, checked when somebody subscribes with it.
    #[must_use]
    pub fn new(storage: AnyStorage, path: impl Into<Arc<str>>, bytes_max: usize) -> Self {
        Self {
            storage,
            path: path.into(),
            bytes_max,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("spill bytes_max", self.bytes_max, BYTES_MIN, BYTES_MAX)
    }

    pub(crate) fn open(&self, telemetry: Telemetry) -> Result<SpillFile, SubscribeError> {
        let failed = |error: StorageError| SubscribeError::Spill(Arc::new(error));
        match self.storage.remove(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = self.storage.create(&self.path).map_err(failed)?;
        Ok(SpillFile {
            file,
            telemetry,
            spill: self.clone(),
            written: 0,
            read: 0,
            records: 0,
            next_record: 0,
            gaps: VecDeque::new(),
            buffer: Vec::new(),
        })
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill")
            .field("path", &self.path)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

pub(crate) struct SpillFile {
    file: Box<dyn File>,
    spill: Spill,
    telemetry: Telemetry,
    /// Bytes ever written and read; their places in the file are these, modulo its size.
    written: u64,
    read: u64,
    /// Records in the file.
    records: u64,
    /// The number of the oldest of them.
    next_record: u64,
    /// Records before which messages were lost, by number. Not in the file, so that damage cannot take them.
    gaps: VecDeque<(u64, u64)>,
    buffer: Vec<u8>,
}

impl SpillFile {
    fn size(&self) -> u64 {
        self.spill.bytes_max as u64
    }

    /// Splits a range of the endless file into its one or two parts of the real one.
    fn parts(&self, at: u64, len: usize) -> (u64, usize) {
        let place = at % self.size();
        let until_end = self.size() - place;
        let first = usize::try_from(until_end).unwrap_or(usize::MAX).min(len);
        (place, first)
    }

    fn write_bytes(&mut self) -> Result<(), StorageError> {
        let (place, first) = self.parts(self.written, self.buffer.len());
        let (head, tail) = self.buffer.split_at(first);
        self.file.write_at(place, head)?;
        if !tail.is_empty() {
            self.file.write_at(0, tail)?;
        }
        Ok(())
    }

    fn read_bytes(&mut self, at: u64, len: usize) -> Result<(), StorageError> {
        let (place, first) = self.parts(at, len);
        self.buffer.resize(len, 0);
        let (head, tail) = self.buffer.split_at_mut(first);
        self.file.read_exact_at(place, head)?;
        if !tail.is_empty() {
            self.file.read_exact_at(0, tail)?;
        }
        Ok(())
    }

    /// Reads the oldest record. `Err` if the place of the next one is not known.
    fn read_record(&mut self) -> Result<Option<Message>, String> {
        let header = self.read_bytes(self.read, frame::HEADER_BYTES);
        header.map_err(|error| error.to_string())?;
        let header = frame::Header::decode(&self.buffer);
        let end = header.and_then(|header| {
            let start = self.read + frame::HEADER_BYTES as u64;
            let end = start + u64::from(header.body_len);
            (end <= self.written).then_some((header, start, end))
        });
        let Some((header, start, end)) = end else {
            return Err("the length of a record is wrong".to_owned());
        };
        let len = usize::try_from(header.body_len).unwrap_or(usize::MAX);
        let body = self.read_bytes(start, len);
        self.read = end;
        let message = match body {
            Ok(()) => frame::decode(&header, &self.buffer),
            Err(error) => {
                self.telemetry.spill_failed(&self.spill.path, &error);
                return Ok(None);
            }
        };
        if message.is_none() {
            let reason = "the checksum of a record is wrong";
            self.telemetry.spill_failed(&self.spill.path, &reason);
        }
        Ok(message)
    }

    fn gap_before(&mut self, record: u64) -> u64 {
        match self.gaps.front() {
            Some((at, lost)) if *at == record => {
                let lost = *lost;
                self.gaps.pop_front();
                lost
            }
            _ => 0,
        }
    }
}

impl Store<Message> for SpillFile {
    fn write(&mut self, message: &Message, lost_before: u64) -> bool {
        frame::encode(message, &mut self.buffer);
        let len = self.buffer.len() as u64;
        if self.written - self.read + len > self.size() {
            return false;
        }
        if let Err(error) = self.write_bytes() {
            self.telemetry.spill_failed(&self.spill.path, &error);
            return false;
        }
        if lost_before > 0 {
            let record = self.next_record + self.records;
            self.gaps.push_back((record, lost_before));
        }
        self.written += len;
        self.records += 1;
        true
    }

    fn read(&mut self, count: usize) -> Vec<(u64, Option<Message>)> {
        let mut messages = Vec::new();
        while self.records > 0 && messages.len() < count {
            let lost_before = self.gap_before(self.next_record);
            match self.read_record() {
                Ok(message) => messages.push((lost_before, message)),
                Err(reason) => {
                    // Without this record's length none of the others can be found.
                    self.telemetry.spill_failed(&self.spill.path, &reason);
                    self.read = self.written;
                    messages.push((lost_before, None));
                    while self.records > 1 {
                        self.records -= 1;
                        self.next_record += 1;
                        let lost_before = self.gap_before(self.next_record);
                        messages.push((lost_before, None));
                    }
                }
            }
            self.records -= 1;
            self.next_record += 1;
        }
        if self.records == 0 {
            // From the beginning again: what is on the disk already needs no more room.
            (self.written, self.read) = (0, 0);
        }
        messages
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // What stays behind is replaced by the next subscription with this path.
        let _ = self.spill.storage.remove(&self.spill.path);
    }
}

#[cfg(test)]
mod tests;
