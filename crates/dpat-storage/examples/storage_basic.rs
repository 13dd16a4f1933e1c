//! Keeps a counter in a file, so that a crash at any moment leaves the old or the new value.
//!
//! `cargo run -p dpat-storage --example storage_basic`

use std::error::Error;

use dpat_storage::{ErrorKind, File, FsStorage, MemStorage, ROOT, Storage, StorageError};

/// Replaces the file `path` as a whole.
fn replace(storage: &impl Storage, path: &str, content: &[u8]) -> Result<(), StorageError> {
    const TEMPORARY: &str = "replace.tmp";
    // A crash may have left one behind.
    match storage.remove(TEMPORARY) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed?,
    }
    let mut file = storage.create(TEMPORARY)?;
    file.append(content)?;
    file.sync_data()?; // the content first,
    storage.rename(TEMPORARY, path)?;
    storage.sync_dir(ROOT) // then the name
}

/// Reads the counter; a file that is not there counts as 0.
fn read(storage: &impl Storage, path: &str) -> Result<u64, StorageError> {
    let file = match storage.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let mut bytes = [0; 8];
    file.read_exact_at(0, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn count_to_three(storage: &impl Storage) -> Result<u64, StorageError> {
    let _owner = storage.lock()?;
    for _ in 0..3 {
        let next = read(storage, "counter")?.saturating_add(1);
        replace(storage, "counter", &next.to_le_bytes())?;
    }
    read(storage, "counter")
}

#[allow(clippy::print_stdout)] // an example shows its result
fn main() -> Result<(), Box<dyn Error>> {
    println!("in memory: {}", count_to_three(&MemStorage::new())?);

    let folder = tempfile::tempdir()?;
    let storage = FsStorage::open(folder.path().join("counters"))?;
    println!("on disk:   {}", count_to_three(&storage)?);
    println!("again:     {}", count_to_three(&storage)?);

    let owner = storage.lock()?;
    if let Err(error) = count_to_three(&storage) {
        println!("refused:   {error}");
    }
    drop(owner);
    Ok(())
}
