//! The port: what a storage does, and what survives.

use std::sync::Arc;

use crate::error::{ErrorKind, Operation, StorageError};

/// The largest offset at which a file may end, in bytes: what the operating systems' signed offsets can say.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// The most entries that one [`Storage::list`] returns; a larger directory is an error.
pub const LIST_ENTRIES_MAX: usize = 1 << 20;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// What [`Storage::metadata`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// File or directory.
    pub kind: Kind,
    /// The length in bytes; 0 for a directory.
    pub len: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The name alone, without the directory's path.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
}

/// A directory tree of files whose durability is spelled out.
///
/// Every method is synchronous and does one thing, so that a simulated disk sees each write, sync, rename and directory
/// sync as one call. What is promised beyond POSIX is promised by no method; what is less is said.
///
/// # Paths
/// Names joined by `/`, relative to the storage's own directory, which is [`ROOT`](crate::ROOT). A name is 1 to
/// [`NAME_BYTES_MAX`](crate::NAME_BYTES_MAX) bytes of `a`–`z`, `0`–`9`, `.`, `_`, `-`, and neither begins nor ends with a
/// dot; a path is at most [`PATH_BYTES_MAX`](crate::PATH_BYTES_MAX) bytes. So `..` and absolute paths cannot be said, and a
/// tree means the same on file systems that fold case. Anything else is refused with
/// [`ErrorKind::InvalidPath`] before it is looked at. Where several errors apply, the path's rules come first, then
/// `from` before `to`, then the outermost directory.
///
/// # What survives a power cut
/// - **Content** (bytes and length) survives what [`File::sync_data`] returned `Ok` for.
/// - **Names** survive by [`sync_dir`](Self::sync_dir) of the directory they are in, and so does the removal of a name. A
///   new directory needs the sync of the directory *above* it. A new file needs both: `sync_data` for its content,
///   `sync_dir` for its name.
/// - Whatever was not synced may survive or not, each change on its own, in any order between files and between a
///   file and its name. A write may survive in part, in any part.
/// - **Bounds of that**: after a cut, each byte of a file has a value that it had at or after the last sync (a byte that
///   was beyond the end at some time since may also be zero), and the length is between the smallest and the largest since
///   then. In particular a write never harms synced bytes outside its range ("powersafe overwrite",
///   <https://sqlite.org/psow.html>). A name stands for something that it stood for at or after the last sync of its
///   directory.
/// - Disks also break these bounds (a rotten sector). Whoever stores something keeps a checksum with it.
///
/// A crash of the process alone loses nothing that a method returned `Ok` for.
///
/// # Handles and threads
/// Files are shared by all handles and by all clones of a storage: a change is seen by every later read. Changes of
/// overlapping ranges through several handles at once happen in some order; nothing else is promised about writers that
/// race, so have one writer for each file. A file is `Send`, and need not be `Sync`: open it once for each thread.
/// `&S` and `Arc<S>` are storages as `S` is.
///
/// # Errors
/// [`StorageError`] of every method says by its [`Effect`](dpat_core::Effect) whether the change surely did not happen.
/// After `Effect::Unknown` any part of it may have, now or after a power cut.
///
/// # Examples
/// ```
/// use dpat_storage::{File, MemStorage, ROOT, Storage, StorageError};
///
/// /// Replaces a small file so that a crash leaves the old or the new content, never a mixture.
/// fn replace(storage: &impl Storage, path: &str, content: &[u8]) -> Result<(), StorageError> {
///     let mut file = storage.create("replace.tmp")?;
///     file.append(content)?;
///     file.sync_data()?;
///     storage.rename("replace.tmp", path)?;
///     storage.sync_dir(ROOT)
/// }
///
/// let storage = MemStorage::new();
/// replace(&storage, "epoch", b"1")?;
/// replace(&storage, "epoch", b"2")?;
/// assert_eq!(storage.metadata("epoch")?.len, 1);
/// # Ok::<(), StorageError>(())
/// ```
pub trait Storage: Send + Sync {
    /// A handle on an open file.
    type File: File + 'static;
    /// The exclusive lock of the storage. Dropping it releases the lock.
    type Lock: Send + 'static;

