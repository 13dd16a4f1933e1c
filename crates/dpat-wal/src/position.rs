//! Where a record is.

use std::fmt;

/// The place of a record: how many records were appended before it, compacted ones included.
///
/// The first record of a log is at 0. Ranges are half-open: a log that holds records 3, 4 and 5 begins at 3 and ends at
/// 6, where the next record will be. A record that was refused, or that recovery cut off, leaves no gap: its position
/// is given to another.
///
/// # Examples
/// ```
/// use dpat_wal::Position;
///
/// let first = Position::ZERO;
/// assert_eq!(first.after(3), Position(3));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The place of the first record of a log.
    pub const ZERO: Self = Self(0);

    /// Returns the position so many records later.
    #[must_use]
    pub const fn after(self, records: u64) -> Self {
        Self(self.0.saturating_add(records))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
