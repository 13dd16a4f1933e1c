//! The laws of single rows: append, claim, settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect};

use super::kit::{Kit, LEASE, at, event, id, park, retry};
use super::{End, Harness, Violation, ensure_eq};
use crate::error::AppendError;
use crate::event::{Event, PAYLOAD_BYTES_MAX};
use crate::row::{Outcome, Position, Settled, Settlement};
use crate::store::{Appended, Claim, Limits, Store};

/// What is appended comes back byte by byte, with its place, time and counts.
///
/// # Errors
/// [`Violation`].
pub fn an_event_comes_back_as_it_was_appended<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let full = Event::builder(id(1), "topic/ä")
        .key("key ü")
        .dedup("dedup")
        .header("h", "v")
        .header("h", Bytes::from_static(&[0, 255]))
        .payload(vec![7; PAYLOAD_BYTES_MAX])
        .build()?;
    let plain = Event::builder(id(2), "t").build()?;
    let positions = kit.append(&[full.clone(), plain.clone()])?;
    ensure_eq!(
        positions[0] < positions[1],
        true,
        "places grow within a transaction"
    );
    let hand = kit.claim()?;
    ensure_eq!(hand.rows.len(), 2, "claimed events");
    for (event, position) in [full, plain].into_iter().zip(positions) {
        let row = hand.rows.iter().find(|row| row.position == position);
        let Some(row) = row else {
            return Err(Violation::new(format!("{position} was not claimed")));
        };
        ensure_eq!(row.event == event, true, "the event is the same");
        ensure_eq!((row.attempts, row.replays), (0, 0), "attempts and replays");
        ensure_eq!(
            (row.appended_at, row.first_claim),
            (at(kit.now), at(kit.now)),
            "times"
        );
    }
    Ok(())
}

/// What was rolled back, or died before its commit, is never claimed, and what was committed is.
///
/// # Errors
/// [`Violation`].
pub fn what_is_not_committed_is_not_claimed<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    for (number, end) in [(1, End::Rollback), (2, End::Crash)] {
        harness.in_tx(&kit.outbox, at(kit.now), &[event(number, "")?], end)?;
        ensure_eq!(kit.claim()?.numbers(), [0_u64; 0], format!("{end:?}"));
    }
    let mut kit = kit.reopened();
    kit.append(&[event(3, "")?, event(4, "")?])?;
    ensure_eq!(kit.claim()?.sorted(), [3, 4], "committed");
    // And nothing of the former is left that would be in the way.
    kit.append(&[event(1, "")?, event(2, "")?])?;
    ensure_eq!(kit.claim()?.sorted(), [1, 2], "appended again");
    Ok(())
}

/// What one relay has claimed no other gets before the lease ends; then the former settles in vain.
///
/// # Errors
/// [`Violation`].
pub fn a_claim_holds_until_its_lease_ends<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, ""), (2, "a")])?;
    let first = kit.claim()?;
    ensure_eq!(first.sorted(), [1, 2], "the first claim");
    kit.now += 99;
    ensure_eq!(kit.claim()?.numbers(), [0_u64; 0], "within the lease");
    kit.now += 1;
    let second = kit.claim()?;
    ensure_eq!(second.sorted(), [1, 2], "after the lease");
    for row in &second.rows {
        ensure_eq!(
            row.first_claim,
            at(1_000),
            "the first claim stays the first"
        );
    }
    for outcome in [Outcome::Sent, retry(0), Outcome::Release, park(true)] {
        let settled = kit.settle(&first, 1, outcome.clone())?;
        ensure_eq!(settled, Settled::Lost, format!("{outcome:?} by the former"));
    }
    ensure_eq!(
        kit.settle(&second, 1, Outcome::Sent)?,
        Settled::Done,
        "by the holder"
    );
    // Late, but nobody else has claimed.
    kit.now += 1_000;
    ensure_eq!(
        kit.settle(&second, 2, Outcome::Sent)?,
        Settled::Done,
        "late"
    );
    ensure_eq!(kit.claim()?.numbers(), [0_u64; 0], "after both are sent");
    Ok(())
}

/// What is sent is not claimed again; a settlement that is repeated changes nothing.
///
/// # Errors
/// [`Violation`].
pub fn settled_events_are_settled_once<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, ""), (2, ""), (3, ""), (4, "")])?;
    let hand = kit.claim()?;
    let all = [
        hand.settlement(1, Outcome::Sent)?,
        hand.settlement(2, park(true))?,
        hand.settlement(3, retry(2_000))?,
        Settlement {
            position: Position(u64::MAX),
            ..hand.settlement(1, Outcome::Sent)?
        },
    ];
    let expected = [Settled::Done, Settled::Done, Settled::Done, Settled::Lost];
    ensure_eq!(kit.settle_all(&all)?, expected, "settled");
    let expected = [Settled::Done, Settled::Done, Settled::Lost, Settled::Lost];
    ensure_eq!(kit.settle_all(&all)?, expected, "settled again");
    let crossed = [
        hand.settlement(1, retry(0))?,
        hand.settlement(2, Outcome::Sent)?,
    ];
    ensure_eq!(
        kit.settle_all(&crossed)?,
        [Settled::Lost; 2],
        "settled otherwise"
    );
    kit.now = 1_999;
    ensure_eq!(
        kit.claim()?.numbers(),
        [4],
        "the rest, when its lease has ended"
    );
    kit.now = 2_000;
    let later = kit.claim()?;
    ensure_eq!(later.numbers(), [3], "the retry");
    ensure_eq!(later.rows[0].attempts, 1, "its attempts");
    ensure_eq!(
        kit.settle_all(&[])?,
        Vec::<crate::Settled>::new(),
        "nothing"
    );
    Ok(())
}

