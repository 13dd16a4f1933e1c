//! Tables, and a random history against the promises.

use std::collections::BTreeMap;
use std::time::Duration;

use dpat_core::{Entropy, SplitMix64};

use super::*;

const LEASE: Duration = Duration::from_secs(10);
const RETENTION: Duration = Duration::from_secs(100);

fn config(on_doubt: OnDoubt) -> Config {
    Config::builder()
        .lease(LEASE)
        .retention(RETENTION)
        .on_doubt(on_doubt)
        .build()
        .unwrap()
}

fn at(seconds: u64) -> Wall {
    Wall::from_nanos(seconds * 1_000_000_000)
}

fn claimed(attempt: u32) -> Claimed {
    Claimed {
        fingerprint: Fingerprint::of(&[b"body"]),
        nonce: Nonce([1; 16]),
        attempt,
    }
}

fn is_claimed(until: u64) -> Record {
    Record::Claimed {
        claimed: claimed(1),
        until: at(until).as_nanos(),
    }
}

fn in_doubt(since: u64, attempt: u32) -> Record {
    Record::Doubt {
        claimed: claimed(attempt),
        since: at(since).as_nanos(),
    }
}

fn done(until: u64) -> Record {
    Record::Done {
        claimed: claimed(1),
        until: at(until).as_nanos(),
        response: Bytes::from_static(b"ok"),
    }
}

const SAME: &[u8] = b"body";
const OTHER: &[u8] = b"other";

#[track_caller]
fn asks(record: Option<Record>, body: &[u8], now: u64, on_doubt: OnDoubt) -> Decision {
    let ask = Ask {
        fingerprint: Fingerprint::of(&[body]),
        nonce: Nonce([2; 16]),
        now: at(now),
    };
    begin(record.as_ref(), &ask, &config(on_doubt))
}

fn claim(body: &[u8], attempt: u32, until: u64) -> Decision {
    let claimed = Claimed {
        fingerprint: Fingerprint::of(&[body]),
        nonce: Nonce([2; 16]),
        attempt,
    };
    Decision::Claim(claimed, at(until))
}

#[test]
fn a_key_is_handed_out_once() {
    let report = OnDoubt::Report;
    assert_eq!(asks(None, SAME, 5, report), claim(SAME, 1, 15));
    assert_eq!(
        asks(Some(is_claimed(15)), SAME, 14, report),
        Decision::Busy(at(15))
    );
    assert_eq!(
        asks(Some(done(100)), SAME, 99, report),
        Decision::Replay(Bytes::from_static(b"ok"))
    );
}

#[test]
fn another_body_is_refused_in_every_state() {
    for on_doubt in [OnDoubt::Report, OnDoubt::Retake] {
        for record in [is_claimed(15), is_claimed(1), in_doubt(1, 1), done(100)] {
            assert_eq!(asks(Some(record), OTHER, 5, on_doubt), Decision::Reused);
        }
    }
}

#[test]
fn after_the_retention_a_key_is_new_for_any_body() {
    assert_eq!(
        asks(Some(done(100)), SAME, 100, OnDoubt::Report),
        claim(SAME, 1, 110)
    );
    assert_eq!(
        asks(Some(done(100)), OTHER, 100, OnDoubt::Report),
        claim(OTHER, 1, 110)
    );
}

#[test]
fn a_lease_that_ends_leaves_doubt_and_no_second_attempt() {
    for record in [is_claimed(15), in_doubt(15, 1)] {
        assert_eq!(
            asks(Some(record.clone()), SAME, 15, OnDoubt::Report),
            Decision::Doubt(at(15))
        );
        // For ever: doubt has no retention.
        assert_eq!(
            asks(Some(record.clone()), SAME, 1_000_000, OnDoubt::Report),
            Decision::Doubt(at(15))
        );
        assert_eq!(
            asks(Some(record), SAME, 15, OnDoubt::Retake),
            claim(SAME, 2, 25)
        );
    }
}

#[test]
fn a_claim_knows_itself() {
    let ask = Ask {
        fingerprint: claimed(1).fingerprint,
        nonce: claimed(1).nonce,
        now: at(20),
    };
    let record = is_claimed(15);
    assert_eq!(
        begin(Some(&record), &ask, &config(OnDoubt::Report)),
        Decision::Held(claimed(1), at(15))
    );
}

#[track_caller]
fn ends(record: Option<Record>, nonce: u8, what: Finish) -> Finishing {
    finish(
        record.as_ref(),
        Nonce([nonce; 16]),
        &what,
        at(20),
        &config(OnDoubt::Report),
    )
}

#[test]
fn only_the_holder_finishes() {
    let answer = || Finish::Complete(Bytes::from_static(b"ok"));
    for what in [answer(), Finish::Release, Finish::Doubt, Finish::Extend] {
        for record in [is_claimed(25), is_claimed(15), in_doubt(1, 1), done(100)] {
            assert_eq!(ends(Some(record), 9, what.clone()), Finishing::Superseded);
        }
    }
}

