//! A small simulated disk: unsynced changes survive a power cut each on its own, and bugs can be put in.
//!
//! It shows that the traits tell a simulated disk all it must know, and it is what the laws are tried on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
#[allow(clippy::disallowed_types)]
// a disk of tests alone, without a model to swap the lock for
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpat_core::{Entropy, SplitMix64};
use dpat_storage::conformance::{Faults, Harness};
use dpat_storage::{
    Entry, ErrorKind, FILE_BYTES_MAX, File, Kind, Metadata, Operation, PathError, ROOT, Storage,
    StorageError, check_dir_path, check_file_path,
};

/// What a broken storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    CreateTruncates,
    FileAboveIsNotFound,
    RemoveTakesDirectories,
    PathsUnchecked,
    EndIsAnError,
    TruncateKeepsBytes,
    HoleIsNotZero,
    EmptyWriteExtends,
    EndsUnchecked,
    AppendForgetsOthers,
    LenIsCached,
    RenameRefusesToReplace,
    RemoveEmptiesTheFile,
    RemoveDirWithEntries,
    ListUnsorted,
    DirectoriesHaveLength,
    LockIsShared,
    ReopenCutsPower,
    SyncDataLies,
    SyncDirLies,
    SyncDirForgetsRemovals,
    SyncDirIgnoresRenamesOut,
    RenameTearsApart,
    TornWriteHurtsNeighbours,
    HandlesOutliveTheCut,
    LockOutlivesTheCut,
    SyncAgainAfterFailure,
    NamesAgainAfterFailure,
    FailureClaimsNotDone,
}

/// Makes disks, healthy or with one bug.
pub(crate) struct Lossy(pub(crate) Option<Bug>);

impl Harness for Lossy {
    type Storage = LossyStorage;

    fn fresh(&self) -> LossyStorage {
        let disk = Disk {
            bug: self.0,
            ..Disk::default()
        };
        LossyStorage {
            disk: Shared::new(disk),
            epoch: 0,
        }
    }

    fn reopen(&self, storage: LossyStorage) -> LossyStorage {
        if self.0 == Some(Bug::ReopenCutsPower) {
            return self.power_cut(storage, 0);
        }
        storage.disk.get().restart(false);
        let epoch = storage.disk.get().epoch;
        LossyStorage { epoch, ..storage }
    }
}

impl Faults for Lossy {
    fn power_cut(&self, storage: LossyStorage, seed: u64) -> LossyStorage {
        let mut disk = storage.disk.get();
        disk.lose(&SplitMix64::stream(seed, "power cut"));
        disk.restart(true);
        let epoch = disk.epoch;
        drop(disk);
        LossyStorage { epoch, ..storage }
    }

    fn fail_next(&self, storage: &LossyStorage, operation: Operation) {
        storage.disk.get().fail_next = Some(operation);
    }
}

#[derive(Clone)]
#[allow(clippy::disallowed_types)] // as above
struct Shared(Arc<Mutex<Disk>>);