/// What is given back can be claimed at once, and has not failed.
///
/// # Errors
/// [`Violation`].
pub fn released_events_are_free_at_once<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "a"), (2, "a")])?;
    let hand = kit.claim()?;
    let released = [
        hand.settlement(1, Outcome::Release)?,
        hand.settlement(2, Outcome::Release)?,
    ];
    kit.settle_all(&released)?;
    let again = kit.claim()?;
    ensure_eq!(again.numbers(), [1, 2], "claimed again");
    ensure_eq!(again.rows[0].attempts, 0, "attempts");
    Ok(())
}

/// A claim gets no more events, bytes and events of one key than it asks for, but always one event.
///
/// # Errors
/// [`Violation`].
pub fn claims_are_bounded<H: Harness>(harness: &H) -> Result<(), Violation> {
    let bounded = |bound: fn(&mut Claim)| -> Result<Vec<u64>, Violation> {
        let mut kit = Kit::new(harness);
        kit.append_all(&[(1, "a"), (2, "a"), (3, "a"), (4, ""), (5, "b")])?;
        let mut claim = kit.ask();
        bound(&mut claim);
        Ok(kit.claim_as(&claim)?.sorted())
    };
    ensure_eq!(bounded(|claim| claim.rows_max = 0)?, [0_u64; 0], "no event");
    ensure_eq!(bounded(|claim| claim.rows_max = 2)?.len(), 2, "two events");
    ensure_eq!(
        bounded(|claim| claim.rows_max = 5)?,
        [1, 2, 3, 4, 5],
        "five events"
    );
    ensure_eq!(
        bounded(|claim| claim.lane_rows_max = 2)?,
        [1, 2, 4, 5],
        "two of a key"
    );
    ensure_eq!(
        bounded(|claim| claim.bytes_max = 1)?.len(),
        1,
        "hardly a byte"
    );
    let size = event(1, "a")?.encode().len();
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "a"), (2, "b"), (3, "c")])?;
    let mut claim = kit.ask();
    claim.bytes_max = 2 * size;
    ensure_eq!(kit.claim_as(&claim)?.rows.len(), 2, "bytes of two events");
    ensure_eq!(kit.claim()?.rows.len(), 1, "the rest");
    Ok(())
}

/// An event whose id or deduplication key is there already is not appended, in the same transaction or later.
///
/// # Errors
/// [`Violation`].
pub fn a_double_append_is_none<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let with = |number: u64, dedup: &str| {
        let event = Event::builder(id(number), "t").payload(number.to_string());
        event.dedup(dedup).build()
    };
    let events = [with(1, "a")?, with(2, "a")?, with(1, "b")?, with(3, "c")?];
    let append = |kit: &Kit<'_, H>, events: &[Event]| {
        let appended = harness.in_tx(&kit.outbox, at(kit.now), events, End::Commit)?;
        let duplicates = appended.into_iter().map(|appended| match appended {
            Appended::New(_) => None,
            Appended::Duplicate(id) => Some(id),
        });
        Ok::<_, Violation>(duplicates.collect::<Vec<_>>())
    };
    let expected = [None, Some(id(1)), Some(id(1)), None];
    ensure_eq!(append(&kit, &events)?, expected, "within a transaction");
    let expected = [Some(id(1)), Some(id(1)), Some(id(1)), Some(id(3))];
    ensure_eq!(append(&kit, &events)?, expected, "later");
    ensure_eq!(kit.send_all()?.len(), 2, "sent");
    let mut kit = kit.reopened();
    ensure_eq!(
        append(&kit, &events)?,
        expected,
        "after sending and reopening"
    );
    // What was rolled back is no duplicate.
    harness.in_tx(&kit.outbox, at(kit.now), &[with(9, "z")?], End::Rollback)?;
    ensure_eq!(
        append(&kit, &[with(8, "z")?, with(9, "y")?])?,
        [None, None],
        "rolled back"
    );
    kit.send_all()?;
    // As long as it is kept.
    harness.run(kit.outbox.purge(at(kit.now + 1), 99))?;
    ensure_eq!(append(&kit, &events[..1])?, [None], "after purging");
    Ok(())
}