    /// Creates an empty file and opens it for reading and writing.
    ///
    /// The name survives after [`sync_dir`](Self::sync_dir) of its directory.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if the name is taken; [`ErrorKind::NotFound`] or [`ErrorKind::NotADirectory`] for the
    /// directories above.
    fn create(&self, path: &str) -> Result<Self::File, StorageError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`], [`ErrorKind::NotAFile`].
    fn open(&self, path: &str) -> Result<Self::File, StorageError>;

    /// Tells kind and length.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`].
    fn metadata(&self, path: &str) -> Result<Metadata, StorageError>;

    /// Gives a file another name, replacing the file that had it.
    ///
    /// Handles stay on their files: those of `from` follow to `to`, those of the replaced file keep the nameless file.
    /// A name renamed to itself stays as it is.
    ///
    /// The change survives after [`sync_dir`](Self::sync_dir) of both directories (one call if they are the same; the
    /// directory of `to` first if not). Before that a power cut may leave `from`, `to` or both; the file itself has at
    /// least one of them if its name was synced, and `to` never stands for nothing if it stood for something.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for `from` and for the directories above either, [`ErrorKind::NotAFile`] if either is a
    /// directory, [`ErrorKind::NotADirectory`].
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;

    /// Removes the name of a file.
    ///
    /// Open handles keep the nameless file until they are dropped. The removal survives after
    /// [`sync_dir`](Self::sync_dir) of the directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`], [`ErrorKind::NotAFile`].
    fn remove(&self, path: &str) -> Result<(), StorageError>;

    /// Creates a directory, or finds that it is there already.
    ///
    /// The directory above must exist, and its [`sync_dir`](Self::sync_dir) makes the new one survive; after an earlier
    /// crash that is needed even if the directory was found.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if a file has the name; [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`].
    fn create_dir(&self, path: &str) -> Result<(), StorageError>;

    /// Removes an empty directory.
    ///
    /// The removal survives after [`sync_dir`](Self::sync_dir) of the directory above. The root cannot be removed.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`], [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`].
    fn remove_dir(&self, path: &str) -> Result<(), StorageError>;

    /// Lists the files and directories directly in a directory, sorted by name.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] above [`LIST_ENTRIES_MAX`] entries; [`ErrorKind::NotFound`],
    /// [`ErrorKind::NotADirectory`].
    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError>;

    /// Makes every earlier change of names in this directory survive.
    ///
    /// It covers what was created in it, renamed into or out of it and removed from it; neither the content of files nor
    /// the names in directories below, nor the directory's own name.
    ///
    /// # Errors
    /// [`ErrorKind::SyncFailed`]: the unsynced names are unknown for ever. From then on this storage, its clones
    /// included, refuses every operation that [changes names](Operation::changes_names) with
    /// [`ErrorKind::AfterFailedSync`], since a later success would say nothing about them. Open it anew to see what is
    /// there. [`ErrorKind::NotFound`], [`ErrorKind::NotADirectory`] sync nothing and have no such effect.
    fn sync_dir(&self, path: &str) -> Result<(), StorageError>;

    /// Takes the exclusive lock of the whole storage, without waiting.
    ///
    /// Advisory: no other method asks for it. It is released when the guard is dropped and when the process or the
    /// machine dies, however that happens.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while any other guard lives, in this process or another.
    fn lock(&self) -> Result<Self::Lock, StorageError>;
}

/// An open file. Closing is dropping, and syncs nothing.
///
/// After a failed [`sync_data`](Self::sync_data) every method of the handle is refused with
/// [`ErrorKind::AfterFailedSync`]. The operating system may have marked the unwritten pages as clean, so that a second sync
/// would succeed and mean nothing, and a read would return bytes that are on no disk (Rebello et al., "Can Applications
/// Recover from fsync Failures?", USENIX ATC 2020). Opening the file again gives a usable handle with the same doubt:
/// write what matters into a *new* file from memory, or stop.
pub trait File: Send {
    /// Returns the path by which it was created or opened, whatever it is called now.
    fn path(&self) -> &str;

    /// Reads some bytes from `offset` on and returns how many.
    ///
    /// May return fewer than asked for anywhere; returns 0 only at or after the end of the file, or for an empty buffer.
    /// Bytes of a hole read as zero.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::AfterFailedSync`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;

    /// Writes all of `data` at `offset`.
    ///
    /// Beyond the end it leaves a hole of zeros and makes the file longer; of empty data it does nothing. Not atomic: a
    /// failure or a crash may leave any part of it.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if it would end above [`FILE_BYTES_MAX`]; [`ErrorKind::NoSpace`], [`ErrorKind::Io`],
    /// [`ErrorKind::AfterFailedSync`].
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError>;