#[test]
fn a_claim_ends_once() {
    let answer = || Finish::Complete(Bytes::from_static(b"ok"));
    // In time, late, and after doubt was declared: the answer ends it.
    for record in [is_claimed(25), is_claimed(15), in_doubt(1, 1)] {
        assert_eq!(
            ends(Some(record.clone()), 1, answer()),
            Finishing::Put(done(120))
        );
        assert_eq!(ends(Some(record), 1, Finish::Release), Finishing::Remove);
    }
    assert_eq!(ends(Some(done(100)), 1, answer()), Finishing::Already);
    for what in [Finish::Release, Finish::Doubt, Finish::Extend] {
        assert_eq!(ends(Some(done(100)), 1, what), Finishing::Superseded);
    }
    assert_eq!(ends(None, 1, answer()), Finishing::Superseded);
    assert_eq!(ends(None, 1, Finish::Release), Finishing::Already);
    assert_eq!(ends(None, 1, Finish::Doubt), Finishing::Superseded);
    assert_eq!(ends(None, 1, Finish::Extend), Finishing::Superseded);
}

#[test]
fn doubt_and_extension() {
    assert_eq!(
        ends(Some(is_claimed(25)), 1, Finish::Doubt),
        Finishing::Put(in_doubt(20, 1))
    );
    assert_eq!(
        ends(Some(in_doubt(1, 1)), 1, Finish::Doubt),
        Finishing::Already
    );
    assert_eq!(
        ends(Some(is_claimed(25)), 1, Finish::Extend),
        Finishing::Put(is_claimed(30))
    );
    // Never shorter than it was, and not after doubt was declared.
    assert_eq!(
        ends(Some(is_claimed(99)), 1, Finish::Extend),
        Finishing::Put(is_claimed(99))
    );
    assert_eq!(
        ends(Some(in_doubt(1, 1)), 1, Finish::Extend),
        Finishing::Superseded
    );
}

#[test]
fn a_later_attempt_does_not_take_back_the_doubt_of_an_earlier_one() {
    let record = Record::Claimed {
        claimed: claimed(2),
        until: at(25).as_nanos(),
    };
    assert_eq!(
        ends(Some(record), 1, Finish::Release),
        Finishing::Put(in_doubt(20, 2))
    );
}

#[test]
fn only_doubt_is_resolved() {
    let resolves =
        |record: Option<Record>, found| resolve(record.as_ref(), &found, at(20), RETENTION);
    let answer = || Found::Done(Bytes::from_static(b"ok"));
    for record in [is_claimed(15), in_doubt(1, 1)] {
        assert_eq!(
            resolves(Some(record.clone()), Found::NotDone),
            Some(Finishing::Remove)
        );
        assert_eq!(
            resolves(Some(record), answer()),
            Some(Finishing::Put(done(120)))
        );
    }
    for record in [None, Some(is_claimed(25)), Some(done(100))] {
        assert_eq!(resolves(record.clone(), Found::NotDone), None);
        assert_eq!(resolves(record, answer()), None);
    }
}

/// Random attempts on few keys, with crashes at random points: no key's effect happens twice within the retention, and
/// what happened is never reported as if it had not.
#[test]
fn effects_happen_at_most_once() {
    #[derive(Default)]
    struct Truth {
        effects: u32,
        answered: bool,
    }
    for seed in 0..300 {
        let entropy = SplitMix64::stream(seed, "machine");
        let config = config(OnDoubt::Report);
        let mut records: BTreeMap<u64, Record> = BTreeMap::new();
        let mut truth: BTreeMap<u64, Truth> = BTreeMap::new();
        let mut now = at(1);
        for _ in 0..200 {
            now = now + Duration::from_millis(entropy.below(3_000));
            let key = entropy.below(4);
            let nonce = Nonce::draw(&entropy);
            let ask = Ask {
                fingerprint: Fingerprint::NONE,
                nonce,
                now,
            };
            let known = truth.entry(key).or_default();
            match begin(records.get(&key), &ask, &config) {
                Decision::Claim(claimed, until) => {
                    // New, or beyond its retention.
                    if known.answered {
                        *known = Truth::default();
                    }
                    assert_eq!(known.effects, 0, "seed {seed}: the effect happens again");
                    let until = until.as_nanos();
                    records.insert(key, Record::Claimed { claimed, until });
                    // A crash before the effect, after it, or none.
                    let crash = entropy.below(4);
                    if crash == 0 {
                        continue;
                    }
                    let failed = entropy.below(4) == 0;
                    known.effects += u32::from(!failed);
                    if crash == 1 {
                        continue;
                    }
                    let what = match failed {
                        true => Finish::Release,
                        false => Finish::Complete(Bytes::from_static(b"ok")),
                    };
                    let later = now + Duration::from_millis(entropy.below(15_000));
                    match finish(records.get(&key), nonce, &what, later, &config) {
                        Finishing::Put(record) => drop(records.insert(key, record)),
                        Finishing::Remove => drop(records.remove(&key)),
                        other => panic!("seed {seed}: {other:?}"),
                    }
                    known.answered = !failed;
                }
                Decision::Replay(_) => assert!(known.effects == 1 && known.answered),
                Decision::Busy(until) => assert!(until > now),
                Decision::Doubt(since) => assert!(since <= now && !known.answered),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}
