//! The handles: the disk itself, its files and its lock.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use dpat_model::Fault;
use dpat_storage::{
    Entry, ErrorKind, FILE_BYTES_MAX, File, Kind, LIST_ENTRIES_MAX, Metadata, Operation, PathError,
    ROOT, Storage, StorageError, check_dir_path, check_file_path,
};

use dpat_core::Entropy;

use super::fault::{Flip, Image, Odds, Strike, draws};
use super::names::Node;
use super::state::{Disk, Part, Step, Verdict};
use super::sync::Mutex;

type Shared = Arc<Mutex<Disk>>;

/// The most reads in a row that come whole; every so many is short, as the trait allows.
const WHOLE_READS: u64 = 3;

/// A simulated disk, as one life of its machine sees it.
///
/// Clones share it. A [`crash`](Self::crash) ends the life: what was opened before is [`ErrorKind::Closed`], and the
/// disk that is returned is the one to go on with. Everything is drawn from the seed: the same calls on a disk of the
/// same seed leave the same image.
///
/// Loses what the contract of `dpat_storage::Storage` lets a disk lose, and no more. Unsynced writes are lost, torn and
/// reordered; names come and go until their directory is synced, and a name in a new directory needs the sync of the
/// one above; a renamed file may be left under both names (as two files of the same content). Syncs succeed unless told otherwise.
///
/// # Examples
/// ```
/// use dpat_sim::disk::{Odds, SimDisk};
/// use dpat_storage::{File, ROOT, Storage};
///
/// let disk = SimDisk::new(7);
/// disk.set_odds(Odds::NONE);
/// let mut file = disk.create("log")?;
/// file.append(b"one")?;
/// file.sync_data()?;
/// disk.sync_dir(ROOT)?;
/// file.append(b"two")?;
///
/// let disk = disk.crash();
/// assert_eq!(disk.metadata("log")?.len, 3);
/// # Ok::<(), dpat_storage::StorageError>(())
/// ```
///
/// # Complexity
/// A call is O(log files) and the bytes it copies. A file is kept twice, as read and as on the medium.
#[derive(Clone)]
pub struct SimDisk {
    shared: Shared,
    life: u64,
}

/// A file of a [`SimDisk`].
pub struct SimFile {
    shared: Shared,
    life: u64,
    file: u64,
    path: Box<str>,
    after_failed_sync: bool,
}

/// The lock of a [`SimDisk`].
pub struct SimLock {
    shared: Shared,
    number: u64,
}

impl SimDisk {
    /// 256 MiB.
    pub const DEFAULT_BYTES_MAX: u64 = 256 << 20;

