//! Frames read from a file through one buffer.

use dpat_storage::{ErrorKind, File, StorageError};

use crate::format::{ALIGN, FRAME_HEADER_BYTES, FrameHeader, Records, body_crc};
use crate::rules::Rules;

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A file and the part of it that was read last.
pub(crate) struct Source<F> {
    pub(crate) file: F,
    /// Bytes from here on are not looked at: they may still change.
    limit: u64,
    /// Where the buffer begins.
    start: u64,
    buffer: Vec<u8>,
    rules: Rules,
}

impl<F: File> Source<F> {
    pub(crate) fn new(file: F, limit: u64, rules: Rules) -> Self {
        Self {
            file,
            limit,
            start: 0,
            buffer: Vec::new(),
            rules,
        }
    }

    /// Lets more of the file be read. What was read stays as it is.
    pub(crate) fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Returns so many bytes, or none if they reach beyond the limit.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>, StorageError> {
        let Some(end) = offset
            .checked_add(len as u64)
            .filter(|end| *end <= self.limit)
        else {
            return Ok(None);
        };
        let buffered = self.start + self.buffer.len() as u64;
        if offset < self.start || end > buffered {
            self.fill(offset, len)?;
        }
        #[allow(clippy::cast_possible_truncation)] // within the buffer
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buffer[at..at + len]))
    }

    /// Returns bytes that were read last; empty if they were not.
    pub(crate) fn buffered(&self, offset: u64, len: usize) -> &[u8] {
        let at = offset
            .checked_sub(self.start)
            .and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.buffer.get(at..at.checked_add(len)?))
            .unwrap_or_default()
    }

    /// Reads from `offset` on at least `len` bytes, which are below the limit. Keeps what is there already.
    fn fill(&mut self, offset: u64, len: usize) -> Result<(), StorageError> {
        let buffered = self.start + self.buffer.len() as u64;
        let mut kept = 0;
        if (self.start..buffered).contains(&offset) {
            #[allow(clippy::cast_possible_truncation)] // within the buffer
            let at = (offset - self.start) as usize;
            self.buffer.copy_within(at.., 0);
            kept = self.buffer.len() - at;
        }
        let rest = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
        let wanted = rest.min(len.max(CHUNK_BYTES));
        self.start = offset;
        self.buffer.truncate(kept);
        self.buffer.shrink_to(wanted);
        self.buffer.resize(wanted, 0);
        let read = self
            .file
            .read_exact_at(offset + kept as u64, &mut self.buffer[kept..]);
        if read.is_err() {
            // Nothing is buffered that was not read.
            self.buffer.clear();
        }
        read
    }

    /// Reads the header at `offset`, if it is sound, is of this position, and its frame is below the limit.
    pub(crate) fn header(
        &mut self,
        offset: u64,
        position: u64,
        seed: u32,
    ) -> Result<Option<FrameHeader>, StorageError> {
        let limit = self.limit;
        let header = self.any_header(offset, seed)?.filter(|header| {
            let end = offset.checked_add(header.frame_bytes());
            header.position == position && end.is_some_and(|end| end <= limit)
        });
        Ok(header)
    }

    /// Reads the header at `offset`, if it is sound.
    pub(crate) fn any_header(
        &mut self,
        offset: u64,
        seed: u32,
    ) -> Result<Option<FrameHeader>, StorageError> {
        let bytes = self.bytes(offset, FRAME_HEADER_BYTES)?;
        let header = bytes.and_then(|bytes| bytes.try_into().ok());
        Ok(header.and_then(|bytes| FrameHeader::decode(bytes, seed)))
    }

    /// Returns the payload of a frame whose header was read at `offset`, and its records, if it is sound.
    pub(crate) fn payload(
        &mut self,
        offset: u64,
        header: &FrameHeader,
    ) -> Result<Option<(&[u8], Records)>, StorageError> {
        let at = offset + FRAME_HEADER_BYTES as u64;
        let checks = self.rules.checksum();
        let payload = self.bytes(at, header.len as usize)?;
        Ok(payload.and_then(|payload| {
            let sound = !checks || body_crc(payload) == header.body_crc;
            let records = sound.then(|| Records::of(payload, header.count))??;
            Some((payload, records))
        }))
    }

    /// Looks from `offset` on for proof that the byte there was durable once: a header that says so.
    ///
    /// Returns whether there is one, and the end of what is not zero.
    pub(crate) fn search(&mut self, offset: u64, seed: u32) -> Result<(bool, u64), StorageError> {
        let mut at = offset;
        let mut not_zero = offset;
        while at < self.limit {
            let rest = usize::try_from(self.limit - at).unwrap_or(usize::MAX);
            let Some(bytes) = self.bytes(at, rest.min(CHUNK_BYTES))? else {
                break;
            };
            let len = bytes.len();
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                not_zero = at + last as u64 + 1;
                for place in (0..len).step_by(ALIGN) {
                    // Zeros are no header; a chunk of mostly zeros is passed quickly.
                    if self.buffered_word(at + place as u64) == Some(0) {
                        continue;
                    }
                    let header = self.any_header(at + place as u64, seed)?;
                    if header.is_some_and(|header| header.synced > offset) {
                        return Ok((true, not_zero));
                    }
                }
            }
            at += len as u64;
        }
        Ok((false, not_zero))
    }

    /// The word at a place that is in the buffer.
    fn buffered_word(&self, offset: u64) -> Option<u64> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let bytes = self.buffer.get(at..at + ALIGN)?;
        Some(
            bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        )
    }
}

/// The error of a file that is shorter than what is known to be in it.
pub(crate) fn is_short(error: &StorageError) -> bool {
    error.kind() == ErrorKind::UnexpectedEnd
}
