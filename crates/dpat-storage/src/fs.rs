//! A storage on the file system of the machine.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FlockOperation;

use crate::error::{ErrorKind, Operation, StorageError};
use crate::path::{ROOT, check_dir_path, check_file_path};
use crate::storage::{
    Entry, FILE_BYTES_MAX, File, Kind, LIST_ENTRIES_MAX, Metadata, Storage, end_of,
    too_many_entries,
};

/// The lock's file. No valid name begins with a dot, so it is in nobody's way.
const LOCK_NAME: &str = ".lock";

/// A directory of the machine's file system as a storage (Unix).
///
/// Reads and writes are `pread` and `pwrite`; [`File::sync_data`] is `fdatasync` (`F_FULLFSYNC` on Apple systems);
/// [`Storage::sync_dir`] is `fsync` of the directory; the lock is `flock` on a file `.lock` that stays in the root. Clones
/// share the root and what a failed directory sync did to it.
///
/// The directory belongs to the storage: names in it that no [path](Storage#paths) can say are left out of
/// [`list`](Storage::list), symbolic links that somebody puts there are followed, and writers outside the family of clones
/// are kept away by the lock alone. `flock` reaches across machines only as far as the network file system lets it.
///
/// # Examples
/// ```
/// use dpat_storage::{File, FsStorage, ROOT, Storage};
///
/// # let folder = tempfile::tempdir().expect("a temporary folder");
/// # let root = folder.path().join("data");
/// let storage = FsStorage::open(root)?;
/// let _owner = storage.lock()?;
/// let mut log = storage.create("0001.log")?;
/// log.append(b"hello")?;
/// log.sync_data()?;
/// storage.sync_dir(ROOT)?; // from here on the file survives a power cut
/// # Ok::<(), dpat_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FsStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Set for ever once a directory sync has failed.
    names_unknown: AtomicBool,
}

/// A file of an [`FsStorage`].
#[derive(Debug)]
pub struct FsFile {
    file: std::fs::File,
    path: Box<str>,
    /// Set for ever once a sync has failed.
    unknown: bool,
}

/// The lock of an [`FsStorage`]. Dropping it, or the death of the process, releases it.
#[derive(Debug)]
pub struct FsLock {
    _file: std::fs::File,
}

impl FsStorage {
    /// Opens the storage in the directory `root`, creating it and those above it where they are missing.
    ///
    /// The names of the directories that it creates are synced, and so are the root itself and its name, in case an earlier
    /// process died between creating and syncing. A directory above that this process may not read is left to whoever
    /// made the root.
    ///
    /// # Errors
    /// What the operating system says, as [`Operation::CreateDir`] on [`ROOT`]; [`ErrorKind::SyncFailed`] also where the
    /// file system has no directory sync, because nothing would survive there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        // The working directory may change later.
        let root = std::path::absolute(root.into())
            .map_err(|error| StorageError::from_io(Operation::CreateDir, ROOT, error))?;
        make_root(&root)?;
        let storage = Self {
            shared: Arc::new(Shared {
                root,
                names_unknown: AtomicBool::new(false),
            }),
        };
        storage.sync_dir(ROOT)?;
        Ok(storage)
    }

    /// Returns the directory of the storage, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Checks a file's path and returns where it is.
    fn file(&self, operation: Operation, path: &str) -> Result<PathBuf, StorageError> {
        check_file_path(path)
            .map_err(|error| StorageError::new(operation, path, ErrorKind::InvalidPath(error)))?;
        self.place(operation, path)
    }

    /// Checks a directory's path and returns where it is.
    fn dir(&self, operation: Operation, path: &str) -> Result<PathBuf, StorageError> {
        check_dir_path(path)
            .map_err(|error| StorageError::new(operation, path, ErrorKind::InvalidPath(error)))?;
        self.place(operation, path)
    }

    fn place(&self, operation: Operation, path: &str) -> Result<PathBuf, StorageError> {
        if operation.changes_names() && self.shared.names_unknown.load(Ordering::Acquire) {
            let kind = ErrorKind::AfterFailedSync;
            return Err(StorageError::new(operation, path, kind));
        }
        Ok(self.shared.root.join(path))
    }
}

impl Storage for FsStorage {
    type File = FsFile;
    type Lock = FsLock;

    fn create(&self, path: &str) -> Result<FsFile, StorageError> {
        let place = self.file(Operation::Create, path)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(place)
            .map(|file| FsFile::new(file, path))
            .map_err(|error| StorageError::from_io(Operation::Create, path, error))
    }