    /// Makes an empty disk of [`DEFAULT_BYTES_MAX`](Self::DEFAULT_BYTES_MAX) and [`Odds::MIXED`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_bytes_max(seed, Self::DEFAULT_BYTES_MAX)
    }

    /// Makes an empty disk that is full at `bytes_max`: the lengths of its files, and 64 for each name.
    #[must_use]
    pub fn with_bytes_max(seed: u64, bytes_max: u64) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Disk::new(seed, bytes_max))),
            life: 0,
        }
    }

    /// Copies the whole disk, down or not; nothing is shared with the copy.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            shared: Arc::new(Mutex::new(self.shared.lock().clone())),
            life: self.life,
        }
    }

    /// Cuts the power and starts again. The odds and the seed choose what of the unsynced changes survives.
    ///
    /// Handles and locks from before end with [`ErrorKind::Closed`]. Strikes that were ordered are forgotten, a full
    /// disk stays full, failing stays as likely.
    #[must_use = "the old handle is closed"]
    pub fn crash(&self) -> Self {
        let life = self.shared.lock().life;
        self.crash_to(Image::Drawn(life))
    }

    /// Cuts the power and starts again with the given image.
    #[must_use = "the old handle is closed"]
    pub fn crash_to(&self, image: Image) -> Self {
        self.next_life(Some(image))
    }

    /// Kills the process and starts again: all that was written survives, synced or not.
    #[must_use = "the old handle is closed"]
    pub fn kill(&self) -> Self {
        self.next_life(None)
    }

    /// Starts again after whatever a [`Strike`] did: a power cut with the given image, or a kill.
    #[must_use = "the old handle is closed"]
    pub fn restart(&self, image: Image) -> Self {
        let down = self.down_by();
        self.next_life((down == Some(Strike::Crash)).then_some(image))
    }

    fn next_life(&self, image: Option<Image>) -> Self {
        let mut disk = self.shared.lock();
        disk.restart(image);
        Self {
            shared: Arc::clone(&self.shared),
            life: disk.life,
        }
    }

    /// Returns what took the disk down, if it is.
    #[must_use]
    pub fn down_by(&self) -> Option<Strike> {
        self.shared.lock().down
    }

    /// Returns how many operations with good arguments were asked for, in all lives.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }

    /// Starts to remember the operations.
    pub fn record_steps(&self) {
        self.shared.lock().steps = Some(Vec::new());
    }

    /// Returns the operations since they are remembered, and forgets them.
    #[must_use]
    pub fn take_steps(&self) -> Vec<Step> {
        let mut disk = self.shared.lock();
        disk.steps.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Strikes at the operation of this number, the first being 0.
    pub fn strike_at(&self, operation: u64, strike: Strike) {
        self.shared.lock().strikes.insert(operation, strike);
    }

    /// Makes the next call of `operation` with good arguments fail.
    pub fn fail_next(&self, operation: Operation) {
        self.shared.lock().fail_next = Some(operation);
    }

    /// Sets what a crash leaves.
    pub fn set_odds(&self, odds: Odds) {
        self.shared.lock().odds = odds;
    }

    /// Sets how many of a million changing operations and syncs fail; none at first.
    pub fn set_errors(&self, per_million: u32) {
        self.shared.lock().errors_per_million = per_million;
    }

    /// Sets whether the disk is full: whatever needs room is refused with [`ErrorKind::NoSpace`], and nothing is done.
    pub fn set_full(&self, full: bool) {
        self.shared.lock().is_full = full;
    }

    /// Flips a bit in each of so many sectors that are on the medium, and tells which.
    #[allow(clippy::must_use_candidate)] // what was flipped matters to few
    pub fn corrupt(&self, sectors: u64) -> Vec<Flip> {
        self.shared.lock().corrupt(sectors)
    }

    /// Flips bits of one byte on the medium. Nothing happens where there is none.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn flip(&self, path: &str, offset: u64, mask: u8) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::Open, path, kind);
        let mut disk = self.begin(Operation::Open, path)?;
        let file = disk.names.file(path).map_err(fail)?;
        if let Ok(offset) = usize::try_from(offset) {
            disk.inode(file).content.flip(offset, mask);
        }
        Ok(())
    }

    /// Does what a fault of a script says. Returns false for a fault that is not about disks.
    ///
    /// The node and the duration are the caller's business: see [`undo`](Self::undo).
    #[allow(clippy::must_use_candidate)] // a caller may know that it is one
    pub fn apply(&self, fault: &Fault) -> bool {
        self.shared.lock().apply(fault)
    }

    /// Takes a fault of a script back: its rate is 0 again, the disk not full.
    #[allow(clippy::must_use_candidate)] // as above
    pub fn undo(&self, fault: &Fault) -> bool {
        self.shared.lock().undo(fault)
    }

    fn begin(
        &self,
        operation: Operation,
        path: &str,
    ) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let disk = self.shared.lock();
        disk.check_alive(self.life, operation, path)?;
        Ok(disk)
    }

    fn handle(&self, file: u64, path: &str) -> SimFile {
        SimFile {
            shared: Arc::clone(&self.shared),
            life: self.life,
            file,
            path: path.into(),
            after_failed_sync: false,
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.shared.lock();
        f.debug_struct("SimDisk")
            .field("seed", &disk.seed)
            .field("life", &self.life)
            .field("operations", &disk.operations)
            .field("down", &disk.down)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("path", &self.path)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").finish_non_exhaustive()
    }
}