#[allow(clippy::disallowed_types)] // as above
impl Shared {
    fn new(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }
    fn get(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct LossyStorage {
    disk: Shared,
    epoch: u64,
}

pub(crate) struct LossyFile {
    disk: Shared,
    epoch: u64,
    file: usize,
    path: String,
    after_failed_sync: bool,
    end: u64,
}

pub(crate) struct LossyLock {
    disk: Shared,
    number: u64,
}

impl Drop for LossyLock {
    fn drop(&mut self) {
        let mut disk = self.disk.get();
        if disk.lock == Some(self.number) {
            disk.lock = None;
        }
    }
}

type Name = (usize, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory(usize),
}

#[derive(Default)]
struct Disk {
    bug: Option<Bug>,
    /// Grows with each restart; what carries an older number is closed.
    epoch: u64,
    names: BTreeMap<Name, Node>,
    names_synced: BTreeMap<Name, Node>,
    journal: Vec<NameChange>,
    files: Vec<Content>,
    /// The own names of directories made, the root left out.
    directories: Vec<Name>,
    lock: Option<u64>,
    locks_made: u64,
    fail_next: Option<Operation>,
    names_unknown: bool,
}

/// One atomic change of names, and the names whose earlier changes must survive for it to survive.
#[derive(Clone)]
struct NameChange {
    after: BTreeSet<Name>,
    sets: Vec<(Name, Option<Node>)>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate { len: usize },
}

impl Disk {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn restart(&mut self, power_was_cut: bool) {
        if !(power_was_cut && self.has(Bug::HandlesOutliveTheCut)) {
            self.epoch += 1;
        }
        if !(power_was_cut && self.has(Bug::LockOutlivesTheCut)) {
            self.lock = None;
        }
        self.names_unknown = false;
        self.fail_next = None;
    }

    /// Fails if the storage was restarted, or if a failure was ordered.
    fn begin(&mut self, epoch: u64, operation: Operation, path: &str) -> Result<(), StorageError> {
        if epoch != self.epoch {
            return Err(StorageError::new(operation, path, ErrorKind::Closed));
        }
        if operation.changes_names() && self.names_unknown && !self.has(Bug::NamesAgainAfterFailure)
        {
            let kind = ErrorKind::AfterFailedSync;
            return Err(StorageError::new(operation, path, kind));
        }
        Ok(())
    }

    /// The ordered failure, to be asked for once the arguments are known to be good.
    fn ordered_failure(&mut self, operation: Operation, path: &str) -> Result<(), StorageError> {
        if self.fail_next != Some(operation) {
            return Ok(());
        }
        self.fail_next = None;
        let source = io::Error::other("ordered");
        let error = match operation {
            Operation::SyncData => StorageError::sync_failed(operation, path, source),
            Operation::SyncDir => {
                self.names_unknown = true;
                StorageError::sync_failed(operation, path, source)
            }
            _ => StorageError::from_io(operation, path, source),
        };
        Err(if self.has(Bug::FailureClaimsNotDone) {
            error.not_done()
        } else {
            error
        })
    }

    fn checked(
        &self,
        path: &str,
        check: fn(&str) -> Result<(), PathError>,
    ) -> Result<(), ErrorKind> {
        if self.has(Bug::PathsUnchecked) {
            return Ok(());
        }
        check(path).map_err(ErrorKind::InvalidPath)
    }

    fn name(&self, path: &str) -> Result<Name, ErrorKind> {
        let mut directory = 0;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let name = (directory, part.to_owned());
            if parts.peek().is_none() {
                return Ok(name);
            }
            directory = match self.names.get(&name) {
                Some(Node::Directory(inner)) => *inner,
                Some(Node::File(_)) if !self.has(Bug::FileAboveIsNotFound) => {
                    return Err(ErrorKind::NotADirectory);
                }
                _ => return Err(ErrorKind::NotFound),
            };
        }
        Err(ErrorKind::NotFound)
    }

    fn node(&self, path: &str) -> Result<Option<Node>, ErrorKind> {
        if path == ROOT {
            return Ok(Some(Node::Directory(0)));
        }
        Ok(self.names.get(&self.name(path)?).copied())
    }

    fn file(&self, path: &str) -> Result<usize, ErrorKind> {
        match self.node(path)? {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(ErrorKind::NotAFile),
            None => Err(ErrorKind::NotFound),
        }
    }

    fn directory(&self, path: &str) -> Result<usize, ErrorKind> {
        match self.node(path)? {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory),
            None => Err(ErrorKind::NotFound),
        }
    }

    fn change_names(&mut self, sets: Vec<(Name, Option<Node>)>) {
        let mut after: BTreeSet<Name> = sets.iter().map(|(name, _)| name.clone()).collect();
        for (name, node) in &sets {
            // A name is nothing without the directories above it,
            let mut inside = name.0;
            while let Some(own) = inside.checked_sub(1).map(|at| self.directories[at].clone()) {
                inside = own.0;
                after.insert(own);
            }
            // and a directory goes after what was in it.
            if node.is_none() {
                if let Some(Node::Directory(gone)) = self.names.get(name) {
                    let inside = self.journal.iter().flat_map(|change| &change.sets);
                    after.extend(
                        inside
                            .filter(|(name, _)| name.0 == *gone)
                            .map(|(name, _)| name.clone()),
                    );
                }
            }
        }
        set_all(&mut self.names, &sets);
        if self.has(Bug::RenameTearsApart) && sets.len() == 2 {
            for set in sets {
                let after = BTreeSet::from([set.0.clone()]);
                self.journal.push(NameChange {
                    after,
                    sets: vec![set],
                });
            }
        } else {
            self.journal.push(NameChange { after, sets });
        }
    }

