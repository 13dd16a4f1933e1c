//! The stores in files, on redb and on SQLite: durable when they say so, also after a kill.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpat_cases::shop::service::ports::{Store, StoreError, Table, Write};
use dpat_cases::shop::shell::{NodeStore, StoreOwner, redb, sqlite};
use dpat_core::{Uuid7Generator, Wall};
use dpat_outbox::Event;
use tempfile::TempDir;

const TABLE: Table = Table("things");

type Open = fn(&Path, Arc<AtomicBool>) -> Result<(NodeStore, StoreOwner), StoreError>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// The file of one store, on one engine.
struct Place {
    _folder: TempDir,
    path: PathBuf,
    open: Open,
}

impl Place {
    fn open(&self) -> (NodeStore, StoreOwner) {
        self.open_until(&Arc::default())
    }

    fn open_until(&self, severed: &Arc<AtomicBool>) -> (NodeStore, StoreOwner) {
        (self.open)(&self.path, Arc::clone(severed)).unwrap()
    }

    fn rows(&self) -> Vec<(String, Vec<u8>)> {
        let (store, owner) = self.open();
        let rows = runtime().block_on(store.read(|tx| {
            let mut rows = Vec::new();
            tx.scan(TABLE, "", &mut |key, row| {
                rows.push((key.to_owned(), row.to_vec()));
                true
            })?;
            Ok(rows)
        }));
        drop(store);
        owner.join().unwrap();
        rows.unwrap()
    }
}

/// On each engine that keeps its store in a file.
fn on_each(test: fn(&Place)) {
    let engines: [Open; 2] = [redb::open, sqlite::open];
    for open in engines {
        let folder = tempfile::tempdir().unwrap();
        test(&Place {
            path: folder.path().join("store"),
            _folder: folder,
            open,
        });
    }
}

#[test]
fn many_transactions_share_a_commit_and_all_are_durable() {
    on_each(|place| {
        let (store, owner) = place.open();
        runtime().block_on(async {
            let all = (0..500_u32).map(|number| {
                store.transact(move |tx| {
                    tx.put(TABLE, &format!("{number:03}"), &number.to_le_bytes())
                })
            });
            for done in futures_util::future::join_all(all).await {
                done.unwrap();
            }
        });
        drop(store);
        owner.join().unwrap();
        assert_eq!(place.rows().len(), 500);
    });
}

#[test]
fn a_transaction_sees_those_before_it_in_its_group() {
    on_each(|place| {
        let (store, owner) = place.open();
        let count = || {
            store.transact(|tx| {
                let next = tx.get(TABLE, "n")?.map_or(0, |row| row[0]) + 1;
                tx.put(TABLE, "n", &[next])?;
                Ok(next)
            })
        };
        let seen = runtime().block_on(futures_util::future::join_all((0..50).map(|_| count())));
        let seen: Vec<u8> = seen.into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, (1..=50).collect::<Vec<u8>>());
        drop(store);
        owner.join().unwrap();
    });
}

#[test]
fn a_scan_finds_what_begins_with_its_prefix_and_stops_when_told() {
    on_each(|place| {
        let (store, owner) = place.open();
        let put = store.transact(|tx| {
            for key in ["a", "a/1", "a/2", "a/\u{fffd}", "a0", "b/1"] {
                tx.put(TABLE, key, b"")?;
            }
            tx.remove(TABLE, "a/2")
        });
        let runtime = runtime();
        runtime.block_on(put).unwrap();
        let keys = |max: usize| {
            let found = store.read(move |tx| {
                let mut keys = Vec::new();
                tx.scan(TABLE, "a/", &mut |key, _| {
                    keys.push(key.to_owned());
                    keys.len() < max
                })?;
                Ok(keys)
            });
            runtime.block_on(found).unwrap()
        };
        assert_eq!(keys(9), ["a/1", "a/\u{fffd}"]);
        assert_eq!(keys(1), ["a/1"]);
        drop(store);
        owner.join().unwrap();
    });
}

#[test]
fn a_killed_store_keeps_what_it_acknowledged_and_takes_no_more() {
    on_each(|place| {
        let severed = Arc::new(AtomicBool::new(false));
        let (store, owner) = place.open_until(&severed);
        let runtime = runtime();
        runtime
            .block_on(store.transact(|tx| tx.put(TABLE, "before", b"1")))
            .unwrap();
        severed.store(true, Ordering::Release);
        let after = runtime.block_on(store.transact(|tx| tx.put(TABLE, "after", b"1")));
        assert!(matches!(
            after,
            Err(StoreError::Engine(_) | StoreError::Closed)
        ));
        drop(store);
        owner.join().unwrap();
        // Opening repairs what the kill left.
        let keys: Vec<String> = place.rows().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["before"]);
    });
}

#[test]
fn an_error_in_a_transaction_keeps_nothing_of_it_and_tells_nothing() {
    on_each(|place| {
        let (store, owner) = place.open();
        let runtime = runtime();
        let id = Uuid7Generator::new();
        let now = Wall::from_nanos(1_000_000_000);
        let event = Event::builder(id.next(now, &dpat_core::SystemEntropy).unwrap(), "things");
        let event = event.key("half").build().unwrap();
        let failed: Result<(), StoreError> = runtime.block_on(store.transact(move |tx| {
            tx.append(&event, now)?;
            tx.put(TABLE, "half", b"1")?;
            Err(StoreError::Engine("no".to_owned()))
        }));
        assert_eq!(failed, Err(StoreError::Engine("no".to_owned())));
        drop(store);
        owner.join().unwrap();
        assert_eq!(place.rows(), []);
        let (store, owner) = place.open();
        assert_eq!(runtime.block_on(store.backlog()), Ok(0));
        drop(store);
        owner.join().unwrap();
    });
}

#[test]
fn a_file_that_somebody_else_holds_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (store, owner) = sqlite::open(&path, Arc::default()).unwrap();
    let held = sqlite::Holder::take(&path).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let put = store.transact(|tx: &mut dyn Write| tx.put(TABLE, "a", b"1"));
        let mut put = std::pin::pin!(put);
        let early = futures_util::poll!(&mut put);
        assert!(early.is_pending());
        // Who looks waits for nobody.
        assert_eq!(store.read(|tx| tx.get(TABLE, "a")).await, Ok(None));
        drop(held);
        put.await.unwrap();
    });
    drop(store);
    owner.join().unwrap();
}