/// Refuses a path before anything is looked at.
fn checked(path: &str, check: fn(&str) -> Result<(), PathError>) -> Result<(), ErrorKind> {
    check(path).map_err(ErrorKind::InvalidPath)
}

/// Counts a changing call; if it is struck, does it or not, and fails.
///
/// A change of names is done whole or not at all.
fn change_names(
    disk: &mut Disk,
    operation: Operation,
    path: &str,
    change: impl FnOnce(&mut Disk),
) -> Result<(), StorageError> {
    match disk.reach(operation, path) {
        Verdict::Go => {
            change(disk);
            Ok(())
        }
        Verdict::Struck(part, error) => {
            if part.is_most() {
                change(disk);
            }
            Err(error)
        }
    }
}

impl Storage for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &str) -> Result<SimFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Create, path, kind).not_done();
        let mut disk = self.begin(Operation::Create, path)?;
        checked(path, check_file_path).map_err(fail)?;
        if disk.names.resolve(path).map_err(fail)?.is_some() {
            return Err(fail(ErrorKind::Exists));
        }
        let name = disk.names.name(path).map_err(fail)?;
        let verdict = disk.reach(Operation::Create, path);
        disk.charge_name().map_err(fail)?;
        let make = |disk: &mut Disk| {
            let file = disk.create_file();
            disk.names.add(name, Node::File(file));
            file
        };
        match verdict {
            Verdict::Go => {
                let file = make(&mut disk);
                disk.inode(file).handles += 1;
                Ok(self.handle(file, path))
            }
            Verdict::Struck(part, error) => {
                if part.is_most() {
                    make(&mut disk);
                }
                Err(error)
            }
        }
    }

    fn open(&self, path: &str) -> Result<SimFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Open, path, kind);
        let mut disk = self.begin(Operation::Open, path)?;
        checked(path, check_file_path).map_err(fail)?;
        let file = disk.names.file(path).map_err(fail)?;
        disk.reach(Operation::Open, path).or_fail()?;
        disk.inode(file).handles += 1;
        Ok(self.handle(file, path))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        let fail = |kind| StorageError::new(Operation::Metadata, path, kind);
        let mut disk = self.begin(Operation::Metadata, path)?;
        checked(path, check_dir_path).map_err(fail)?;
        let node = disk.names.resolve(path).map_err(fail)?;
        let node = node.ok_or_else(|| fail(ErrorKind::NotFound))?;
        disk.reach(Operation::Metadata, path).or_fail()?;
        Ok(match node {
            Node::Directory(_) => Metadata {
                kind: Kind::Directory,
                len: 0,
            },
            Node::File(file) => Metadata {
                kind: Kind::File,
                len: disk.inode(file).content.now().len() as u64,
            },
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let fail_from = |kind| StorageError::new(Operation::Rename, from, kind).not_done();
        let fail_to = |kind| StorageError::new(Operation::Rename, to, kind).not_done();
        let mut disk = self.begin(Operation::Rename, from)?;
        checked(from, check_file_path).map_err(fail_from)?;
        checked(to, check_file_path).map_err(fail_to)?;
        let file = disk.names.file(from).map_err(fail_from)?;
        if let Some(Node::Directory(_)) = disk.names.resolve(to).map_err(fail_to)? {
            return Err(fail_to(ErrorKind::NotAFile));
        }
        let old = disk.names.name(from).map_err(fail_from)?;
        let new = disk.names.name(to).map_err(fail_to)?;
        change_names(&mut disk, Operation::Rename, from, |disk| {
            if old != new {
                disk.names.rename(old, new, Node::File(file));
                disk.collect();
            }
        })
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::Remove, path, kind).not_done();
        let mut disk = self.begin(Operation::Remove, path)?;
        checked(path, check_file_path).map_err(fail)?;
        disk.names.file(path).map_err(fail)?;
        let name = disk.names.name(path).map_err(fail)?;
        change_names(&mut disk, Operation::Remove, path, |disk| {
            disk.names.remove(name);
            disk.collect();
        })
    }

    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::CreateDir, path, kind).not_done();
        let mut disk = self.begin(Operation::CreateDir, path)?;
        checked(path, check_dir_path).map_err(fail)?;
        match disk.names.resolve(path).map_err(fail)? {
            Some(Node::Directory(_)) => return disk.reach(Operation::CreateDir, path).or_fail(),
            Some(Node::File(_)) => return Err(fail(ErrorKind::Exists)),
            None => {}
        }
        let name = disk.names.name(path).map_err(fail)?;
        let verdict = disk.reach(Operation::CreateDir, path);
        disk.charge_name().map_err(fail)?;
        match verdict {
            Verdict::Go => {
                disk.names.add_directory(name);
                Ok(())
            }
            Verdict::Struck(part, error) => {
                if part.is_most() {
                    disk.names.add_directory(name);
                }
                Err(error)
            }
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::RemoveDir, path, kind).not_done();
        let mut disk = self.begin(Operation::RemoveDir, path)?;
        checked(path, check_file_path).map_err(fail)?;
        let directory = disk.names.directory(path).map_err(fail)?;
        if !disk.names.is_empty(directory) {
            return Err(fail(ErrorKind::NotEmpty));
        }
        let name = disk.names.name(path).map_err(fail)?;
        change_names(&mut disk, Operation::RemoveDir, path, |disk| {
            disk.names.remove(name);
            disk.collect();
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        let fail = |kind| StorageError::new(Operation::List, path, kind);
        let mut disk = self.begin(Operation::List, path)?;
        checked(path, check_dir_path).map_err(fail)?;
        let directory = disk.names.directory(path).map_err(fail)?;
        disk.reach(Operation::List, path).or_fail()?;
        let entries: Vec<Entry> = disk.names.entries(directory).collect();
        if entries.len() > LIST_ENTRIES_MAX {
            return Err(fail(ErrorKind::Limit {
                field: "entries",
                limit: LIST_ENTRIES_MAX as u64,
            }));
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::SyncDir, path, kind);
        let mut disk = self.begin(Operation::SyncDir, path)?;
        checked(path, check_dir_path).map_err(fail)?;
        let directory = disk.names.directory(path).map_err(fail)?;
        match disk.reach(Operation::SyncDir, path) {
            Verdict::Go => {
                disk.names.sync(directory);
                disk.collect();
                Ok(())
            }
            Verdict::Struck(_, error) => {
                if error.kind() == ErrorKind::SyncFailed {
                    disk.sync_dir_in_doubt();
                }
                Err(error)
            }
        }
    }

    fn lock(&self) -> Result<SimLock, StorageError> {
        let mut disk = self.begin(Operation::Lock, ROOT)?;
        disk.reach(Operation::Lock, ROOT).or_fail()?;
        if disk.lock.is_some() {
            return Err(StorageError::new(Operation::Lock, ROOT, ErrorKind::Locked));
        }
        disk.locks_made += 1;
        let number = disk.locks_made;
        disk.lock = Some(number);
        Ok(SimLock {
            shared: Arc::clone(&self.shared),
            number,
        })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.shared.lock();
        if disk.lock == Some(self.number) {
            disk.lock = None;
        }
    }
}

