//! The laws on an erased storage, and what is `Send` and `Sync`.

use dpat_storage::conformance::Harness;
use dpat_storage::{
    AnyStorage, File, FsFile, FsLock, FsStorage, MemFile, MemLock, MemStorage, StorageError,
};
use dpat_testkit::{assert_send, assert_send_sync};

struct Erased;

impl Harness for Erased {
    type Storage = AnyStorage;

    fn fresh(&self) -> AnyStorage {
        AnyStorage::new(MemStorage::new())
    }
    fn reopen(&self, storage: AnyStorage) -> AnyStorage {
        storage
    }
}

dpat_storage::storage_laws!(Erased);

#[test]
fn storages_are_shared_and_files_are_sent() {
    assert_send_sync::<AnyStorage>();
    assert_send_sync::<MemStorage>();
    assert_send_sync::<FsStorage>();
    assert_send_sync::<StorageError>();
    assert_send::<MemFile>();
    assert_send::<FsFile>();
    assert_send::<MemLock>();
    assert_send::<FsLock>();
    assert_send::<Box<dyn File>>();
}
