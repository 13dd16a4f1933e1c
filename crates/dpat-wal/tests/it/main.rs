//! One binary for all integration tests.

#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod alloc;
mod cancel;
mod commit;
mod crash;
mod damage;
mod failure;
mod maintain;
mod mutants;
mod process;
mod read;
mod records;

use dpat_core::SplitMix64;
use dpat_storage::Storage;
use dpat_testkit::CountingAllocator;
use dpat_wal::{Config, ConfigBuilder, Reader, Recovery, Wal};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Segments of 512 bytes, records of 128, nothing allocated ahead, salts that are the same each time.
fn small() -> ConfigBuilder {
    Config::builder()
        .segment_bytes(512)
        .frame_bytes_max(128)
        .pending_bytes_max(1024)
        .preallocate_bytes(0)
        .entropy(SplitMix64::new(1))
}

#[track_caller]
fn open<S: Storage>(storage: S, config: ConfigBuilder) -> (Wal<S>, Recovery) {
    Wal::open(storage, config.build().unwrap()).unwrap()
}

/// Appends records and waits for each.
#[track_caller]
fn append<S: Storage>(wal: &Wal<S>, records: &[&str]) {
    for record in records {
        wal.append(record.as_bytes()).wait().unwrap();
    }
}

/// Reads on as far as there are records; their positions have no gaps.
#[track_caller]
fn rest<S: Storage>(reader: &mut Reader<S>) -> Vec<String> {
    let mut records = Vec::new();
    let mut expected = reader.position();
    while let Some(record) = reader.next_ready().unwrap() {
        assert_eq!(record.position, expected);
        expected = expected.after(1);
        records.push(String::from_utf8(record.bytes.to_vec()).unwrap());
    }
    assert_eq!(reader.position(), expected);
    records
}

#[track_caller]
fn all<S: Storage>(wal: &Wal<S>) -> Vec<String> {
    rest(&mut wal.reader(wal.first()).unwrap())
}