    /// Makes the changes in one directory survive, and what they stand on.
    fn sync_names(&mut self, directory: usize) {
        let mut wanted = BTreeSet::new();
        let mut kept = Vec::new();
        let mut synced = Vec::new();
        let forgets_removals = self.has(Bug::SyncDirForgetsRemovals);
        let ignores_renames = self.has(Bug::SyncDirIgnoresRenamesOut);
        for change in std::mem::take(&mut self.journal).into_iter().rev() {
            let inside = change.sets.iter().any(|(name, _)| name.0 == directory);
            let removal = change.sets.len() == 1 && change.sets[0].1.is_none();
            let rename = change.sets.len() == 2;
            let forgotten = (forgets_removals && removal) || (ignores_renames && rename);
            let needed = inside || change.sets.iter().any(|(name, _)| wanted.contains(name));
            if needed && !forgotten {
                wanted.extend(change.after.iter().cloned());
                synced.push(change);
            } else {
                kept.push(change);
            }
        }
        for change in synced.iter().rev() {
            set_all(&mut self.names_synced, &change.sets);
        }
        kept.reverse();
        self.journal = kept;
    }

    /// Keeps what is synced, and of the rest what the entropy chooses.
    fn lose(&mut self, entropy: &SplitMix64) {
        let mut lost = BTreeSet::new();
        for change in std::mem::take(&mut self.journal) {
            let possible = change.after.iter().all(|name| !lost.contains(name));
            if possible && entropy.below(2) == 0 {
                set_all(&mut self.names_synced, &change.sets);
            } else {
                lost.extend(change.sets.iter().map(|(name, _)| name.clone()));
            }
        }
        self.names = self.names_synced.clone();
        let hurts = self.has(Bug::TornWriteHurtsNeighbours);
        for content in &mut self.files {
            content.lose(entropy, hurts);
        }
    }
}

