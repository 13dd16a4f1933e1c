//! The write-ahead log against okaywal, raft-engine, redb and fjall, all of them synced at every commit.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dpat_storage::FsStorage;
use dpat_wal::{Batch, Config, Wal};
use fjall::PersistMode;
use okaywal::{Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
use raft_engine::LogBatch;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::harness::{Case, Contender};

pub(super) const NOTES: &str = "\
What each side does:

- A record of 256 bytes is appended and the appender waits until it is durable: *dpat-wal* and *okaywal* share one \
sync between the appenders that wait, *raft-engine* leads a group of writers in one write and one sync (a key and a \
value in its log), *redb* commits a transaction with one insert (one writer at a time, no group commit), *fjall* \
inserts and persists its journal with `SyncData`.
- *fdatasync* is the bare call: one thread writes 256 bytes at the end of a file and syncs it, again and again. All are \
on the same disk, and the numbers move with it: compare within a row.
- Recovery opens a log of 32 MiB, in records of 256 bytes, and reads every record, from a copy that is made before each \
run and is in the page cache. *raft-engine* checks and indexes its records without handing out their values, which is less work. *redb* has nothing to replay and is left out.";

const RECORD: usize = 256;
/// Records of each appender in one run.
const EACH: u64 = 32;
const RECOVERED_BYTES: u64 = 32 << 20;
const PREALLOCATED_BYTES: u32 = 64 << 20;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 16, 64].map(append).into();
    cases.push(recovery());
    cases
}

fn record() -> [u8; RECORD] {
    [0x5a; RECORD]
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory on disk")
}

/// Lets threads append at once, each its share.
fn on_appenders(appenders: usize, append: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..appenders {
            scope.spawn(|| {
                for _ in 0..EACH {
                    append();
                }
            });
        }
    });
}

fn append(appenders: usize) -> Case {
    let ours = {
        let directory = directory();
        let wal = ours(directory.path());
        Contender::single("dpat-wal", move || {
            let _keep = &directory;
            on_appenders(appenders, || {
                wal.append(&record()).wait().expect("durable");
            });
        })
    };
    let okay = {
        let directory = directory();
        let log = WriteAheadLog::recover(directory.path(), Nothing).expect("a log");
        Contender::single("okaywal", move || {
            let _keep = &directory;
            on_appenders(appenders, || {
                let mut entry = log.begin_entry().expect("an entry");
                entry.write_chunk(&record()).expect("written");
                entry.commit().expect("durable");
            });
        })
    };
    let raft = {
        let directory = directory();
        let engine = raft(directory.path());
        let next = AtomicU64::new(0);
        Contender::single("raft-engine", move || {
            let _keep = &directory;
            on_appenders(appenders, || {
                let key = next.fetch_add(1, Ordering::Relaxed) % 1_024;
                let mut batch = LogBatch::default();
                let put = batch.put(1, key.to_le_bytes().to_vec(), record().to_vec());
                put.expect("a batch");
                engine.write(&mut batch, true).expect("durable");
            });
        })
    };
    let redb = {
        let directory = directory();
        let database = Database::create(directory.path().join("redb")).expect("a database");
        let next = AtomicU64::new(0);
        Contender::single("redb", move || {
            let _keep = &directory;
            on_appenders(appenders, || {
                let transaction = database.begin_write().expect("a transaction");
                {
                    let mut table = transaction.open_table(TABLE).expect("a table");
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    table.insert(key, &record()[..]).expect("inserted");
                }
                transaction.commit().expect("durable");
            });
        })
    };
    let fjall = {
        let directory = directory();
        let (database, log) = fjall(directory.path());
        let next = AtomicU64::new(0);
        Contender::single("fjall", move || {
            let _keep = &directory;
            on_appenders(appenders, || {
                let key = next.fetch_add(1, Ordering::Relaxed);
                log.insert(key.to_be_bytes(), record()).expect("inserted");
                database.persist(PersistMode::SyncData).expect("durable");
            });
        })
    };
    let bare = {
        let directory = directory();
        let mut file = File::create(directory.path().join("bare")).expect("a file");
        let calls = EACH * appenders as u64;
        Contender::told("fdatasync", "-".to_owned(), move || {
            let _keep = &directory;
            let start = Instant::now();
            for _ in 0..calls {
                file.write_all(&record()).expect("written");
                file.sync_data().expect("synced");
            }
            nanos(start)
        })
    };
    let mut case = Case::new(
        "wal",
        "append, durable",
        "Appends a record of 256 bytes and waits until it is synced.",
        ours,
        vec![okay, raft, redb, fjall, bare],
    )
    .items(EACH * appenders as u64);
    case.threads = appenders;
    case.in_flight = appenders;
    case
}