    /// Writes all of `data` at the present end and returns the offset where it begins.
    ///
    /// The same as [`write_at`](Self::write_at) of [`len`](Self::len), with no promise against a second writer. A writer
    /// that counts its own bytes saves the question by calling `write_at`.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at). After `Effect::Unknown` the end is unknown too: ask [`len`](Self::len), and
    /// [`truncate`](Self::truncate).
    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError>;

    /// Sets the length: cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] above [`FILE_BYTES_MAX`]; [`ErrorKind::NoSpace`], [`ErrorKind::Io`],
    /// [`ErrorKind::AfterFailedSync`].
    fn truncate(&mut self, len: u64) -> Result<(), StorageError>;

    /// Makes the file's content and length survive a power cut.
    ///
    /// It covers every change that returned before the call, through whichever handle; not the file's name, which needs
    /// [`Storage::sync_dir`].
    ///
    /// # Errors
    /// [`ErrorKind::SyncFailed`]: each unsynced change survives or not, for ever unknown, and the handle is finished.
    /// [`ErrorKind::AfterFailedSync`] from then on.
    fn sync_data(&mut self) -> Result<(), StorageError>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::AfterFailedSync`].
    fn len(&self) -> Result<u64, StorageError>;

    /// Says whether the length is 0.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.len()? == 0)
    }

    /// Fills the whole buffer from `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEnd`] if the file ends before, with the beginning of the buffer overwritten; otherwise as
    /// [`read_at`](Self::read_at).
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset.saturating_add(filled as u64), rest)? {
                0 => {
                    return Err(StorageError::new(
                        Operation::ReadAt,
                        self.path(),
                        ErrorKind::UnexpectedEnd,
                    ));
                }
                read => filled += read,
            }
        }
        Ok(())
    }
}

/// Returns where `data` would end, or the error that refuses it.
pub(crate) fn end_of(
    operation: Operation,
    path: &str,
    offset: u64,
    data_len: usize,
) -> Result<u64, StorageError> {
    offset
        .checked_add(data_len as u64)
        .filter(|end| *end <= FILE_BYTES_MAX)
        .ok_or_else(|| {
            let kind = ErrorKind::Limit {
                field: "end",
                limit: FILE_BYTES_MAX,
            };
            StorageError::new(operation, path, kind)
        })
}

/// The error of a directory that is too large to list.
pub(crate) fn too_many_entries(path: &str) -> StorageError {
    let kind = ErrorKind::Limit {
        field: "entries",
        limit: LIST_ENTRIES_MAX as u64,
    };
    StorageError::new(Operation::List, path, kind)
}

macro_rules! forward_storage {
    ($($pointer:ty),*) => {$(
        impl<S: Storage + ?Sized> Storage for $pointer {
            type File = S::File;
            type Lock = S::Lock;
            fn create(&self, path: &str) -> Result<Self::File, StorageError> {
                (**self).create(path)
            }
            fn open(&self, path: &str) -> Result<Self::File, StorageError> {
                (**self).open(path)
            }
            fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
                (**self).metadata(path)
            }
            fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
                (**self).rename(from, to)
            }
            fn remove(&self, path: &str) -> Result<(), StorageError> {
                (**self).remove(path)
            }
            fn create_dir(&self, path: &str) -> Result<(), StorageError> {
                (**self).create_dir(path)
            }
            fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
                (**self).remove_dir(path)
            }
            fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
                (**self).list(path)
            }
            fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
                (**self).sync_dir(path)
            }
            fn lock(&self) -> Result<Self::Lock, StorageError> {
                (**self).lock()
            }
        }
    )*};
}

forward_storage!(&S, Arc<S>);

impl<F: File + ?Sized> File for Box<F> {
    fn path(&self) -> &str {
        (**self).path()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        (**self).read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        (**self).write_at(offset, data)
    }
    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        (**self).append(data)
    }
    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        (**self).truncate(len)
    }
    fn sync_data(&mut self) -> Result<(), StorageError> {
        (**self).sync_data()
    }
    fn len(&self) -> Result<u64, StorageError> {
        (**self).len()
    }
    fn is_empty(&self) -> Result<bool, StorageError> {
        (**self).is_empty()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        (**self).read_exact_at(offset, buffer)
    }
}