fn set_all(names: &mut BTreeMap<Name, Node>, sets: &[(Name, Option<Node>)]) {
    for (name, node) in sets {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

impl Content {
    fn write(&mut self, offset: usize, data: &[u8]) {
        write(&mut self.now, offset, data);
        self.pending.push(Change::Write {
            offset,
            data: data.to_vec(),
        });
    }

    fn truncate(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.pending.push(Change::Truncate { len });
    }

    fn sync(&mut self) {
        self.pending.clear();
        self.synced.clone_from(&self.now);
    }

    fn lose(&mut self, entropy: &SplitMix64, hurts_neighbours: bool) {
        for change in self.pending.drain(..) {
            match (change, entropy.below(4)) {
                (_, 0) => {}
                (Change::Truncate { len }, _) => self.synced.resize(len, 0),
                (Change::Write { offset, data }, 1) => write(&mut self.synced, offset, &data),
                (Change::Write { offset, data }, torn) => {
                    let at = usize::try_from(entropy.below(data.len() as u64 + 1)).unwrap();
                    match torn {
                        2 => write(&mut self.synced, offset, &data[..at]),
                        _ => write(&mut self.synced, offset + at, &data[at..]),
                    }
                    if hurts_neighbours && offset > 0 {
                        write(&mut self.synced, offset - 1, b"!");
                    }
                }
            }
        }
        self.now.clone_from(&self.synced);
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if !data.is_empty() {
        bytes.resize(bytes.len().max(offset + data.len()), 0);
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }
}

impl LossyStorage {
    fn handle(&self, file: usize, path: &str, end: usize) -> LossyFile {
        LossyFile {
            disk: self.disk.clone(),
            epoch: self.epoch,
            file,
            path: path.to_owned(),
            after_failed_sync: false,
            end: end as u64,
        }
    }

    fn begin(
        &self,
        operation: Operation,
        path: &str,
    ) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let mut disk = self.disk.get();
        disk.begin(self.epoch, operation, path)?;
        Ok(disk)
    }
}

impl Storage for LossyStorage {
    type File = LossyFile;
    type Lock = LossyLock;

    fn create(&self, path: &str) -> Result<LossyFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Create, path, kind);
        let mut disk = self.begin(Operation::Create, path)?;
        disk.checked(path, check_file_path).map_err(fail)?;
        let name = disk.name(path).map_err(fail)?;
        match disk.names.get(&name) {
            Some(Node::File(file)) if disk.has(Bug::CreateTruncates) => {
                let file = *file;
                disk.files[file].truncate(0);
                return Ok(self.handle(file, path, 0));
            }
            Some(_) => return Err(fail(ErrorKind::Exists)),
            None => {}
        }
        disk.ordered_failure(Operation::Create, path)?;
        disk.files.push(Content::default());
        let file = disk.files.len() - 1;
        disk.change_names(vec![(name, Some(Node::File(file)))]);
        Ok(self.handle(file, path, 0))
    }

    fn open(&self, path: &str) -> Result<LossyFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Open, path, kind);
        let mut disk = self.begin(Operation::Open, path)?;
        disk.checked(path, check_file_path).map_err(fail)?;
        let file = disk.file(path).map_err(fail)?;
        disk.ordered_failure(Operation::Open, path)?;
        Ok(self.handle(file, path, disk.files[file].now.len()))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        let fail = |kind| StorageError::new(Operation::Metadata, path, kind);
        let mut disk = self.begin(Operation::Metadata, path)?;
        disk.checked(path, check_dir_path).map_err(fail)?;
        let node = disk.node(path).map_err(fail)?;
        disk.ordered_failure(Operation::Metadata, path)?;
        match node.ok_or(fail(ErrorKind::NotFound))? {
            Node::File(file) => Ok(Metadata {
                kind: Kind::File,
                len: disk.files[file].now.len() as u64,
            }),
            Node::Directory(_) => Ok(Metadata {
                kind: Kind::Directory,
                len: if disk.has(Bug::DirectoriesHaveLength) {
                    4096
                } else {
                    0
                },
            }),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::Rename, from, kind);
        let mut disk = self.begin(Operation::Rename, from)?;
        disk.checked(from, check_file_path).map_err(fail)?;
        disk.checked(to, check_file_path).map_err(fail)?;
        let file = disk.file(from).map_err(fail)?;
        let (name_from, name_to) = (disk.name(from).map_err(fail)?, disk.name(to).map_err(fail)?);
        match disk.names.get(&name_to) {
            Some(Node::Directory(_)) => return Err(fail(ErrorKind::NotAFile)),
            Some(_) if disk.has(Bug::RenameRefusesToReplace) => {
                return Err(fail(ErrorKind::Exists));
            }
            _ => {}
        }
        disk.ordered_failure(Operation::Rename, from)?;
        if name_from != name_to {
            disk.change_names(vec![(name_from, None), (name_to, Some(Node::File(file)))]);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::Remove, path, kind);
        let mut disk = self.begin(Operation::Remove, path)?;
        disk.checked(path, check_file_path).map_err(fail)?;
        if disk.has(Bug::RemoveTakesDirectories) {
            if let Ok(Some(Node::Directory(_))) = disk.node(path) {
                let name = disk.name(path).map_err(fail)?;
                disk.change_names(vec![(name, None)]);
                return Ok(());
            }
        }
        let file = disk.file(path).map_err(fail)?;
        disk.ordered_failure(Operation::Remove, path)?;
        let name = disk.name(path).map_err(fail)?;
        disk.change_names(vec![(name, None)]);
        if disk.has(Bug::RemoveEmptiesTheFile) {
            disk.files[file].truncate(0);
        }
        Ok(())
    }

    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::CreateDir, path, kind);
        let mut disk = self.begin(Operation::CreateDir, path)?;
        disk.checked(path, check_dir_path).map_err(fail)?;
        let node = disk.node(path).map_err(fail)?;
        disk.ordered_failure(Operation::CreateDir, path)?;
        match node {
            Some(Node::Directory(_)) => Ok(()),
            Some(Node::File(_)) => Err(fail(ErrorKind::Exists)),
            None => {
                let name = disk.name(path).map_err(fail)?;
                disk.directories.push(name.clone());
                let directory = disk.directories.len();
                disk.change_names(vec![(name, Some(Node::Directory(directory)))]);
                Ok(())
            }
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::RemoveDir, path, kind);
        let mut disk = self.begin(Operation::RemoveDir, path)?;
        disk.checked(path, check_file_path).map_err(fail)?;
        let directory = disk.directory(path).map_err(fail)?;
        let empty = disk.names.keys().all(|(inside, _)| *inside != directory);
        if !empty && !disk.has(Bug::RemoveDirWithEntries) {
            return Err(fail(ErrorKind::NotEmpty));
        }
        disk.ordered_failure(Operation::RemoveDir, path)?;
        let name = disk.name(path).map_err(fail)?;
        disk.change_names(vec![(name, None)]);
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        let fail = |kind| StorageError::new(Operation::List, path, kind);
        let mut disk = self.begin(Operation::List, path)?;
        disk.checked(path, check_dir_path).map_err(fail)?;
        let directory = disk.directory(path).map_err(fail)?;
        disk.ordered_failure(Operation::List, path)?;
        let mut entries: Vec<Entry> = disk
            .names
            .iter()
            .filter(|((inside, _), _)| *inside == directory)
            .map(|((_, name), node)| Entry {
                name: name.clone(),
                kind: match node {
                    Node::File(_) => Kind::File,
                    Node::Directory(_) => Kind::Directory,
                },
            })
            .collect();
        if disk.has(Bug::ListUnsorted) {
            entries.reverse();
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::SyncDir, path, kind);
        let mut disk = self.begin(Operation::SyncDir, path)?;
        disk.checked(path, check_dir_path).map_err(fail)?;
        let directory = disk.directory(path).map_err(fail)?;
        disk.ordered_failure(Operation::SyncDir, path)?;
        if !disk.has(Bug::SyncDirLies) {
            disk.sync_names(directory);
        }
        Ok(())
    }

    fn lock(&self) -> Result<LossyLock, StorageError> {
        let mut disk = self.begin(Operation::Lock, ROOT)?;
        disk.ordered_failure(Operation::Lock, ROOT)?;
        if disk.lock.is_some() && !disk.has(Bug::LockIsShared) {
            return Err(StorageError::new(Operation::Lock, ROOT, ErrorKind::Locked));
        }
        disk.locks_made += 1;
        let number = disk.locks_made;
        disk.lock = Some(number);
        Ok(LossyLock {
            disk: self.disk.clone(),
            number,
        })
    }
}