impl Verdict {
    /// For calls that change nothing.
    fn or_fail(self) -> Result<(), StorageError> {
        match self {
            Self::Go => Ok(()),
            Self::Struck(_, error) => Err(error),
        }
    }
}

impl SimFile {
    fn begin(&self, operation: Operation) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let disk = self.shared.lock();
        disk.check_alive(self.life, operation, &self.path)?;
        if self.after_failed_sync {
            let kind = ErrorKind::AfterFailedSync;
            return Err(StorageError::new(operation, &self.path, kind));
        }
        Ok(disk)
    }

    fn end(&self, operation: Operation, offset: u64, len: usize) -> Result<u64, StorageError> {
        let end = offset.checked_add(len as u64);
        end.filter(|end| *end <= FILE_BYTES_MAX).ok_or_else(|| {
            let kind = ErrorKind::Limit {
                field: "end",
                limit: FILE_BYTES_MAX,
            };
            StorageError::new(operation, &self.path, kind)
        })
    }

    /// Writes at `offset`, whose end is known to be below the limit of files.
    fn put(
        &self,
        disk: &mut Disk,
        operation: Operation,
        offset: u64,
        data: &[u8],
    ) -> Result<(), StorageError> {
        let verdict = disk.reach(operation, &self.path);
        if data.is_empty() {
            return verdict.or_fail();
        }
        let no_space = |kind| StorageError::new(operation, &self.path, kind).not_done();
        let (part, result) = match verdict {
            Verdict::Go => (Part::All, Ok(())),
            Verdict::Struck(part, error) => (part, Err(error)),
        };
        let data = &data[..part.of(data.len())];
        if !data.is_empty() {
            let end = offset + data.len() as u64;
            disk.charge_end(self.file, end).map_err(no_space)?;
            let offset = usize::try_from(offset).map_err(|_| no_space(ErrorKind::NoSpace))?;
            disk.inode(self.file).content.write(offset, data);
        }
        result
    }
}

