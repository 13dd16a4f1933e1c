//! The face that does everything, and the errors.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, ManualTime, SplitMix64};
use dpat_idempotency::{
    AnyStore, BeginError, Begun, Config, Fingerprint, FinishError, InDoubt, MemoryStore, OnDoubt,
    Responses, RunError, Store, StoreError,
};
use dpat_testkit::{assert_send_static, assert_send_sync};

use crate::world::{Cut, Effects, Failed, LEASE, Shaky, body, key, responses, run};

#[test]
fn an_operation_runs_once_and_is_answered_alike() {
    let responses = responses(MemoryStore::new(), &ManualTime::new(), 1);
    let effects = Effects::default();
    for call in 0..3 {
        let answer = run(responses.run(&key(), body(), |attempt| {
            assert_eq!(attempt, 1);
            effects.clone().act()
        }));
        let answer = answer.unwrap();
        assert_eq!(answer.response, "charged");
        assert_eq!(answer.replayed, call > 0);
    }
    assert_eq!(effects.count(), 1);
}

#[test]
fn a_failure_without_effect_frees_the_key() {
    let responses = responses(MemoryStore::new(), &ManualTime::new(), 1);
    let failed = run(responses.run(&key(), body(), |_| async { Err(Failed(Effect::NotDone)) }));
    assert!(matches!(
        failed,
        Err(RunError::Inner(Failed(Effect::NotDone)))
    ));
    let again = run(responses.run(&key(), body(), |_| Effects::default().act()));
    assert!(!again.unwrap().replayed);
}

#[test]
fn a_failure_with_unknown_effect_is_doubt_at_once() {
    let time = ManualTime::new();
    let responses = responses(MemoryStore::new(), &time, 1);
    let failed = run(responses.run(&key(), body(), |_| async { Err(Failed(Effect::Unknown)) }));
    let error = failed.unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::Unknown)
    );
    let effects = Effects::default();
    let again = run(responses.run(&key(), body(), |_| effects.clone().act()));
    let error = again.unwrap_err();
    assert!(
        matches!(error, RunError::Begin(BeginError::InDoubt { .. })),
        "{error}"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::Unknown)
    );
    assert_eq!(effects.count(), 0);
    let page = run(responses.in_doubt(None, 10)).unwrap();
    let InDoubt {
        key: found,
        attempts,
        fingerprint,
        ..
    } = page.items[0].clone();
    assert_eq!((found, attempts, fingerprint), (key(), 1, body()));
}

