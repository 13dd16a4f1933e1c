//! A response store in a key-value bucket.

use std::future::Future;

use dpat_nats::dpat_idempotency::conformance::{Harness, Placed, response_laws, store_laws};
use dpat_nats::{ResponseStore, StoreSettings};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::Trial;

use super::kit::{block_on, connect, name};

/// A store with the name of its bucket, which the laws open again.
type Bucket = Placed<ResponseStore, String>;

fn bucket(place: String) -> Bucket {
    let url = std::env::var("DPAT_NATS_URL").unwrap_or_default();
    let connection = connect(&url).expect("a server that is there");
    let settings = StoreSettings::new(&place).expect("a name");
    // Servers set the bytes aside when a bucket is made.
    let settings = settings.bytes_max(4 << 20);
    let store = block_on(ResponseStore::open(&connection, settings)).expect("a bucket");
    Placed { store, place }
}

struct Buckets;

impl Harness for Buckets {
    type Store = Bucket;

    fn fresh(&self) -> Bucket {
        bucket(name("responses"))
    }

    fn reopen(&self, store: Bucket) -> Bucket {
        let Placed { place, store } = store;
        drop(store);
        bucket(place)
    }

    fn row_bytes_max(&self) -> usize {
        // A server's `max_payload`, unless told otherwise, without room for headers.
        (1 << 20) - (1 << 10)
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }
}

fn nats_keeps_the_laws_of_responses(live: &Live) -> Trial {
    let laws = store_laws().into_iter().chain(response_laws()).collect();
    live.laws("responses", Law::plain(laws, || Buckets))
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![nats_keeps_the_laws_of_responses(live)]
}
