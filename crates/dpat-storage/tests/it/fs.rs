//! The laws on real files, and what only they have.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use dpat_core::{Classify, Effect};
use dpat_storage::conformance::Harness;
use dpat_storage::{ErrorKind, File, FsStorage, ROOT, Storage};
use tempfile::TempDir;

struct Disk {
    folder: TempDir,
    made: AtomicU32,
}

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            made: AtomicU32::new(0),
        }
    }
}

impl Harness for Disk {
    type Storage = FsStorage;

    fn fresh(&self) -> FsStorage {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        FsStorage::open(self.folder.path().join(number.to_string())).unwrap()
    }
    fn reopen(&self, storage: FsStorage) -> FsStorage {
        let root = storage.root().to_owned();
        drop(storage);
        FsStorage::open(root).unwrap()
    }
}

dpat_storage::storage_laws!(Disk::new());

#[test]
fn open_makes_the_root_and_what_is_above() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b/c");
    drop(FsStorage::open(&root).unwrap().create("f").unwrap());
    let again = FsStorage::open(&root).unwrap();
    assert_eq!(again.list(ROOT).unwrap().len(), 1);
    assert_eq!(again.root(), root);
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("f");
    std::fs::write(&root, b"").unwrap();
    let error = FsStorage::open(&root).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory, "{error}");
    let error = FsStorage::open(root.join("below")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory, "{error}");
}

#[test]
fn names_of_others_are_left_out_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FsStorage::open(folder.path()).unwrap();
    storage.create_dir("d").unwrap();
    for foreign in ["d/.hidden", "d/UPPER", "d/with space"] {
        std::fs::write(folder.path().join(foreign), b"").unwrap();
    }
    drop(storage.create("d/ours").unwrap());
    let names: Vec<_> = storage.list("d").unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(names[0].name, "ours");
    storage.remove("d/ours").unwrap();
    let error = storage.remove_dir("d").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEmpty, "{error}");
    assert_eq!(error.effect(), Effect::NotDone);
}

#[test]
fn two_storages_on_one_root_share_files_and_lock() {
    let folder = tempfile::tempdir().unwrap();
    let first = FsStorage::open(folder.path()).unwrap();
    let second = FsStorage::open(folder.path()).unwrap();
    let lock = first.lock().unwrap();
    let error = second.lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.is_safe_to_retry());
    first.create("f").unwrap().append(b"seen").unwrap();
    assert_eq!(second.metadata("f").unwrap().len, 4);
    // The guard alone holds the lock.
    drop(first);
    assert!(second.lock().is_err());
    drop(lock);
    assert!(second.lock().is_ok());
}

#[test]
fn errors_name_operation_path_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FsStorage::open(PathBuf::from(folder.path())).unwrap();
    let error = storage.open("wal/0001").unwrap_err();
    assert_eq!(error.to_string(), "open \"wal/0001\": not found");
    let error = storage.create("../secret").unwrap_err();
    assert_eq!(
        error.to_string(),
        "create \"../secret\": path: the name at byte 0 begins or ends with a dot"
    );
}