    fn open(&self, path: &str) -> Result<FsFile, StorageError> {
        let place = self.file(Operation::Open, path)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(place)
            .map(|file| FsFile::new(file, path))
            .map_err(|error| StorageError::from_io(Operation::Open, path, error))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        let place = self.dir(Operation::Metadata, path)?;
        let found = std::fs::metadata(place)
            .map_err(|error| StorageError::from_io(Operation::Metadata, path, error))?;
        Ok(if found.is_dir() {
            Metadata {
                kind: Kind::Directory,
                len: 0,
            }
        } else {
            Metadata {
                kind: Kind::File,
                len: found.len(),
            }
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let place_from = self.file(Operation::Rename, from)?;
        let place_to = self.file(Operation::Rename, to)?;
        // `rename(2)` moves directories as well, and does not say which of its two paths is at fault.
        for (path, place, must_exist) in [(from, &place_from, true), (to, &place_to, false)] {
            match std::fs::metadata(place) {
                Ok(found) if found.is_dir() => {
                    return Err(StorageError::new(
                        Operation::Rename,
                        path,
                        ErrorKind::NotAFile,
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
                Err(error) => {
                    return Err(StorageError::from_io(Operation::Rename, path, error).not_done());
                }
            }
        }
        std::fs::rename(place_from, place_to)
            .map_err(|error| StorageError::from_io(Operation::Rename, to, error))
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let place = self.file(Operation::Remove, path)?;
        std::fs::remove_file(&place).map_err(|error| {
            // Linux says EISDIR, POSIX and macOS EPERM.
            if place.is_dir() {
                StorageError::new(Operation::Remove, path, ErrorKind::NotAFile)
            } else {
                StorageError::from_io(Operation::Remove, path, error)
            }
        })
    }

    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        let place = self.dir(Operation::CreateDir, path)?;
        match std::fs::create_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => Ok(()),
            made => made.map_err(|error| StorageError::from_io(Operation::CreateDir, path, error)),
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        let place = self.file(Operation::RemoveDir, path)?;
        std::fs::remove_dir(place).map_err(|error| match error.kind() {
            // POSIX allows EEXIST for a directory that is not empty.
            io::ErrorKind::AlreadyExists => {
                StorageError::new(Operation::RemoveDir, path, ErrorKind::NotEmpty)
            }
            _ => StorageError::from_io(Operation::RemoveDir, path, error),
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        let fail = |error| StorageError::from_io(Operation::List, path, error);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.dir(Operation::List, path)?).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let kind = match entry.file_type().map_err(fail)? {
                kind if kind.is_file() => Kind::File,
                kind if kind.is_dir() => Kind::Directory,
                _ => continue,
            };
            if check_file_path(&name).is_err() {
                continue;
            }
            if entries.len() == LIST_ENTRIES_MAX {
                return Err(too_many_entries(path));
            }
            entries.push(Entry { name, kind });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        let place = self.dir(Operation::SyncDir, path)?;
        let fail = |error| StorageError::from_io(Operation::SyncDir, path, error);
        // Up to here nothing was synced, and nothing is lost by a failure.
        let directory = std::fs::File::open(place).map_err(|error| fail(error).not_done())?;
        if !directory
            .metadata()
            .map_err(|error| fail(error).not_done())?
            .is_dir()
        {
            let kind = ErrorKind::NotADirectory;
            return Err(StorageError::new(Operation::SyncDir, path, kind));
        }
        directory.sync_all().map_err(|error| {
            self.shared.names_unknown.store(true, Ordering::Release);
            StorageError::sync_failed(Operation::SyncDir, path, error)
        })
    }

    fn lock(&self) -> Result<FsLock, StorageError> {
        let fail = |error| StorageError::from_io(Operation::Lock, ROOT, error);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.shared.root.join(LOCK_NAME))
            .map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(FsLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(StorageError::new(Operation::Lock, ROOT, ErrorKind::Locked))
            }
            Err(error) => Err(fail(error.into())),
        }
    }
}

impl FsFile {
    fn new(file: std::fs::File, path: &str) -> Self {
        Self {
            file,
            path: path.into(),
            unknown: false,
        }
    }

    /// Refuses once a sync has failed.
    fn usable(&self, operation: Operation) -> Result<(), StorageError> {
        if self.unknown {
            let kind = ErrorKind::AfterFailedSync;
            return Err(StorageError::new(operation, &self.path, kind));
        }
        Ok(())
    }

    fn fail(&self, operation: Operation) -> impl FnOnce(io::Error) -> StorageError + '_ {
        move |error| StorageError::from_io(operation, &self.path, error)
    }
}

impl File for FsFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.usable(Operation::ReadAt)?;
        if offset >= FILE_BYTES_MAX {
            return Ok(0); // the system call would refuse it as negative
        }
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(self.fail(Operation::ReadAt)),
            }
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        self.usable(Operation::WriteAt)?;
        end_of(Operation::WriteAt, &self.path, offset, data.len())?;
        self.file
            .write_all_at(data, offset)
            .map_err(self.fail(Operation::WriteAt))
    }

    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        self.usable(Operation::Append)?;
        // Not O_APPEND: Linux would then ignore the offset of every `pwrite` through this handle.
        let offset = self
            .file
            .metadata()
            .map_err(|error| self.fail(Operation::Append)(error).not_done())?
            .len();
        end_of(Operation::Append, &self.path, offset, data.len())?;
        self.file
            .write_all_at(data, offset)
            .map_err(self.fail(Operation::Append))?;
        Ok(offset)
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.usable(Operation::Truncate)?;
        end_of(Operation::Truncate, &self.path, len, 0)?;
        self.file
            .set_len(len)
            .map_err(self.fail(Operation::Truncate))
    }

    fn sync_data(&mut self) -> Result<(), StorageError> {
        self.usable(Operation::SyncData)?;
        let synced = self.file.sync_data();
        self.unknown = synced.is_err();
        synced.map_err(|error| StorageError::sync_failed(Operation::SyncData, &self.path, error))
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.usable(Operation::Len)?;
        let metadata = self.file.metadata().map_err(self.fail(Operation::Len))?;
        Ok(metadata.len())
    }
}

