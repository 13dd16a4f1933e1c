//! One small type for each operation that can fail.

use std::sync::Arc;

use dpat_core::{Class, Classify, Effect};
use dpat_storage::{PathError, StorageError};

use crate::position::Position;

/// Says why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is outside of its range.
    #[error("{field}: {given} is not between {min} and {max}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// What was asked for.
        given: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// The directory is no path of a storage.
    #[error("directory: {0}")]
    Directory(PathError),
}

/// Where stored bytes are not what was written, and why they cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} at byte {offset}, position {position}: {kind}")]
pub struct Corruption {
    /// The file.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// The first record that cannot be read.
    pub position: Position,
    /// What is wrong.
    pub kind: CorruptionKind,
}

/// What is wrong with stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptionKind {
    /// The head of a file fails its checksum, and something was stored behind it.
    #[error("the head of the file is damaged")]
    Head,
    /// A frame fails its checksum, or is missing, and was durable.
    #[error("a record that was durable is damaged or missing")]
    Frame,
    /// A file of the sequence is not there.
    #[error("the segment before is missing")]
    Gap,
    /// The newest segments are not there: the last that is says that another one follows.
    #[error("the segment after is missing")]
    Cut,
    /// The file names one position, its content another.
    #[error("the file has the content of another")]
    Misplaced,
    /// A version that this crate does not read.
    #[error("version {0} is not known")]
    Version(u32),
}

/// Says why a log was not opened. Nothing that was acknowledged has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The storage failed, or its lock is taken.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Something that was durable is damaged or missing. Nothing was cut off.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Says why records were not appended, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A record or batch is above its limit.
    #[error("{field}: {given} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large: `record`, `batch`.
        field: &'static str,
        /// Its bytes.
        given: u64,
        /// The limit.
        limit: u64,
    },
    /// A batch holds no records.
    #[error("batch: holds no records")]
    Empty,
    /// No room is left, and the caller does not wait; or too many wait.
    #[error("{field}: the limit of {limit} is reached")]
    Full {
        /// What is used up: `pending_bytes_max`, `waiters_max`.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The storage refused the write, and nothing of it is left; the log goes on.
    #[error("not written: {0}")]
    Refused(#[source] Arc<StorageError>),
    /// The storage failed while the records were under way: they may be there after the log is opened again.
    #[error("in doubt: {0}")]
    InDoubt(#[source] Arc<StorageError>),
    /// The storage had failed before; the log must be opened again.
    #[error("the log has failed: {0}")]
    Failed(#[source] Arc<StorageError>),
    /// The log was closed before.
    #[error("the log is closed")]
    Closed,
    /// The answer was asked for too late: it is no longer known.
    #[error("the answer is no longer known")]
    Forgotten,
}

impl Classify for AppendError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::Empty => Class::InvalidInput,
            Self::Full { .. } => Class::Overloaded,
            Self::Refused(source) => source.class(),
            Self::InDoubt(_) | Self::Failed(_) | Self::Forgotten => Class::Permanent,
            Self::Closed => Class::Unavailable,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::InDoubt(_) | Self::Forgotten => Effect::Unknown,
            _ => Effect::NotDone,
        }
    }
}

/// Says why records were not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stored bytes are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The position was compacted away.
    #[error("position {position} is compacted, the log begins at {first}")]
    Compacted {
        /// What was asked for.
        position: Position,
        /// The first record that is left.
        first: Position,
    },
    /// Too many callers wait.
    #[error("waiters_max: the limit of {limit} is reached")]
    TooManyWaiters {
        /// The limit.
        limit: u64,
    },
}

impl Classify for ReadError {
    fn class(&self) -> Class {
        match self {
            Self::Storage(error) => error.class(),
            Self::Corrupt(_) => Class::Corrupt,
            Self::Compacted { .. } => Class::InvalidInput,
            Self::TooManyWaiters { .. } => Class::Overloaded,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// Says why segments were not removed, or a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintainError {
    /// The storage failed. The log itself is as it was: at worst some segments or snapshots are left that could go.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A position is asked for that is not durable yet.
    #[error("position {position} is beyond the durable end {durable}")]
    NotDurable {
        /// What was asked for.
        position: Position,
        /// The end.
        durable: Position,
    },
    /// The log has failed, and must be opened again.
    #[error("the log has failed: {0}")]
    Failed(#[source] Arc<StorageError>),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// Another call of the kind is under way.
    #[error("another {what} is under way")]
    Busy {
        /// Which kind: `compaction`, `snapshot`.
        what: &'static str,
    },
}

impl Classify for MaintainError {
    fn class(&self) -> Class {
        match self {
            Self::Storage(error) => error.class(),
            Self::NotDurable { .. } => Class::InvalidInput,
            Self::Failed(_) => Class::Permanent,
            Self::Closed => Class::Unavailable,
            Self::Busy { .. } => Class::Overloaded,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Storage(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Storage(error) => error.class(),
            Self::Corrupt(_) => Class::Corrupt,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Storage(error) => error.effect(),
            Self::Corrupt(_) => Effect::NotDone,
        }
    }
}