/// Appending is refused while too much waits, and says so.
///
/// # Errors
/// [`Violation`].
pub fn a_full_backlog_refuses_appends<H: Harness>(harness: &H) -> Result<(), Violation> {
    let refused = |result: Result<Vec<Appended>, AppendError>, expected: &str| {
        let Err(error) = result else {
            return Err(Violation::new(format!("{expected} is exceeded")));
        };
        ensure_eq!(
            (error.class(), error.effect()),
            (Class::Overloaded, Effect::NotDone),
            format!("{error}")
        );
        match error {
            AppendError::Full { field, .. } if field == expected => Ok(()),
            other => Err(Violation::new(format!("{other} instead of {expected}"))),
        }
    };
    let mut kit = Kit::with_limits(
        harness,
        Limits {
            backlog_rows: 2,
            ..Limits::DEFAULT
        },
    );
    let three = [event(1, "")?, event(2, "")?, event(3, "")?];
    let in_tx = |kit: &Kit<'_, H>, events: &[Event]| {
        harness.in_tx(&kit.outbox, at(kit.now), events, End::Commit)
    };
    refused(in_tx(&kit, &three), "backlog_rows")?;
    ensure_eq!(kit.claim()?.numbers(), [0_u64; 0], "a refused transaction");
    kit.append(&three[..2])?;
    refused(in_tx(&kit, &three[2..]), "backlog_rows")?;
    // A duplicate needs no room.
    ensure_eq!(
        in_tx(&kit, &three[..1])?,
        [Appended::Duplicate(id(1))],
        "a duplicate"
    );
    let hand = kit.claim()?;
    refused(in_tx(&kit, &three[2..]), "backlog_rows")?;
    kit.settle(&hand, 1, Outcome::Sent)?;
    kit.append(&three[2..])?;
    // What was given up is no longer in the way.
    kit.settle(&hand, 2, park(true))?;
    kit.append(&[event(4, "")?])?;
    refused(in_tx(&kit, &[event(5, "")?]), "backlog_rows")?;

    let size = event(1, "")?.encode().len() as u64;
    let limits = Limits {
        backlog_bytes: 2 * size,
        ..Limits::DEFAULT
    };
    let kit = Kit::with_limits(harness, limits).reopened();
    refused(in_tx(&kit, &three), "backlog_bytes")?;
    kit.append(&three[..2])?;
    refused(in_tx(&kit, &three[2..]), "backlog_bytes")
}

/// Whoever waits for more hears of it, unless the backend leaves that to the clock.
///
/// # Errors
/// [`Violation`].
pub fn waiting_ends_with_an_append<H: Harness>(harness: &H) -> Result<(), Violation> {
    #[derive(Default)]
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    if !harness.hears_appends() {
        return Ok(());
    }
    let mut kit = Kit::new(harness);
    let claim = kit.ask();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    let mut spurious = 0;
    let (seen, mut waiting) = loop {
        let seen = harness.run(kit.outbox.claim(&claim))?.seen;
        let mut waiting = Box::pin(kit.outbox.wait(seen));
        if waiting.as_mut().poll(&mut cx).is_pending() {
            break (seen, waiting);
        }
        // A store that has just begun to listen wakes whoever may have missed something, once.
        spurious += 1;
        ensure_eq!(spurious < 10, true, "nothing happened, and it wakes");
    };
    kit.append(&[event(1, "")?])?;
    // A server may take its time to tell.
    harness.run(async {
        std::future::poll_fn(|cx| match flag.0.load(Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => {
                // The flag wakes nobody: look again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    });
    harness.run(waiting.as_mut());
    // Between a look and the wait, nothing is missed.
    harness.run(kit.outbox.wait(seen));
    Ok(())
}

/// Nothing that was committed, claimed or settled is forgotten by a restart.
///
/// # Errors
/// [`Violation`].
pub fn everything_survives_reopening<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[
        (1, "a"),
        (2, "a"),
        (3, "b"),
        (4, "b"),
        (5, "c"),
        (6, "d"),
        (7, "e"),
    ])?;
    let hand = kit.claim()?;
    kit.settle_all(&[
        hand.settlement(1, Outcome::Sent)?,
        hand.settlement(2, Outcome::Release)?,
        hand.settlement(3, park(true))?,
        hand.settlement(4, Outcome::Release)?,
        hand.settlement(5, park(false))?,
        hand.settlement(6, retry(5_000))?,
    ])?;
    kit.append_all(&[(8, "c")])?;
    let lag = harness.run(kit.outbox.lag())?;
    let parked = harness.run(kit.outbox.parked(None, 9))?;
    let mut kit = kit.reopened();
    ensure_eq!(harness.run(kit.outbox.lag())?, lag, "lag");
    ensure_eq!(
        harness.run(kit.outbox.parked(None, 9))?,
        parked,
        "parked events"
    );
    kit.now += 1;
    ensure_eq!(kit.claim()?.sorted(), [2, 8], "what is free");
    kit.now = 1_000 + u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
    ensure_eq!(kit.claim()?.sorted(), [7], "what was claimed before");
    kit.now = 5_000;
    ensure_eq!(
        kit.claim()?.sorted(),
        [2, 6, 7, 8],
        "what was to be tried again"
    );
    // Places go on behind the old ones.
    let before = hand.position(7)?;
    let after = kit.append(&[event(9, "")?])?;
    ensure_eq!(after[0] > before, true, "a place after reopening");
    Ok(())
}