/// Creates the absolute path `root` and what is missing above, and syncs the name of each, and of the last that was there.
fn make_root(root: &Path) -> Result<(), StorageError> {
    let make = |error| StorageError::from_io(Operation::CreateDir, ROOT, error);
    let mut missing = Vec::new();
    let mut there = root;
    while !there.try_exists().map_err(make)? {
        missing.push(there);
        match there.parent() {
            Some(above) => there = above,
            None => break,
        }
    }
    if let Some(above) = there.parent() {
        match std::fs::File::open(above) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => sync_above_root(&opened.map_err(make)?)?,
        }
    }
    for directory in missing.into_iter().rev() {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            made => made.map_err(make)?,
        }
        if let Some(above) = directory.parent() {
            sync_above_root(&std::fs::File::open(above).map_err(make)?)?;
        }
    }
    Ok(())
}

fn sync_above_root(directory: &std::fs::File) -> Result<(), StorageError> {
    directory
        .sync_all()
        .map_err(|error| StorageError::sync_failed(Operation::SyncDir, ROOT, error))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use dpat_core::{Class, Classify, Effect};

    use super::*;

    fn device(path: &str) -> FsFile {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("Linux has this device");
        FsFile::new(file, "device")
    }

    /// The null device takes writes and has no sync: a failure of the real system call.
    #[test]
    fn a_failed_sync_finishes_the_file() {
        let mut file = device("/dev/null");
        file.write_at(0, b"taken").unwrap();
        let failed = file.sync_data().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::SyncFailed);
        assert_eq!(failed.effect(), Effect::Unknown);
        assert_eq!(failed.class(), Class::Permanent);
        let refused = [
            file.sync_data().unwrap_err(),
            file.write_at(0, b"x").unwrap_err(),
            file.append(b"x").unwrap_err(),
            file.truncate(0).unwrap_err(),
            file.read_at(0, &mut [0]).unwrap_err(),
            file.len().unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::AfterFailedSync, "{error}");
            assert_eq!(error.effect(), Effect::NotDone, "{error}");
        }
    }

    /// The full device refuses each write as a full disk does.
    #[test]
    fn a_write_to_a_full_disk_is_unknown() {
        let mut file = device("/dev/full");
        let error = file.write_at(0, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(error.effect(), Effect::Unknown);
        assert!(std::error::Error::source(&error).is_some());
    }

    /// Directories of procfs have no sync: a failure of the real system call.
    #[test]
    fn a_failed_directory_sync_stops_changes_of_names_in_all_clones() {
        let storage = FsStorage {
            shared: Arc::new(Shared {
                root: "/proc/self".into(),
                names_unknown: AtomicBool::new(false),
            }),
        };
        let clone = storage.clone();
        assert_eq!(
            storage.sync_dir("no-such-directory").unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(!storage.shared.names_unknown.load(Ordering::Acquire));
        let failed = storage.sync_dir("fdinfo").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::SyncFailed);
        assert_eq!(failed.effect(), Effect::Unknown);
        let refused = [
            clone.sync_dir("fdinfo").unwrap_err(),
            clone.create("a").unwrap_err(),
            clone.rename("a", "b").unwrap_err(),
            clone.remove("a").unwrap_err(),
            clone.create_dir("a").unwrap_err(),
            clone.remove_dir("a").unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::AfterFailedSync, "{error}");
            assert_eq!(error.effect(), Effect::NotDone, "{error}");
        }
        assert_eq!(clone.metadata("fdinfo").unwrap().kind, Kind::Directory);
    }

    #[test]
    fn a_file_system_without_directory_sync_is_refused_at_once() {
        let error = FsStorage::open("/proc/self/fdinfo").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SyncFailed, "{error}");
    }
}
