//! Several records that are appended all or nothing.

use crate::format::LENGTH_BYTES;

/// Records that are appended as one: after a crash all of them are there, or none.
///
/// # Examples
/// ```
/// use dpat_wal::Batch;
///
/// let mut batch = Batch::new();
/// batch.push(b"take 5 from a");
/// batch.push(b"give 5 to b");
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    lengths: Vec<u8>,
    bytes: Vec<u8>,
    records: u32,
}

impl Batch {
    /// Makes an empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lengths: Vec::new(),
            bytes: Vec::new(),
            records: 0,
        }
    }

    /// Adds a record. Appending checks the limits.
    pub fn push(&mut self, record: &[u8]) {
        let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
        self.lengths.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.records = self.records.saturating_add(1);
    }

    /// Returns how many records it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records as usize
    }

    /// Says whether it holds no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.lengths.clear();
        self.bytes.clear();
        self.records = 0;
    }

    pub(crate) const fn records(&self) -> u32 {
        self.records
    }

    /// The two parts of the payload.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        debug_assert_eq!(self.lengths.len(), self.len() * LENGTH_BYTES);
        match self.records {
            1 => [&[], &self.bytes],
            _ => [&self.lengths, &self.bytes],
        }
    }
}

impl<R: AsRef<[u8]>> FromIterator<R> for Batch {
    fn from_iter<I: IntoIterator<Item = R>>(records: I) -> Self {
        let mut batch = Self::new();
        batch.extend(records);
        batch
    }
}

impl<R: AsRef<[u8]>> Extend<R> for Batch {
    fn extend<I: IntoIterator<Item = R>>(&mut self, records: I) {
        for record in records {
            self.push(record.as_ref());
        }
    }
}
