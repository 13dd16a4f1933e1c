//! The laws hold in memory, and memory is bounded.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, ManualTime};
use dpat_idempotency::conformance::Harness;
use dpat_idempotency::conformance::{response_laws, store_laws};
use dpat_idempotency::{BeginError, Begun, Fingerprint, Key, MemoryStore};
use dpat_testkit::live::{Law, conformance};

use crate::world::{Shaky, responses, run};

struct InMemory;

impl Harness for InMemory {
    type Store = MemoryStore;

    fn fresh(&self) -> MemoryStore {
        MemoryStore::new()
    }

    fn reopen(&self, store: MemoryStore) -> MemoryStore {
        store
    }
}

dpat_idempotency::store_laws!(InMemory);
dpat_idempotency::response_laws!(InMemory);

/// The same behind the port, with an await in every call.
mod behind_the_port {
    use super::{Harness, Shaky};

    struct Behind;

    impl Harness for Behind {
        type Store = Shaky;

        fn fresh(&self) -> Shaky {
            Shaky::sound()
        }

        fn reopen(&self, store: Shaky) -> Shaky {
            store
        }
    }

    dpat_idempotency::store_laws!(Behind);
    dpat_idempotency::response_laws!(Behind);
}

fn id(number: usize) -> Key {
    Key::new("s", &format!("{number:04}")).unwrap()
}

#[test]
fn a_full_store_refuses_new_keys_and_keeps_the_old() {
    let store = MemoryStore::with_limits(3, 10_000);
    let time = ManualTime::new();
    let responses = responses(store.clone(), &time, 1);
    run(async {
        for number in 0..3 {
            assert!(matches!(
                responses.begin(&id(number), Fingerprint::NONE).await,
                Ok(Begun::First(_))
            ));
        }
        let error = responses
            .begin(&id(3), Fingerprint::NONE)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "store: rows: the limit of 3 is reached");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
        // The old ones go on, also once they are in doubt.
        time.advance(Duration::from_secs(1_000_000));
        for number in 0..3 {
            let begun = responses.begin(&id(number), Fingerprint::NONE).await;
            assert!(matches!(begun, Err(BeginError::InDoubt { .. })));
        }
        assert_eq!(store.len(), 3);
    });
}

#[test]
fn expired_responses_make_room() {
    let store = MemoryStore::with_limits(3, 10_000);
    let time = ManualTime::new();
    let responses = responses(store.clone(), &time, 1);
    run(async {
        for number in 0..12 {
            match responses.begin(&id(number), Fingerprint::NONE).await {
                Ok(Begun::First(claim)) => claim.complete(Bytes::from_static(b"ok")).await.unwrap(),
                other => panic!("{number}: {other:?}"),
            }
            assert!(store.len() <= 3);
            // Three fit within the retention.
            time.advance(Duration::from_secs(8 * 3600));
        }
    });
}

#[test]
fn bytes_are_limited_and_counted() {
    let store = MemoryStore::with_limits(100, 400);
    let time = ManualTime::new();
    let responses = responses(store.clone(), &time, 1);
    run(async {
        let Ok(Begun::First(claim)) = responses.begin(&id(0), Fingerprint::NONE).await else {
            panic!("the store is empty");
        };
        let error = claim.complete(vec![0; 400].into()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "store: bytes: the limit of 400 is reached"
        );
        // The claim is still held: a shorter answer fits.
        claim.complete(vec![0; 200].into()).await.unwrap();
        assert!(store.bytes() > 200 && store.bytes() <= 400);
        time.advance(Duration::from_secs(24 * 3600));
        assert_eq!(responses.sweep(9).await.unwrap(), 1);
        assert!(store.is_empty() && store.bytes() == 0);
    });
}

#[test]
fn a_response_above_the_limit_is_refused_by_name() {
    let time = ManualTime::new();
    let responses = responses(MemoryStore::new(), &time, 1);
    run(async {
        let Ok(Begun::First(claim)) = responses.begin(&id(0), Fingerprint::NONE).await else {
            panic!("the store is empty");
        };
        let error = claim
            .complete(vec![0; (1 << 20) + 1].into())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "response: 1048577 bytes are more than 1048576"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::InvalidInput, Effect::NotDone)
        );
    });
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let mut laws = Law::plain(store_laws(), || InMemory);
    laws.extend(Law::plain(response_laws(), || InMemory));
    conformance("memory", "responses", laws).unwrap();
}