impl LossyFile {
    fn begin(&self, operation: Operation) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let mut disk = self.disk.get();
        disk.begin(self.epoch, operation, &self.path)?;
        if self.after_failed_sync && !disk.has(Bug::SyncAgainAfterFailure) {
            let kind = ErrorKind::AfterFailedSync;
            return Err(StorageError::new(operation, &self.path, kind));
        }
        Ok(disk)
    }

    fn end(
        &self,
        disk: &Disk,
        operation: Operation,
        offset: u64,
        len: usize,
    ) -> Result<(), StorageError> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= FILE_BYTES_MAX) {
            return Ok(());
        }
        let kind = if disk.has(Bug::EndsUnchecked) {
            ErrorKind::NoSpace
        } else {
            ErrorKind::Limit {
                field: "end",
                limit: FILE_BYTES_MAX,
            }
        };
        Err(StorageError::new(operation, &self.path, kind))
    }
}

impl File for LossyFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut disk = self.begin(Operation::ReadAt)?;
        disk.ordered_failure(Operation::ReadAt, &self.path)?;
        let bytes = &disk.files[self.file].now;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        if rest.is_empty() && !buffer.is_empty() && disk.has(Bug::EndIsAnError) {
            let kind = ErrorKind::UnexpectedEnd;
            return Err(StorageError::new(Operation::ReadAt, &self.path, kind));
        }
        // Short wherever it may be.
        let read = rest.len().min(buffer.len()).div_ceil(2);
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::WriteAt)?;
        self.end(&disk, Operation::WriteAt, offset, data.len())?;
        disk.ordered_failure(Operation::WriteAt, &self.path)?;
        let offset = usize::try_from(offset).unwrap();
        let extends = disk.has(Bug::EmptyWriteExtends);
        let not_zero = disk.has(Bug::HoleIsNotZero) && !data.is_empty();
        let content = &mut disk.files[self.file];
        if data.is_empty() && extends && offset > content.now.len() {
            content.truncate(offset);
        }
        if not_zero && offset > content.now.len() {
            content.now.resize(offset, b'?');
        }
        if !data.is_empty() {
            content.write(offset, data);
        }
        Ok(())
    }

    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        let mut disk = self.begin(Operation::Append)?;
        disk.ordered_failure(Operation::Append, &self.path)?;
        let offset = if disk.has(Bug::AppendForgetsOthers) {
            usize::try_from(self.end).unwrap()
        } else {
            disk.files[self.file].now.len()
        };
        self.end(&disk, Operation::Append, offset as u64, data.len())?;
        disk.files[self.file].write(offset, data);
        drop(disk);
        self.end = (offset + data.len()) as u64;
        Ok(offset as u64)
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::Truncate)?;
        self.end(&disk, Operation::Truncate, len, 0)?;
        disk.ordered_failure(Operation::Truncate, &self.path)?;
        let len = usize::try_from(len).unwrap();
        let keeps = disk.has(Bug::TruncateKeepsBytes);
        let content = &mut disk.files[self.file];
        if keeps && len > content.now.len() {
            content.now.resize(len, b'?');
        }
        content.truncate(len);
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), StorageError> {
        let mut disk = self.begin(Operation::SyncData)?;
        let ordered = disk.ordered_failure(Operation::SyncData, &self.path);
        if ordered.is_ok() && !disk.has(Bug::SyncDataLies) {
            disk.files[self.file].sync();
        }
        drop(disk);
        self.after_failed_sync = ordered.is_err();
        ordered
    }

    fn len(&self) -> Result<u64, StorageError> {
        let mut disk = self.begin(Operation::Len)?;
        disk.ordered_failure(Operation::Len, &self.path)?;
        if disk.has(Bug::LenIsCached) {
            return Ok(self.end);
        }
        Ok(disk.files[self.file].now.len() as u64)
    }
}
