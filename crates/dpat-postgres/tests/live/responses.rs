//! The laws of a response store, and its limits.

use std::sync::Arc;

use dpat_idempotency::conformance::{self, Harness, Placed, response_laws, store_laws};
use dpat_postgres::{Config, ResponseLimits, ResponseStore};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// A store with its tables, which the laws reopen.
type World = Placed<ResponseStore, Arc<Config>>;

fn world(place: Arc<Config>) -> World {
    let store = run(ResponseStore::open(&place, ResponseLimits::DEFAULT)).unwrap();
    Placed { store, place }
}

struct OnServer;

impl Harness for OnServer {
    type Store = World;
    fn fresh(&self) -> World {
        world(Arc::new(kit::config(&kit::url())))
    }
    fn reopen(&self, store: World) -> World {
        let Placed { place, store } = store;
        drop(store);
        world(place)
    }
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(future)
    }
}

fn postgres_keeps_the_laws_of_responses(live: &Live) -> Trial {
    let mut laws = Law::plain(store_laws(), || OnServer);
    laws.extend(Law::plain(response_laws(), || OnServer));
    live.laws("responses", laws)
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        postgres_keeps_the_laws_of_responses(live),
        live.trial(
            "a_full_store_refuses_new_keys",
            a_full_store_refuses_new_keys,
        ),
    ]
}

fn a_full_store_refuses_new_keys(url: &str) -> Result<(), Failed> {
    let open = |rows, bytes| {
        let limits = ResponseLimits { rows, bytes };
        run(ResponseStore::open(&kit::config(url), limits)).unwrap()
    };
    Ok(conformance::a_full_store_refuses_new_keys(
        &OnServer, 12, open,
    )?)
}
