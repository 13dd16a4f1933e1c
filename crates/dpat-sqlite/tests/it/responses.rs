//! The laws of a response store, on the caller's thread and on blocking threads.

use dpat_idempotency::conformance::{Harness, Placed, response_laws, store_laws};
use dpat_sqlite::{ResponseLimits, ResponseStore, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::Folder;

/// A store with its file, which the laws reopen.
type OnSqlite = Placed<ResponseStore, Folder>;

fn on_sqlite(place: Folder, threads: Threads) -> OnSqlite {
    let config = place.config().threads(threads);
    let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).unwrap();
    Placed { store, place }
}

macro_rules! harness {
    ($name:ident, $threads:expr $(, $run:item)?) => {
        struct $name;

        impl Harness for $name {
            type Store = OnSqlite;
            fn fresh(&self) -> OnSqlite {
                on_sqlite(Folder::new(), $threads)
            }
            fn reopen(&self, store: OnSqlite) -> OnSqlite {
                let Placed { store, place } = store;
                drop(store);
                on_sqlite(place, $threads)
            }
            $($run)?
        }
    };
}

harness!(OnFile, Threads::Caller);

harness!(
    OnThreads,
    Threads::TokioBlocking,
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
);

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
        let place = Folder::new();
        let limits = ResponseLimits { rows, bytes };
        let store = ResponseStore::open(&place.config(), limits).unwrap();
        Placed { store, place }
    };
    dpat_idempotency::conformance::a_full_store_refuses_new_keys(&OnFile, 12, open).unwrap();
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let mut laws = Law::plain(store_laws(), || OnFile);
    laws.extend(Law::plain(response_laws(), || OnFile));
    conformance("sqlite", "responses", laws).unwrap();
}
