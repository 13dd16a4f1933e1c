//! A process dies at every step, and another goes on.

use bytes::Bytes;
use dpat_core::{ManualTime, Wall};
use dpat_idempotency::conformance::Written;
use dpat_idempotency::inbox::{Accepted, MemoryDb, accept};
use dpat_idempotency::{AnyStore, BeginError, Change, Key, RunError, Store};
use dpat_testkit::{End, drop_at_every_await};

use crate::world::{Cut, Effects, LEASE, Shaky, body, key, responses, run};

/// After the crash, and after the lease: what a second process makes of the key, and what is true.
#[track_caller]
fn afterwards(store: &Shaky, time: &ManualTime, effects: &Effects) -> &'static str {
    time.advance(LEASE);
    let responses = responses(store.inner.clone(), time, 2);
    let before = effects.count();
    let outcome = run(responses.run(&key(), body(), |_| effects.clone().act()));
    match outcome {
        Ok(answer) if answer.replayed => {
            assert_eq!(before, 1, "an answer without an effect");
            "replayed"
        }
        Ok(_) => {
            assert_eq!(before, 0, "the effect happens twice");
            "done anew"
        }
        Err(RunError::Begin(BeginError::InDoubt { .. })) => {
            assert_eq!(effects.count(), before);
            match before {
                0 => "in doubt, not done",
                _ => "in doubt, done",
            }
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_crash_at_every_call_of_the_store_is_done_anew_replayed_or_in_doubt() {
    let mut seen = Vec::new();
    for at in 0..2 {
        for cut in [Cut::Before, Cut::After] {
            let store = Shaky::cut(at, cut, true);
            let time = ManualTime::new();
            let effects = Effects::default();
            let dying = responses(AnyStore::new(store.clone()), &time, 1);
            drop(run(dying.run(&key(), body(), |_| effects.clone().act())));
            seen.push((at, cut, afterwards(&store, &time, &effects)));
        }
    }
    assert_eq!(
        seen,
        [
            // Writing the claim.
            (0, Cut::Before, "done anew"),
            (0, Cut::After, "in doubt, not done"),
            // The effect, then writing the record again.
            (1, Cut::Before, "in doubt, done"),
            (1, Cut::After, "replayed"),
        ]
    );
}

#[test]
fn a_crash_at_every_await_is_done_anew_replayed_or_in_doubt() {
    let mut seen = std::collections::BTreeSet::new();
    let awaits = drop_at_every_await(
        || {
            let store = Shaky::sound();
            let time = ManualTime::new();
            let effects = Effects::default();
            let dying = responses(AnyStore::new(store.clone()), &time, 1);
            let acting = effects.clone();
            let future = async move { dying.run(&key(), body(), |_| acting.act()).await };
            (future, (store, time, effects))
        },
        |_| (),
        |(store, time, effects), end| {
            let outcome = afterwards(&store, &time, &effects);
            if let End::Completed(answer) = end {
                assert!(!answer.unwrap().replayed);
                assert_eq!(outcome, "replayed");
            }
            seen.insert(outcome);
        },
    );
    assert_eq!(awaits, 6);
    let all = [
        "done anew",
        "in doubt, done",
        "in doubt, not done",
        "replayed",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

/// Where marker and effect share a transaction there is no doubt: a process that dies at any step between delivery and
/// acknowledgement is followed by one that is given the message again, and the effect is there once.
#[test]
fn with_an_inbox_a_crash_at_every_step_leaves_one_effect() {
    const STEPS: u32 = 5;
    for dies_at in 0..=STEPS {
        let db = MemoryDb::new();
        let mut acknowledged = false;
        for process in 0..2 {
            if acknowledged {
                break;
            }
            // Dying is leaving at a step; the transaction is dropped with the process.
            let alive = |step| process > 0 || step < dies_at;
            let work = || {
                if !alive(0) {
                    return None;
                }
                let mut tx = db.begin();
                if !alive(1) {
                    return None;
                }
                let now = Wall::from_nanos(1);
                let accepted = accept(&mut tx, &key(), body(), now, |tx| {
                    let count = tx.get(b"count").map_or(0, |bytes| bytes[0]);
                    tx.put(b"count", &[count + 1]);
                    match alive(2) {
                        true => Ok(Bytes::from_static(b"ok")),
                        false => Err(std::fmt::Error),
                    }
                });
                let accepted = accepted.ok()?;
                if !alive(3) {
                    return None;
                }
                tx.commit().ok()?;
                if !alive(4) {
                    return None;
                }
                Some(accepted)
            };
            let handled = work();
            acknowledged = handled.is_some();
            if process == 1 {
                let expected = match dies_at {
                    4 => Accepted::Again(Bytes::from_static(b"ok")),
                    _ => Accepted::First(Bytes::from_static(b"ok")),
                };
                assert_eq!(handled, Some(expected), "after a death at step {dies_at}");
            }
        }
        assert!(acknowledged);
        assert_eq!(db.get(b"count"), Some(vec![1]), "death at step {dies_at}");
    }
}

#[test]
fn what_was_written_until_a_store_failed_is_checked_and_what_is_lost_is_found() {
    for at in 0..8 {
        for cut in [Cut::Before, Cut::After] {
            let store = Shaky::cut(at, cut, false);
            let written = Written::new(store.clone());
            let mut killed = 0;
            let told = run(written.count_up(1, 2, || killed += 1)).unwrap();
            // It loads and swaps in turns.
            assert_eq!((told, killed), ((at / 2, at % 2), 1), "{at} {cut:?}");
            run(written.check()).unwrap();
            // Somebody takes back what was acknowledged, or puts what nobody did.
            let key = Key::new("laws", "row 0").unwrap();
            let row = run(store.load(&key)).unwrap();
            let put = Change::Put {
                bytes: Bytes::from_static(b"77"),
                expires: None,
            };
            run(store.swap(&key, row.map(|row| row.version), put)).unwrap();
            let lost = run(written.check()).unwrap_err().to_string();
            assert!(lost.starts_with("row 0: 77 instead of "), "{lost}");
        }
    }
}
