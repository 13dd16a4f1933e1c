//! What can go wrong, and what it left behind.

use std::{fmt, io};

use dpat_core::{Class, Classify, Effect};

use crate::path::{PATH_BYTES_MAX, PathError};

/// A method of [`Storage`](crate::Storage) or [`File`](crate::File).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Storage::create`](crate::Storage::create)
    Create,
    /// [`Storage::open`](crate::Storage::open)
    Open,
    /// [`Storage::metadata`](crate::Storage::metadata)
    Metadata,
    /// [`Storage::rename`](crate::Storage::rename)
    Rename,
    /// [`Storage::remove`](crate::Storage::remove)
    Remove,
    /// [`Storage::create_dir`](crate::Storage::create_dir)
    CreateDir,
    /// [`Storage::remove_dir`](crate::Storage::remove_dir)
    RemoveDir,
    /// [`Storage::list`](crate::Storage::list)
    List,
    /// [`Storage::sync_dir`](crate::Storage::sync_dir)
    SyncDir,
    /// [`Storage::lock`](crate::Storage::lock)
    Lock,
    /// [`File::read_at`](crate::File::read_at)
    ReadAt,
    /// [`File::write_at`](crate::File::write_at)
    WriteAt,
    /// [`File::append`](crate::File::append)
    Append,
    /// [`File::truncate`](crate::File::truncate)
    Truncate,
    /// [`File::sync_data`](crate::File::sync_data)
    SyncData,
    /// [`File::len`](crate::File::len)
    Len,
}

impl Operation {
    /// Says whether a failure in the middle may leave a change behind.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::Metadata | Self::List | Self::Lock | Self::ReadAt | Self::Len
        )
    }

    /// Says whether it changes or syncs names, and is refused after a failed [`SyncDir`](Self::SyncDir).
    #[must_use]
    pub const fn changes_names(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::Remove
                | Self::CreateDir
                | Self::RemoveDir
                | Self::SyncDir
        )
    }

    /// Returns the method's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Metadata => "metadata",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::CreateDir => "create_dir",
            Self::RemoveDir => "remove_dir",
            Self::List => "list",
            Self::SyncDir => "sync_dir",
            Self::Lock => "lock",
            Self::ReadAt => "read_at",
            Self::WriteAt => "write_at",
            Self::Append => "append",
            Self::Truncate => "truncate",
            Self::SyncData => "sync_data",
            Self::Len => "len",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path breaks a rule.
    InvalidPath(PathError),
    /// No such file or directory, or none above it.
    NotFound,
    /// The name is taken.
    Exists,
    /// A file is needed, and a directory is there.
    NotAFile,
    /// A directory is needed, and a file is there.
    NotADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// Somebody else holds the lock of this storage.
    Locked,
    /// A value is above its limit.
    Limit {
        /// What is too large: `end`, `entries`.
        field: &'static str,
        /// The largest value that passes.
        limit: u64,
    },
    /// No room is left: the disk, the quota, or the memory limit is used up.
    ///
    /// Its class is [`Class::Overloaded`]: it passes once somebody makes room.
    NoSpace,
    /// The file ended before the buffer was full.
    UnexpectedEnd,
    /// The sync failed: what it should have made durable is unknown for ever.
    SyncFailed,
    /// Refused, because an earlier sync failed; nothing was done.
    AfterFailedSync,
    /// The storage is gone: shut down, or its machine crashed.
    Closed,
    /// Any other failure of the medium; the source tells, and has the class.
    Io,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPath(error) => error.fmt(f),
            Self::Limit { field, limit } => write!(f, "{field}: above the limit of {limit}"),
            Self::NotFound => f.write_str("not found"),
            Self::Exists => f.write_str("exists already"),
            Self::NotAFile => f.write_str("is not a file"),
            Self::NotADirectory => f.write_str("is not a directory"),
            Self::NotEmpty => f.write_str("directory is not empty"),
            Self::Locked => f.write_str("locked by another owner"),
            Self::NoSpace => f.write_str("no space left"),
            Self::UnexpectedEnd => f.write_str("the file ended early"),
            Self::SyncFailed => f.write_str("sync failed, unsynced changes are unknown for ever"),
            Self::AfterFailedSync => f.write_str("refused, because an earlier sync failed"),
            Self::Closed => f.write_str("the storage is closed"),
            Self::Io => f.write_str("input/output error"),
        }
    }
}

/// A failed operation: which, on what, why, and whether it may have happened.
///
/// One type for all operations, because callers branch on [`kind`](Self::kind), [`Classify::class`] and
/// [`Classify::effect`], not on the method.
#[derive(Debug)]
pub struct StorageError {
    operation: Operation,
    path: String,
    kind: ErrorKind,
    effect: Effect,
    source: Option<io::Error>,
}

