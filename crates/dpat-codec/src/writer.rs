//! A vector that grows to a limit and forgets what was not finished.

use crate::error::EncodeError;

/// Appends to a vector, at most `bytes_max` bytes; dropped before [`finish`](Self::finish), it takes all of them back.
///
/// The limit is looked at where the vector has to grow, and by [`check`](Self::check) at the end: a write into room that is
/// there costs no more than it does without a limit. Room beyond the limit is never asked for, doubling aside.
pub(crate) struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    end_max: usize,
    full: bool,
}

impl<'a> Bounded<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, bytes_max: usize) -> Self {
        let start = out.len();
        Self {
            start,
            end_max: start.saturating_add(bytes_max),
            out,
            full: false,
        }
    }

    /// Appends a byte, or returns false at the limit.
    #[inline]
    #[cfg_attr(
        not(feature = "postcard"),
        allow(dead_code, reason = "only postcard writes single bytes")
    )]
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        if self.out.len() == self.out.capacity() && !self.grow(1) {
            return false;
        }
        self.out.push(byte);
        true
    }

    /// Appends all of `bytes`, or returns false at the limit.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.out.capacity() - self.out.len() && !self.grow(bytes.len()) {
            return false;
        }
        self.out.extend_from_slice(bytes);
        true
    }

    /// Makes room, unless that would be beyond the limit.
    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        self.full = bytes > self.end_max.saturating_sub(self.out.len());
        if !self.full {
            self.out.reserve(bytes);
        }
        !self.full
    }

    /// Returns the number of bytes so far.
    pub(crate) fn written(&self) -> usize {
        self.out.len() - self.start
    }

    /// Fails if anything did not fit.
    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        if self.full || self.out.len() > self.end_max {
            return Err(EncodeError::Limit {
                field: "bytes",
                limit: (self.end_max - self.start) as u64,
            });
        }
        Ok(())
    }

    /// Keeps what was written.
    pub(crate) fn finish(mut self) {
        self.start = self.out.len();
    }
}

impl Drop for Bounded<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}
