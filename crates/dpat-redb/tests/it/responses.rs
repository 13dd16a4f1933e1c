//! The laws of a response store, in memory, on a file, and on blocking threads.

use std::sync::Arc;

use dpat_idempotency::conformance::{Harness, Placed, response_laws, store_laws};
use dpat_redb::redb::Database;
use dpat_redb::{Config, ResponseLimits, ResponseStore, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, memory};

/// A store with its database, and the folder of that, if it has one; the laws reopen it.
type OnRedb = Placed<ResponseStore, (Arc<Database>, Option<Folder>)>;

fn on_redb(database: Arc<Database>, folder: Option<Folder>, threads: Threads) -> OnRedb {
    let config = Config::new("responses").unwrap().threads(threads);
    let store = ResponseStore::open(Arc::clone(&database), &config, ResponseLimits::DEFAULT);
    Placed {
        store: store.unwrap(),
        place: (database, folder),
    }
}

fn reopened(placed: OnRedb, threads: Threads) -> OnRedb {
    let Placed { store, place } = placed;
    drop(store);
    let (database, folder) = place;
    let database = match &folder {
        Some(folder) => match Arc::try_unwrap(database) {
            Ok(database) => {
                drop(database);
                folder.open()
            }
            // A clone is alive: as two handles of one process.
            Err(database) => database,
        },
        None => database,
    };
    on_redb(database, folder, threads)
}

struct InMemory;

impl Harness for InMemory {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        on_redb(memory(), None, Threads::Caller)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        reopened(store, Threads::Caller)
    }
}

struct OnFile;

impl Harness for OnFile {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        let folder = Folder::new();
        on_redb(folder.open(), Some(folder), Threads::Caller)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        reopened(store, Threads::Caller)
    }
}

struct OnThreads;

impl Harness for OnThreads {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        on_redb(memory(), None, Threads::TokioBlocking)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        reopened(store, Threads::TokioBlocking)
    }
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
}

mod in_memory {
    dpat_idempotency::response_laws!(super::InMemory);
    dpat_idempotency::store_laws!(super::InMemory);
}

mod on_file {
    dpat_idempotency::response_laws!(super::OnFile);
    dpat_idempotency::store_laws!(super::OnFile);
}

mod on_threads {
    dpat_idempotency::response_laws!(super::OnThreads);
    dpat_idempotency::store_laws!(super::OnThreads);
}

#[test]
fn a_full_store_refuses_new_keys() {
    let open = |rows, bytes| {
        let config = Config::new("responses").unwrap();
        ResponseStore::open(memory(), &config, ResponseLimits { rows, bytes }).unwrap()
    };
    dpat_idempotency::conformance::a_full_store_refuses_new_keys(&InMemory, 12, open).unwrap();
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let mut laws = Law::plain(store_laws(), || OnFile);
    laws.extend(Law::plain(response_laws(), || OnFile));
    conformance("redb", "responses", laws).unwrap();
}
