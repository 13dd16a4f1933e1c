//! The store on redb: durable when it says so, also after a kill.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpat_cases::shop::service::ports::{Store, StoreError, Table};
use dpat_cases::shop::shell::redb;

const TABLE: Table = Table("things");

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn rows(path: &Path) -> Vec<(String, Vec<u8>)> {
    let (store, owner) = redb::open(path, Arc::new(AtomicBool::new(false))).unwrap();
    let mut rows = Vec::new();
    store
        .read(|tx| {
            tx.scan(TABLE, "", &mut |key, row| {
                rows.push((key.to_owned(), row.to_vec()));
                true
            })
        })
        .unwrap();
    drop(store);
    owner.join().unwrap();
    rows
}

#[test]
fn many_transactions_share_a_commit_and_all_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, owner) = redb::open(&path, Arc::new(AtomicBool::new(false))).unwrap();
    runtime().block_on(async {
        let all = (0..500_u32).map(|number| {
            store.transact(move |tx| tx.put(TABLE, &format!("{number:03}"), &number.to_le_bytes()))
        });
        for done in futures_util::future::join_all(all).await {
            done.unwrap();
        }
    });
    drop(store);
    owner.join().unwrap();
    assert_eq!(rows(&path).len(), 500);
}

#[test]
fn a_transaction_sees_those_before_it_in_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, owner) = redb::open(&path, Arc::new(AtomicBool::new(false))).unwrap();
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
}

#[test]
fn a_killed_store_keeps_what_it_acknowledged_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let severed = Arc::new(AtomicBool::new(false));
    let (store, owner) = redb::open(&path, Arc::clone(&severed)).unwrap();
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
    let keys: Vec<String> = rows(&path).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["before"]);
}

#[test]
fn an_error_in_a_transaction_keeps_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, owner) = redb::open(&path, Arc::new(AtomicBool::new(false))).unwrap();
    let failed: Result<(), StoreError> = runtime().block_on(store.transact(|tx| {
        tx.put(TABLE, "half", b"1")?;
        Err(StoreError::Engine("no".to_owned()))
    }));
    assert_eq!(failed, Err(StoreError::Engine("no".to_owned())));
    drop(store);
    owner.join().unwrap();
    assert_eq!(rows(&path), []);
}