impl File for SimFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut disk = self.begin(Operation::ReadAt)?;
        disk.reach(Operation::ReadAt, &self.path).or_fail()?;
        let whole = draws(disk.seed, "read", disk.operations).below(WHOLE_READS + 1) > 0;
        let bytes = disk.inode(self.file).content.now();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        let most = rest.len().min(buffer.len());
        let read = if whole { most } else { most.div_ceil(2) };
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::WriteAt)?;
        self.end(Operation::WriteAt, offset, data.len())?;
        self.put(&mut disk, Operation::WriteAt, offset, data)
    }

    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        let mut disk = self.begin(Operation::Append)?;
        let offset = disk.inode(self.file).content.now().len() as u64;
        self.end(Operation::Append, offset, data.len())?;
        self.put(&mut disk, Operation::Append, offset, data)?;
        Ok(offset)
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::Truncate)?;
        self.end(Operation::Truncate, len, 0)?;
        let no_space = |kind| StorageError::new(Operation::Truncate, &self.path, kind).not_done();
        let (part, result) = match disk.reach(Operation::Truncate, &self.path) {
            Verdict::Go => (Part::All, Ok(())),
            Verdict::Struck(part, error) => (part, Err(error)),
        };
        if part.is_most() {
            disk.charge_end(self.file, len).map_err(no_space)?;
            let len = usize::try_from(len).map_err(|_| no_space(ErrorKind::NoSpace))?;
            let shorter = disk
                .inode(self.file)
                .content
                .now()
                .len()
                .saturating_sub(len);
            disk.inode(self.file).content.resize(len);
            disk.bytes_used = disk.bytes_used.saturating_sub(shorter as u64);
        }
        result
    }

    fn sync_data(&mut self) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::SyncData)?;
        match disk.reach(Operation::SyncData, &self.path) {
            Verdict::Go => {
                disk.inode(self.file).content.sync();
                Ok(())
            }
            Verdict::Struck(_, error) => {
                let failed = error.kind() == ErrorKind::SyncFailed;
                if failed {
                    disk.sync_data_in_doubt(self.file);
                }
                drop(disk);
                self.after_failed_sync = failed;
                Err(error)
            }
        }
    }

    fn len(&self) -> Result<u64, StorageError> {
        let mut disk = self.begin(Operation::Len)?;
        disk.reach(Operation::Len, &self.path).or_fail()?;
        Ok(disk.inode(self.file).content.now().len() as u64)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.shared.lock();
        if disk.life == self.life {
            let inode = disk.inode(self.file);
            inode.handles -= 1;
            if inode.handles == 0 {
                disk.collect();
            }
        }
    }
}

impl Part {
    /// For what happens whole or not at all.
    const fn is_most(self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(per_million) => per_million >= dpat_model::MILLION / 2,
            Self::All => true,
        }
    }

    fn of(self, len: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::All => len,
            Self::Some(per_million) => {
                let bytes = len as u128 * u128::from(per_million) / u128::from(dpat_model::MILLION);
                usize::try_from(bytes).unwrap_or(len)
            }
        }
    }
}