fn recovery() -> Case {
    let records = RECOVERED_BYTES / RECORD as u64;
    let ours = recovering(
        "dpat-wal",
        |path| {
            let wal = ours(path);
            let batch: Batch = (0..64).map(|_| record()).collect();
            for _ in 0..records / 64 {
                wal.append_batch(&batch).wait().expect("durable");
            }
        },
        move |path| {
            let wal = ours(path);
            let mut reader = wal.reader(wal.first()).expect("a reader");
            let mut read = 0;
            while let Some(record) = reader.next_ready().expect("no damage") {
                read += record.bytes.len() as u64;
            }
            assert_eq!(read, RECOVERED_BYTES);
        },
    );
    let okay = recovering(
        "okaywal",
        |path| {
            let log = okay(path, Nothing);
            for _ in 0..records / 64 {
                let mut entry = log.begin_entry().expect("an entry");
                for _ in 0..64 {
                    entry.write_chunk(&record()).expect("written");
                }
                entry.commit().expect("durable");
            }
            // Closing it in order would hand everything over as a checkpoint.
            drop(log);
        },
        |path| {
            let counted = Counted::default();
            let log = okay(path, counted.clone());
            assert_eq!(counted.0.load(Ordering::Relaxed), RECOVERED_BYTES);
            drop(log);
        },
    );
    let raft = recovering(
        "raft-engine",
        |path| {
            let engine = raft(path);
            for at in 0..records / 64 {
                let mut batch = LogBatch::default();
                for key in 0..64 {
                    let key = (at * 64 + key).to_le_bytes().to_vec();
                    batch.put(1, key, record().to_vec()).expect("a batch");
                }
                engine.write(&mut batch, false).expect("written");
            }
            engine.sync().expect("durable");
        },
        |path| drop(raft(path)),
    );
    let fjall = recovering(
        "fjall",
        |path| {
            let (database, log) = fjall(path);
            for key in 0..records {
                log.insert(key.to_be_bytes(), record()).expect("inserted");
            }
            database.persist(PersistMode::SyncData).expect("durable");
        },
        move |path| {
            let (_database, log) = fjall(path);
            assert_eq!(log.len().expect("read") as u64, records);
        },
    );
    Case::new(
        "wal",
        "recovery",
        "Opens a log of 32 MiB and reads it all; time is given per MiB.",
        ours,
        vec![okay, raft, fjall],
    )
    .items(RECOVERED_BYTES >> 20)
}

/// Makes a log once, and opens a copy of it again and again.
fn recovering(name: &str, make: impl FnOnce(&Path), open: impl Fn(&Path) + 'static) -> Contender {
    let original = directory();
    make(original.path());
    Contender::told(name, crate::versions::of(name), move || {
        let copy = directory();
        copy_all(original.path(), copy.path()).expect("copied");
        let start = Instant::now();
        open(copy.path());
        nanos(start)
    })
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_all(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one run")]
fn nanos(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64
}

fn ours(path: &Path) -> Wal<FsStorage> {
    let storage = FsStorage::open(path).expect("a directory");
    let (wal, _) = Wal::open(storage, Config::default()).expect("a log");
    wal
}

/// With room for all that is recovered: it keeps what is not yet handed over as a checkpoint.
fn okay(path: &Path, manager: impl LogManager) -> WriteAheadLog {
    let configuration = okaywal::Configuration::default_for(path)
        .preallocate_bytes(PREALLOCATED_BYTES)
        .checkpoint_after_bytes(u64::MAX);
    configuration.open(manager).expect("a log")
}

fn raft(path: &Path) -> raft_engine::Engine {
    let config = raft_engine::Config {
        dir: path.to_string_lossy().into_owned(),
        ..raft_engine::Config::default()
    };
    raft_engine::Engine::open(config).expect("an engine")
}

fn fjall(path: &Path) -> (fjall::Database, fjall::Keyspace) {
    let database = fjall::Database::builder(path).open().expect("a database");
    let log = database
        .keyspace("log", fjall::KeyspaceCreateOptions::default)
        .expect("a keyspace");
    (database, log)
}

/// Wants nothing of a recovery, and has nothing to keep of what is checkpointed.
#[derive(Debug)]
struct Nothing;

impl LogManager for Nothing {
    fn recover(&mut self, _entry: &mut Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

/// Reads every chunk of a recovery.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<AtomicU64>);

impl LogManager for Counted {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(mut chunk) = match entry.read_chunk()? {
            okaywal::ReadChunkResult::Chunk(chunk) => Some(chunk),
            _ => None,
        } {
            bytes.clear();
            chunk.read_to_end(&mut bytes)?;
            self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}
