//! Every future is dropped at every await.

use bytes::Bytes;
use dpat_core::ManualTime;
use dpat_idempotency::{AnyStore, BeginError, Begun, FinishError, Responses};
use dpat_testkit::{End, drop_at_every_await};

use crate::world::{LEASE, Shaky, body, key, responses, run};

struct State {
    responses: Responses<ManualTime>,
    time: ManualTime,
}

fn state() -> State {
    let time = ManualTime::new();
    let responses = responses(AnyStore::new(Shaky::sound()), &time, 1);
    State { responses, time }
}

fn claimed() -> (State, dpat_idempotency::Claim<ManualTime>) {
    let state = state();
    match run(state.responses.begin(&key(), body())).unwrap() {
        Begun::First(claim) => (state, claim),
        Begun::Replay(_) => panic!("nothing was answered"),
    }
}

#[test]
fn a_begin_may_be_dropped_at_every_await() {
    let mut ends = std::collections::BTreeSet::new();
    let awaits = drop_at_every_await(
        || {
            let state = state();
            let responses = state.responses.clone();
            (async move { responses.begin(&key(), body()).await }, state)
        },
        |_| (),
        |state, end| {
            let dropped = end.is_dropped();
            drop(end);
            let again = run(state.responses.begin(&key(), body()));
            ends.insert(match again {
                Ok(Begun::First(_)) => "free",
                Err(BeginError::Busy { .. }) => "busy",
                other => panic!("{other:?}"),
            });
            if !dropped {
                return;
            }
            // Never worse than this.
            state.time.advance(LEASE);
            let again = run(state.responses.begin(&key(), body()));
            assert!(matches!(again, Err(BeginError::InDoubt { .. })));
        },
    );
    assert_eq!(awaits, 2);
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["busy", "free"]);
}

#[test]
fn a_completion_may_be_dropped_at_every_await_and_repeated() {
    let awaits = drop_at_every_await(
        || {
            let (state, claim) = claimed();
            let claim = std::rc::Rc::new(claim);
            let held = std::rc::Rc::clone(&claim);
            let future = async move { held.complete(Bytes::from_static(b"ok")).await };
            (future, (state, claim))
        },
        |_| (),
        |(state, claim), _end| {
            run(claim.complete(Bytes::from_static(b"ok"))).unwrap();
            match run(state.responses.begin(&key(), body())).unwrap() {
                Begun::Replay(response) => assert_eq!(response, "ok"),
                Begun::First(_) => panic!("the response is lost"),
            }
        },
    );
    assert_eq!(awaits, 2);
}

#[test]
fn a_release_may_be_dropped_at_every_await_and_repeated() {
    drop_at_every_await(
        || {
            let (state, claim) = claimed();
            let claim = std::rc::Rc::new(claim);
            let held = std::rc::Rc::clone(&claim);
            (async move { held.release().await }, (state, claim))
        },
        |_| (),
        |(state, claim), _end| {
            run(claim.release()).unwrap();
            assert!(matches!(
                run(state.responses.begin(&key(), body())),
                Ok(Begun::First(_))
            ));
        },
    );
}

#[test]
fn an_extension_may_be_dropped_at_every_await_and_repeated() {
    drop_at_every_await(
        || {
            let (state, claim) = claimed();
            let claim = std::rc::Rc::new(std::cell::RefCell::new(Some(claim)));
            let held = std::rc::Rc::clone(&claim);
            let future = async move {
                let mut mine = held.borrow_mut().take().unwrap();
                let extended = mine.extend().await;
                *held.borrow_mut() = Some(mine);
                extended
            };
            (future, state)
        },
        |state| state.time.advance(LEASE / 60),
        |state, end| {
            if let End::Completed(extended) = end {
                extended.unwrap();
            }
            // Held for a lease from its beginning or from the extension.
            let again = run(state.responses.begin(&key(), body()));
            assert!(matches!(again, Err(BeginError::Busy { .. })));
        },
    );
}

#[test]
fn a_resolution_may_be_dropped_at_every_await_and_repeated() {
    drop_at_every_await(
        || {
            let (state, claim) = claimed();
            run(claim.doubt()).unwrap();
            let responses = state.responses.clone();
            let future = async move {
                let found = dpat_idempotency::Resolution::NotDone;
                responses.resolve(&key(), found).await
            };
            (future, state)
        },
        |_| (),
        |state, _end| {
            let found = dpat_idempotency::Resolution::NotDone;
            // Resolved by the first or by this one.
            let _ = run(state.responses.resolve(&key(), found));
            assert!(matches!(
                run(state.responses.begin(&key(), body())),
                Ok(Begun::First(_))
            ));
        },
    );
}

#[test]
fn a_superseded_claim_says_so() {
    let (state, claim) = claimed();
    state.time.advance(LEASE);
    let resolved = dpat_idempotency::Resolution::Done(Bytes::from_static(b"by hand"));
    run(state.responses.resolve(&key(), resolved)).unwrap();
    // Its own answer comes too late, and changes nothing.
    assert!(run(claim.complete(Bytes::from_static(b"late"))).is_ok());
    match run(state.responses.begin(&key(), body())).unwrap() {
        Begun::Replay(response) => assert_eq!(response, "by hand"),
        Begun::First(_) => panic!("the resolution is lost"),
    }
    assert!(matches!(run(claim.release()), Err(FinishError::Superseded)));
}
