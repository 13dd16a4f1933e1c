//! A storage in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{ErrorKind, Operation, StorageError};
use crate::path::{ROOT, ancestors, check_dir_path, check_file_path};
use crate::storage::{
    Entry, File, Kind, LIST_ENTRIES_MAX, Metadata, Storage, end_of, too_many_entries,
};
use crate::sync::Mutex;

/// What an entry costs besides the bytes of its path.
const ENTRY_BYTES: usize = 64;

/// A storage in memory, shared by its clones.
///
/// Sequentially consistent: one lock, every call happens at one moment. It models no loss: syncs succeed and do nothing,
/// and there is no power to cut. It ends with its last clone, handle and lock.
///
/// Holds at most [`DEFAULT_BYTES_MAX`](Self::DEFAULT_BYTES_MAX) unless told otherwise, holes included, and behaves as a full
/// disk beyond: [`ErrorKind::NoSpace`], with nothing done.
///
/// # Examples
/// ```
/// use dpat_storage::{File, MemStorage, Storage};
///
/// let storage = MemStorage::with_bytes_max(1 << 20);
/// let mut file = storage.create("a")?;
/// assert_eq!(file.append(b"one")?, 0);
/// assert_eq!(file.append(b"two")?, 3);
/// # Ok::<(), dpat_storage::StorageError>(())
/// ```
///
/// # Complexity
/// A file call costs O(log files) and the bytes it copies; `list` is linear in the entries below the directory.
#[derive(Clone, Debug)]
pub struct MemStorage {
    state: Arc<Mutex<State>>,
}

/// A file of a [`MemStorage`].
#[derive(Debug)]
pub struct MemFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    path: Box<str>,
}

/// The lock of a [`MemStorage`].
#[derive(Debug)]
pub struct MemLock {
    state: Arc<Mutex<State>>,
}

impl MemStorage {
    /// 256 MiB.
    pub const DEFAULT_BYTES_MAX: usize = 256 << 20;

    /// Makes an empty storage of at most [`DEFAULT_BYTES_MAX`](Self::DEFAULT_BYTES_MAX).
    #[must_use]
    pub fn new() -> Self {
        Self::with_bytes_max(Self::DEFAULT_BYTES_MAX)
    }

    /// Makes an empty storage of at most `bytes_max`.
    ///
    /// Counted are the lengths of the files and, for each entry, its path and 64 bytes.
    #[must_use]
    pub fn with_bytes_max(bytes_max: usize) -> Self {
        let state = State {
            bytes_max,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns the bytes in use.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.state.lock().bytes_used
    }

    fn handle(&self, inode: u64, path: &str) -> MemFile {
        MemFile {
            state: Arc::clone(&self.state),
            inode,
            path: path.into(),
        }
    }
}

impl Default for MemStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for MemStorage {
    type File = MemFile;
    type Lock = MemLock;

