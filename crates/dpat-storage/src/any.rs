//! Any storage behind one type.

use std::fmt;
use std::sync::Arc;

use crate::error::StorageError;
use crate::storage::{Entry, File, Metadata, Storage};

/// Any [`Storage`] behind one type: cloneable, one box per opened file.
///
/// For callers that choose the storage at run time, or that do not want a type parameter. The calls on files cost one
/// virtual call each.
///
/// # Examples
/// ```
/// use dpat_storage::{AnyStorage, MemStorage, Storage};
///
/// let storage = AnyStorage::new(MemStorage::new());
/// storage.create("a")?;
/// # Ok::<(), dpat_storage::StorageError>(())
/// ```
#[derive(Clone)]
pub struct AnyStorage(Arc<dyn Erased>);

impl AnyStorage {
    /// Erases the type of `storage`.
    #[must_use]
    pub fn new(storage: impl Storage + 'static) -> Self {
        Self(Arc::new(storage))
    }
}

impl fmt::Debug for AnyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStorage").finish_non_exhaustive()
    }
}

impl Storage for AnyStorage {
    type File = Box<dyn File>;
    type Lock = Box<dyn Send>;

    fn create(&self, path: &str) -> Result<Self::File, StorageError> {
        self.0.create_boxed(path)
    }
    fn open(&self, path: &str) -> Result<Self::File, StorageError> {
        self.0.open_boxed(path)
    }
    fn metadata(&self, path: &str) -> Result<Metadata, StorageError> {
        self.0.metadata_of(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.0.rename_file(from, to)
    }
    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.0.remove_file(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), StorageError> {
        self.0.create_directory(path)
    }
    fn remove_dir(&self, path: &str) -> Result<(), StorageError> {
        self.0.remove_directory(path)
    }
    fn list(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        self.0.list_entries(path)
    }
    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        self.0.sync_directory(path)
    }
    fn lock(&self) -> Result<Self::Lock, StorageError> {
        self.0.lock_boxed()
    }
}

/// [`Storage`] without its associated types. Its names differ, so that no call is ambiguous.
trait Erased: Send + Sync {
    fn create_boxed(&self, path: &str) -> Result<Box<dyn File>, StorageError>;
    fn open_boxed(&self, path: &str) -> Result<Box<dyn File>, StorageError>;
    fn metadata_of(&self, path: &str) -> Result<Metadata, StorageError>;
    fn rename_file(&self, from: &str, to: &str) -> Result<(), StorageError>;
    fn remove_file(&self, path: &str) -> Result<(), StorageError>;
    fn create_directory(&self, path: &str) -> Result<(), StorageError>;
    fn remove_directory(&self, path: &str) -> Result<(), StorageError>;
    fn list_entries(&self, path: &str) -> Result<Vec<Entry>, StorageError>;
    fn sync_directory(&self, path: &str) -> Result<(), StorageError>;
    fn lock_boxed(&self) -> Result<Box<dyn Send>, StorageError>;
}

impl<S: Storage> Erased for S {
    fn create_boxed(&self, path: &str) -> Result<Box<dyn File>, StorageError> {
        Ok(Box::new(self.create(path)?))
    }
    fn open_boxed(&self, path: &str) -> Result<Box<dyn File>, StorageError> {
        Ok(Box::new(self.open(path)?))
    }
    fn metadata_of(&self, path: &str) -> Result<Metadata, StorageError> {
        self.metadata(path)
    }
    fn rename_file(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        self.remove(path)
    }
    fn create_directory(&self, path: &str) -> Result<(), StorageError> {
        self.create_dir(path)
    }
    fn remove_directory(&self, path: &str) -> Result<(), StorageError> {
        self.remove_dir(path)
    }
    fn list_entries(&self, path: &str) -> Result<Vec<Entry>, StorageError> {
        self.list(path)
    }
    fn sync_directory(&self, path: &str) -> Result<(), StorageError> {
        self.sync_dir(path)
    }
    fn lock_boxed(&self) -> Result<Box<dyn Send>, StorageError> {
        Ok(Box::new(self.lock()?))
    }
}