#[test]
fn a_response_that_is_not_stored_is_still_the_callers() {
    // The store dies after the claim.
    let store = Shaky::cut(1, Cut::Before, true);
    let time = ManualTime::new();
    let responses = responses(AnyStore::new(store), &time, 1);
    match run(responses.run(&key(), body(), |_| Effects::default().act())) {
        Err(RunError::NotStored { response, error }) => {
            assert_eq!(response, "charged");
            assert!(matches!(error, FinishError::Store(_)), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_answer_of_the_store_changes_nothing() {
    // Whichever call it is, and whether it took effect or not: the caller sees a success, and the effect happens once.
    for cut in [Cut::Before, Cut::After] {
        for at in 0.. {
            let store = Shaky::cut(at, cut, false);
            let time = ManualTime::new();
            let responses = responses(AnyStore::new(store.clone()), &time, 1);
            let effects = Effects::default();
            let first = run(responses.run(&key(), body(), |_| effects.clone().act()));
            let whole = store.calls() <= at;
            match first {
                Ok(answer) => assert!(!answer.replayed && effects.count() == 1),
                Err(other) => panic!("{cut:?} {at}: {other}"),
            }
            if whole {
                assert_eq!(at, 2, "an insert to begin, and a swap to complete");
                break;
            }
        }
    }
}

#[test]
fn a_new_key_is_one_call_of_the_store_before_the_operation_and_one_behind_it() {
    let store = Shaky::sound();
    let time = ManualTime::new();
    let responses = responses(AnyStore::new(store.clone()), &time, 1);
    let calls = |work: &dyn Fn()| {
        let before = store.calls();
        work();
        store.calls() - before
    };
    let act = |claims: u64| {
        let (key, before) = (key(), store.calls());
        let acted = responses.run(&key, body(), |_| {
            assert_eq!(store.calls() - before, claims, "before the operation");
            Effects::default().act()
        });
        run(acted).unwrap()
    };
    assert_eq!(calls(&|| assert!(!act(1).replayed)), 2);
    assert_eq!(calls(&|| assert!(act(1).replayed)), 1, "a repetition");
    let other = run(responses.begin(&key(), Fingerprint::NONE));
    assert!(matches!(other, Err(BeginError::Reused)), "{other:?}");
    // What has expired is found, and taken.
    time.advance(Config::default().retention());
    assert_eq!(calls(&|| assert!(!act(2).replayed)), 4);
}

#[test]
fn a_store_without_an_insert_of_its_own_is_asked_once_for_a_new_key() {
    /// Everything but an insert.
    struct Plain(Shaky);

    #[async_trait::async_trait]
    impl Store for Plain {
        async fn load(
            &self,
            key: &dpat_idempotency::Key,
        ) -> Result<Option<dpat_idempotency::Row>, StoreError> {
            self.0.load(key).await
        }
        async fn swap(
            &self,
            key: &dpat_idempotency::Key,
            expected: Option<dpat_idempotency::Version>,
            change: dpat_idempotency::Change,
        ) -> Result<dpat_idempotency::Swap, StoreError> {
            self.0.swap(key, expected, change).await
        }
        async fn scan(
            &self,
            after: Option<&dpat_idempotency::Key>,
            max: usize,
        ) -> Result<Vec<(dpat_idempotency::Key, dpat_idempotency::Row)>, StoreError> {
            self.0.scan(after, max).await
        }
        async fn purge(&self, now: dpat_core::Wall, max: usize) -> Result<usize, StoreError> {
            self.0.purge(now, max).await
        }
    }
    let store = Shaky::sound();
    let responses = responses(AnyStore::new(Plain(store.clone())), &ManualTime::new(), 1);
    let claim = match run(responses.begin(&key(), body())).unwrap() {
        Begun::First(claim) => claim,
        Begun::Replay(response) => panic!("{response:?}"),
    };
    assert_eq!(store.calls(), 1);
    let busy = run(responses.begin(&key(), body()));
    assert!(matches!(busy, Err(BeginError::Busy { .. })), "{busy:?}");
    assert_eq!(store.calls(), 3, "a swap that is refused, and a load");
    run(claim.complete("ok".into())).unwrap();
    assert_eq!(store.calls(), 5, "its version is not known");
    match run(responses.begin(&key(), body())).unwrap() {
        Begun::Replay(response) => assert_eq!(response, "ok"),
        Begun::First(_) => panic!("it is done"),
    }
}

#[test]
fn contention_is_bounded_and_named() {
    /// A store in which somebody else is always first.
    #[derive(Clone)]
    struct Crowded;

    #[async_trait::async_trait]
    impl Store for Crowded {
        async fn load(
            &self,
            _: &dpat_idempotency::Key,
        ) -> Result<Option<dpat_idempotency::Row>, StoreError> {
            Ok(None)
        }
        async fn swap(
            &self,
            _: &dpat_idempotency::Key,
            _: Option<dpat_idempotency::Version>,
            _: dpat_idempotency::Change,
        ) -> Result<dpat_idempotency::Swap, StoreError> {
            Ok(dpat_idempotency::Swap::Conflict)
        }
        async fn scan(
            &self,
            _: Option<&dpat_idempotency::Key>,
            _: usize,
        ) -> Result<Vec<(dpat_idempotency::Key, dpat_idempotency::Row)>, StoreError> {
            Ok(Vec::new())
        }
        async fn purge(&self, _: dpat_core::Wall, _: usize) -> Result<usize, StoreError> {
            Ok(0)
        }
    }
    let responses = responses(AnyStore::new(Crowded), &ManualTime::new(), 1);
    let error = run(responses.begin(&key(), body())).unwrap_err();
    assert_eq!(error.to_string(), "races: lost 16 in a row for the key");
    assert!(error.is_safe_to_retry());
}

#[test]
fn a_damaged_row_is_corrupt_and_not_new() {
    let store = MemoryStore::new();
    let change = dpat_idempotency::Change::Put {
        bytes: Bytes::from_static(b"\x09rubbish"),
        expires: None,
    };
    run(store.swap(&key(), None, change)).unwrap();
    let responses = responses(store, &ManualTime::new(), 1);
    let error = run(responses.begin(&key(), body())).unwrap_err();
    assert!(matches!(error, BeginError::Corrupt(_)));
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::Unknown)
    );
    assert!(matches!(
        run(responses.in_doubt(None, 1)),
        Err(FinishError::Corrupt(_))
    ));
}

#[test]
fn busy_says_how_long() {
    let time = ManualTime::new();
    let responses = responses(MemoryStore::new(), &time, 1);
    let _claim = run(responses.begin(&key(), body())).unwrap();
    time.advance(Duration::from_secs(20));
    let error = run(responses.begin(&key(), body())).unwrap_err();
    assert_eq!(error.retry_after(), Some(LEASE - Duration::from_secs(20)));
    assert!(error.is_safe_to_retry());
    let error = run(responses.begin(&key(), Fingerprint::NONE)).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
}

#[test]
fn retaken_doubt_counts_its_attempts() {
    let config = Config::builder().on_doubt(OnDoubt::Retake).build().unwrap();
    let time = ManualTime::new();
    let responses = Responses::new(config, MemoryStore::new(), time.clone(), SplitMix64::new(1));
    for expected in 1..4 {
        match run(responses.begin(&key(), body())).unwrap() {
            Begun::First(claim) => assert_eq!(claim.attempt(), expected),
            Begun::Replay(_) => panic!("nothing was answered"),
        }
        time.advance(LEASE);
    }
}

#[test]
fn handles_and_futures_can_be_sent() {
    assert_send_sync::<Responses>();
    assert_send_sync::<dpat_idempotency::Claim>();
    assert_send_sync::<StoreError>();
    let time = ManualTime::new();
    let responses = responses(MemoryStore::new(), &time, 1);
    drop(assert_send_static(async move {
        let key = key();
        let run = responses.run(&key, body(), |_| async { Ok::<_, Failed>(Bytes::new()) });
        drop(run.await);
        responses.keep_swept(LEASE, 10).await
    }));
}

#[test]
fn sweeping_goes_on_for_ever() {
    let store = MemoryStore::new();
    let time = ManualTime::new();
    let responses = responses(store.clone(), &time, 1);
    let mut sweeper = dpat_testkit::Task::new(responses.keep_swept(Duration::from_secs(60), 2));
    for round in 0..3_u32 {
        for number in 0..5_u32 {
            let key = dpat_idempotency::Key::new("s", &format!("{round}-{number}")).unwrap();
            let act = |_| async { Ok::<_, Failed>(Bytes::new()) };
            run(responses.run(&key, body(), act)).unwrap();
        }
        sweeper.assert_pending();
        assert_eq!(store.len(), 5, "within the retention");
        time.advance(Duration::from_secs(24 * 3600));
        assert!(sweeper.is_woken());
        sweeper.assert_pending();
        assert!(store.is_empty(), "all of them, in steps of two");
    }
}

#[test]
fn sweeping_ends_with_a_store_that_will_not_come_back() {
    let time = ManualTime::new();
    // Timeouts pass by themselves: it goes on.
    let shaky = Shaky::cut(0, Cut::Before, false);
    let sweeping = responses(AnyStore::new(shaky), &time, 1);
    let mut sweeper = dpat_testkit::Task::new(sweeping.keep_swept(LEASE, 2));
    while sweeper.poll().is_pending() && sweeper.is_woken() {}
    assert_eq!(time.sleepers(), 1);
}