    fn create(&self, path: &str) -> Result<MemFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Create, path, kind).not_done();
        checked_file(path).map_err(fail)?;
        let mut state = self.state.lock();
        if state.resolve(path).map_err(fail)?.is_some() {
            return Err(fail(ErrorKind::Exists));
        }
        state.charge(path.len() + ENTRY_BYTES).map_err(fail)?;
        let inode = state.inodes_made;
        state.inodes_made += 1;
        state.inodes.insert(
            inode,
            Inode {
                data: Vec::new(),
                named: true,
                handles: 1,
            },
        );
        state.names.insert(path.into(), Node::File(inode));
        Ok(self.handle(inode, path))
    }

    fn open(&self, path: &str) -> Result<MemFile, StorageError> {
        let fail = |kind| StorageError::new(Operation::Open, path, kind);
        checked_file(path).map_err(fail)?;
        let mut state = self.state.lock();
        let inode = state.file(path).map_err(fail)?;
        state.inode(inode).handles += 1;
        Ok(self.handle(inode, path))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        let fail = |kind| StorageError::new(Operation::Metadata, path, kind);
        checked_dir(path).map_err(fail)?;
        let mut state = self.state.lock();
        match state.resolve(path).map_err(fail)? {
            None => Err(fail(ErrorKind::NotFound)),
            Some(Node::Directory) => Ok(Metadata {
                kind: Kind::Directory,
                len: 0,
            }),
            Some(Node::File(inode)) => Ok(Metadata {
                kind: Kind::File,
                len: state.inode(inode).data.len() as u64,
            }),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let fail_from = |kind| StorageError::new(Operation::Rename, from, kind).not_done();
        let fail_to = |kind| StorageError::new(Operation::Rename, to, kind).not_done();
        checked_file(from).map_err(fail_from)?;
        checked_file(to).map_err(fail_to)?;
        let mut state = self.state.lock();
        let inode = state.file(from).map_err(fail_from)?;
        let replaced = match state.resolve(to).map_err(fail_to)? {
            Some(Node::Directory) => return Err(fail_to(ErrorKind::NotAFile)),
            Some(Node::File(replaced)) => Some(replaced),
            None => None,
        };
        if from == to {
            return Ok(());
        }
        match replaced {
            Some(replaced) => {
                state.release(from.len() + ENTRY_BYTES);
                state.unname(replaced);
            }
            None => {
                let growth = to.len().saturating_sub(from.len());
                state.charge(growth).map_err(fail_to)?;
                state.release(from.len().saturating_sub(to.len()));
            }
        }
        state.names.remove(from);
        state.names.insert(to.into(), Node::File(inode));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::Remove, path, kind).not_done();
        checked_file(path).map_err(fail)?;
        let mut state = self.state.lock();
        let inode = state.file(path).map_err(fail)?;
        state.names.remove(path);
        state.release(path.len() + ENTRY_BYTES);
        state.unname(inode);
        Ok(())
    }

    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::CreateDir, path, kind).not_done();
        checked_dir(path).map_err(fail)?;
        let mut state = self.state.lock();
        match state.resolve(path).map_err(fail)? {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(fail(ErrorKind::Exists)),
            None => {
                state.charge(path.len() + ENTRY_BYTES).map_err(fail)?;
                state.names.insert(path.into(), Node::Directory);
                Ok(())
            }
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::RemoveDir, path, kind).not_done();
        checked_file(path).map_err(fail)?;
        let mut state = self.state.lock();
        state.directory(path).map_err(fail)?;
        if state.below(path).next().is_some() {
            return Err(fail(ErrorKind::NotEmpty));
        }
        state.names.remove(path);
        state.release(path.len() + ENTRY_BYTES);
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        let fail = |kind| StorageError::new(Operation::List, path, kind);
        checked_dir(path).map_err(fail)?;
        let state = self.state.lock();
        state.directory(path).map_err(fail)?;
        // Sorted by whole path, and so by name among those that hold no slash.
        let entries: Vec<Entry> = state
            .below(path)
            .filter(|(name, _)| !name.contains('/'))
            .take(LIST_ENTRIES_MAX + 1)
            .map(|(name, node)| Entry {
                name: name.to_owned(),
                kind: match node {
                    Node::File(_) => Kind::File,
                    Node::Directory => Kind::Directory,
                },
            })
            .collect();
        if entries.len() > LIST_ENTRIES_MAX {
            return Err(too_many_entries(path));
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        let fail = |kind| StorageError::new(Operation::SyncDir, path, kind);
        checked_dir(path).map_err(fail)?;
        self.state.lock().directory(path).map_err(fail)
    }

    fn lock(&self) -> Result<MemLock, StorageError> {
        if std::mem::replace(&mut self.state.lock().locked, true) {
            return Err(StorageError::new(Operation::Lock, ROOT, ErrorKind::Locked));
        }
        Ok(MemLock {
            state: Arc::clone(&self.state),
        })
    }
}

impl File for MemFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut state = self.state.lock();
        let data = &state.inode(self.inode).data;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| data.get(offset..))
            .unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        let end = end_of(Operation::WriteAt, &self.path, offset, data.len())?;
        let mut state = self.state.lock();
        state
            .write(self.inode, end, data)
            .map_err(|kind| StorageError::new(Operation::WriteAt, &self.path, kind).not_done())
    }

    fn append(&mut self, data: &[u8]) -> Result<u64, StorageError> {
        let mut state = self.state.lock();
        let offset = state.inode(self.inode).data.len() as u64;
        let end = end_of(Operation::Append, &self.path, offset, data.len())?;
        state
            .write(self.inode, end, data)
            .map_err(|kind| StorageError::new(Operation::Append, &self.path, kind).not_done())?;
        Ok(offset)
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        end_of(Operation::Truncate, &self.path, len, 0)?;
        let mut state = self.state.lock();
        state
            .resize(self.inode, len)
            .map_err(|kind| StorageError::new(Operation::Truncate, &self.path, kind).not_done())
    }

    fn sync_data(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(self.state.lock().inode(self.inode).data.len() as u64)
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.inode(self.inode).handles -= 1;
        state.reap(self.inode);
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.state.lock().locked = false;
    }
}

fn checked_file(path: &str) -> Result<(), ErrorKind> {
    check_file_path(path).map_err(ErrorKind::InvalidPath)
}

fn checked_dir(path: &str) -> Result<(), ErrorKind> {
    check_dir_path(path).map_err(ErrorKind::InvalidPath)
}

#[derive(Debug, Default)]
struct State {
    /// By whole path; the root has no entry.
    names: BTreeMap<Box<str>, Node>,
    inodes: BTreeMap<u64, Inode>,
    inodes_made: u64,
    bytes_used: usize,
    bytes_max: usize,
    locked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    File(u64),
    Directory,
}