impl StorageError {
    /// Makes an error whose [`Effect`] follows from the operation and the kind.
    ///
    /// A refusal ([`NotFound`](ErrorKind::NotFound), [`InvalidPath`](ErrorKind::InvalidPath), …) did nothing.
    /// [`Io`](ErrorKind::Io), [`NoSpace`](ErrorKind::NoSpace), [`SyncFailed`](ErrorKind::SyncFailed) and
    /// [`Closed`](ErrorKind::Closed) leave a changing operation unknown. At most [`PATH_BYTES_MAX`] bytes of the path
    /// are kept.
    #[must_use]
    pub fn new(operation: Operation, path: &str, kind: ErrorKind) -> Self {
        let midway = matches!(
            kind,
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::SyncFailed | ErrorKind::Closed
        );
        let mut end = path.len().min(PATH_BYTES_MAX);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            operation,
            path: path[..end].to_owned(),
            kind,
            effect: if midway && operation.changes() {
                Effect::Unknown
            } else {
                Effect::NotDone
            },
            source: None,
        }
    }

    /// Makes an error from one of the operating system.
    ///
    /// Its kind is never [`SyncFailed`](ErrorKind::SyncFailed): see [`sync_failed`](Self::sync_failed).
    #[must_use]
    pub fn from_io(operation: Operation, path: &str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::IsADirectory => ErrorKind::NotAFile,
            io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
            io::ErrorKind::DirectoryNotEmpty => ErrorKind::NotEmpty,
            io::ErrorKind::UnexpectedEof => ErrorKind::UnexpectedEnd,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self {
            source: Some(source),
            ..Self::new(operation, path, kind)
        }
    }

    /// Makes the error of a sync that was tried and failed, whatever the reason.
    #[must_use]
    pub fn sync_failed(operation: Operation, path: &str, source: io::Error) -> Self {
        Self {
            source: Some(source),
            ..Self::new(operation, path, ErrorKind::SyncFailed)
        }
    }

    /// States that nothing was done, where the kind alone would leave it unknown.
    #[must_use]
    pub fn not_done(mut self) -> Self {
        self.effect = Effect::NotDone;
        self
    }

    /// Returns which operation failed.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns the path; of a rename, the one at fault.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped: the path may be one that was refused for its characters.
        write!(f, "{} {:?}: {}", self.operation, self.path, self.kind)
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match (&self.source, &self.kind) {
            (Some(source), _) => Some(source),
            (None, ErrorKind::InvalidPath(error)) => Some(error),
            (None, _) => None,
        }
    }
}

impl Classify for StorageError {
    fn class(&self) -> Class {
        match self.kind {
            ErrorKind::InvalidPath(_)
            | ErrorKind::NotFound
            | ErrorKind::NotAFile
            | ErrorKind::NotADirectory
            | ErrorKind::Limit { .. } => Class::InvalidInput,
            ErrorKind::Exists | ErrorKind::NotEmpty => Class::Conflict,
            ErrorKind::Locked | ErrorKind::Closed => Class::Unavailable,
            ErrorKind::NoSpace => Class::Overloaded,
            ErrorKind::UnexpectedEnd => Class::Corrupt,
            ErrorKind::SyncFailed | ErrorKind::AfterFailedSync => Class::Permanent,
            ErrorKind::Io => self
                .source
                .as_ref()
                .map_or(Class::Permanent, Classify::class),
        }
    }

    fn effect(&self) -> Effect {
        self.effect
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn refusals_did_nothing_and_failures_midway_are_unknown() {
        let effect = |operation, kind| StorageError::new(operation, "f", kind).effect();
        assert_eq!(
            effect(Operation::Create, ErrorKind::Exists),
            Effect::NotDone
        );
        assert_eq!(effect(Operation::Append, ErrorKind::Io), Effect::Unknown);
        assert_eq!(
            effect(Operation::WriteAt, ErrorKind::NoSpace),
            Effect::Unknown
        );
        assert_eq!(
            effect(Operation::SyncData, ErrorKind::SyncFailed),
            Effect::Unknown
        );
        assert_eq!(
            effect(Operation::SyncData, ErrorKind::AfterFailedSync),
            Effect::NotDone
        );
        assert_eq!(effect(Operation::ReadAt, ErrorKind::Io), Effect::NotDone);
        let full = StorageError::new(Operation::Append, "f", ErrorKind::NoSpace).not_done();
        assert!(full.is_safe_to_retry());
    }

    #[test]
    fn operating_system_errors_keep_their_meaning() {
        let table = [
            (
                Operation::Open,
                io::ErrorKind::NotFound,
                ErrorKind::NotFound,
                Class::InvalidInput,
            ),
            (
                Operation::Create,
                io::ErrorKind::AlreadyExists,
                ErrorKind::Exists,
                Class::Conflict,
            ),
            (
                Operation::Append,
                io::ErrorKind::StorageFull,
                ErrorKind::NoSpace,
                Class::Overloaded,
            ),
            (
                Operation::SyncDir,
                io::ErrorKind::NotFound,
                ErrorKind::NotFound,
                Class::InvalidInput,
            ),
            (
                Operation::ReadAt,
                io::ErrorKind::TimedOut,
                ErrorKind::Io,
                Class::Timeout,
            ),
            (
                Operation::ReadAt,
                io::ErrorKind::Other,
                ErrorKind::Io,
                Class::Permanent,
            ),
        ];
        for (operation, from, kind, class) in table {
            let error = StorageError::from_io(operation, "f", from.into());
            assert_eq!(
                (error.kind(), error.class()),
                (kind, class),
                "{operation} {from}"
            );
            assert!(error.source().is_some(), "{operation} {from}");
        }
        let full = io::ErrorKind::StorageFull.into();
        let failed = StorageError::sync_failed(Operation::SyncData, "f", full);
        assert_eq!(
            (failed.kind(), failed.class(), failed.effect()),
            (ErrorKind::SyncFailed, Class::Permanent, Effect::Unknown)
        );
    }

    #[test]
    fn a_hostile_path_is_kept_short_and_escaped() {
        let error = StorageError::new(
            Operation::Open,
            &"\u{e9}\n".repeat(1 << 16),
            ErrorKind::NotFound,
        );
        assert!(error.path().len() <= PATH_BYTES_MAX);
        assert!(!error.to_string().contains('\n'));
    }
}
