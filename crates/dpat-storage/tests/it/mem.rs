//! The laws on memory.

use std::sync::Arc;

use dpat_storage::conformance::Harness;
use dpat_storage::{File, MemStorage, Storage};

struct Memory;

impl Harness for Memory {
    // By a pointer, so that the forwarding is tried as well.
    type Storage = Arc<MemStorage>;

    fn fresh(&self) -> Arc<MemStorage> {
        Arc::new(MemStorage::new())
    }
    fn reopen(&self, storage: Arc<MemStorage>) -> Arc<MemStorage> {
        Arc::new(MemStorage::clone(&storage))
    }
}

dpat_storage::storage_laws!(Memory);

#[test]
fn clones_share_everything() {
    let first = MemStorage::new();
    let second = first.clone();
    first.create("f").unwrap().append(b"seen").unwrap();
    assert_eq!(second.metadata("f").unwrap().len, 4);
    let lock = first.lock().unwrap();
    assert!(second.lock().is_err());
    drop((first, lock));
    assert!(second.lock().is_ok());
}