/// A file's content; it lives while it has a name or a handle.
#[derive(Debug)]
struct Inode {
    data: Vec<u8>,
    named: bool,
    handles: usize,
}

impl State {
    fn resolve(&self, path: &str) -> Result<Option<Node>, ErrorKind> {
        if path == ROOT {
            return Ok(Some(Node::Directory));
        }
        for above in ancestors(path) {
            match self.names.get(above) {
                None => return Err(ErrorKind::NotFound),
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory),
                Some(Node::Directory) => {}
            }
        }
        Ok(self.names.get(path).copied())
    }

    fn file(&self, path: &str) -> Result<u64, ErrorKind> {
        match self.resolve(path)? {
            None => Err(ErrorKind::NotFound),
            Some(Node::Directory) => Err(ErrorKind::NotAFile),
            Some(Node::File(inode)) => Ok(inode),
        }
    }

    fn directory(&self, path: &str) -> Result<(), ErrorKind> {
        match self.resolve(path)? {
            None => Err(ErrorKind::NotFound),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory),
            Some(Node::Directory) => Ok(()),
        }
    }

    /// Everything below a directory, with paths relative to it.
    fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, Node)> + use<'a> {
        let prefix = if directory == ROOT {
            String::new()
        } else {
            format!("{directory}/")
        };
        self.names
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .map_while(move |(path, node)| Some((path.strip_prefix(&*prefix)?, *node)))
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("an inode lives while it has a name or a handle")
    }

    fn charge(&mut self, bytes: usize) -> Result<(), ErrorKind> {
        let used = self.bytes_used.checked_add(bytes);
        self.bytes_used = used
            .filter(|used| *used <= self.bytes_max)
            .ok_or(ErrorKind::NoSpace)?;
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.bytes_used -= bytes;
    }

    fn write(&mut self, inode: u64, end: u64, data: &[u8]) -> Result<(), ErrorKind> {
        if data.is_empty() {
            return Ok(());
        }
        if end > self.inode(inode).data.len() as u64 {
            self.resize(inode, end)?;
        }
        let end = usize::try_from(end).map_err(|_| ErrorKind::NoSpace)?;
        self.inode(inode).data[end - data.len()..end].copy_from_slice(data);
        Ok(())
    }

    fn resize(&mut self, inode: u64, len: u64) -> Result<(), ErrorKind> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::NoSpace)?;
        let before = self.inode(inode).data.len();
        if let Some(growth) = len.checked_sub(before) {
            self.charge(growth)?;
            if self.inode(inode).data.try_reserve(growth).is_err() {
                self.release(growth);
                return Err(ErrorKind::NoSpace);
            }
        } else {
            self.release(before - len);
        }
        self.inode(inode).data.resize(len, 0);
        Ok(())
    }

    fn unname(&mut self, inode: u64) {
        self.inode(inode).named = false;
        self.reap(inode);
    }

    fn reap(&mut self, inode: u64) {
        let file = self.inode(inode);
        if !file.named && file.handles == 0 {
            let bytes = file.data.len();
            self.inodes.remove(&inode);
            self.release(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use dpat_core::{Classify, Effect};

    use super::*;

    #[test]
    fn a_full_storage_refuses_and_does_nothing() {
        let storage = MemStorage::with_bytes_max(100);
        let mut file = storage.create("f").unwrap();
        file.append(&[1; 35]).unwrap();
        assert_eq!(storage.bytes_used(), 100);
        let full = [
            file.append(b"x").unwrap_err(),
            file.write_at(1 << 40, b"x").unwrap_err(),
            file.truncate(36).unwrap_err(),
            storage.create("g").unwrap_err(),
            storage.create_dir("g").unwrap_err(),
            storage.rename("f", "longer").unwrap_err(),
        ];
        for error in full {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert_eq!(error.effect(), Effect::NotDone, "{error}");
        }
        assert_eq!(storage.bytes_used(), 100);
        assert_eq!(file.len().unwrap(), 35);
        file.write_at(0, &[2; 35]).unwrap();
    }

    #[test]
    fn removed_files_give_their_room_back_with_the_last_handle() {
        let storage = MemStorage::new();
        let mut first = storage.create("f").unwrap();
        let second = storage.open("f").unwrap();
        first.append(&[1; 1000]).unwrap();
        storage.remove("f").unwrap();
        drop(first);
        assert_eq!(storage.bytes_used(), 1000);
        drop(second);
        assert_eq!(storage.bytes_used(), 0);

        drop(storage.create("g").unwrap());
        drop(storage.create("h").unwrap());
        storage.rename("g", "h").unwrap();
        storage.remove("h").unwrap();
        assert_eq!(storage.bytes_used(), 0);
        assert!(storage.state.lock().inodes.is_empty());
    }
}
