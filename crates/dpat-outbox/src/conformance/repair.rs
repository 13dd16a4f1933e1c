//! The laws of what operators see and do.

use super::kit::{Kit, at, event, id, number, park, retry};
use super::{Harness, Violation, ensure_eq};
use crate::event::Event;
use crate::row::{Outcome, Position};
use crate::store::{Lag, Parked, Repair, Repaired, Replay, ReplayFrom, Store};

/// Events that were given up are listed with their reasons, and are tried again, replaced or discarded.
///
/// # Errors
/// [`Violation`].
pub fn parked_events_are_listed_and_repaired<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "d")])?;
    let hand = kit.claim()?;
    kit.now = 1_010;
    for number in [1, 2, 3] {
        kit.settle(&hand, number, park(true))?;
    }
    kit.settle(&hand, 4, Outcome::Release)?;
    let mut listed: Vec<Parked> = Vec::new();
    loop {
        let after = listed.last().map(|parked| parked.position);
        let page = harness.run(kit.outbox.parked(after, 2))?;
        ensure_eq!(page.len() <= 2 && listed.len() <= 3, true, "pages of two");
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let numbers: Vec<u64> = listed.iter().map(|parked| number(&parked.event)).collect();
    ensure_eq!(
        numbers,
        [1, 2, 3],
        "parked events, in the order of their places"
    );
    let Parked {
        reason,
        at: parked_at,
        attempts,
        blocks,
        ..
    } = &listed[0];
    let about = (reason.as_str(), *parked_at, *attempts, *blocks);
    ensure_eq!(about, ("no such topic", at(1_010), 1, true), "about it");

    let repair = |kit: &Kit<'_, H>, position: Position, repair: &Repair| {
        Ok::<_, Violation>(harness.run(kit.outbox.repair(at(kit.now), position, repair))?)
    };
    let position = |number| hand.position(number);
    kit.now = 1_020;
    ensure_eq!(
        repair(&kit, position(1)?, &Repair::Retry)?,
        Repaired::Done,
        "retry"
    );
    let fixed = Event::builder(id(2), "other")
        .key("b")
        .payload("2")
        .build()?;
    for other in [event(9, "b")?, event(2, "")?, event(2, "c")?] {
        let replace = Repair::Replace(other);
        let repaired = repair(&kit, position(2)?, &replace)?;
        ensure_eq!(repaired, Repaired::OtherIdentity, "another event");
    }
    let replace = Repair::Replace(fixed.clone());
    ensure_eq!(
        repair(&kit, position(2)?, &replace)?,
        Repaired::Done,
        "replace"
    );
    ensure_eq!(
        repair(&kit, position(3)?, &Repair::Discard)?,
        Repaired::Done,
        "discard"
    );
    for (what, position) in [
        ("repaired", position(1)?),
        ("discarded", position(3)?),
        ("claimed", position(5)?),
        ("unknown", Position(u64::MAX)),
    ] {
        let repaired = repair(&kit, position, &Repair::Retry)?;
        ensure_eq!(
            repaired,
            Repaired::NotParked,
            format!("{what} is not parked")
        );
    }
    ensure_eq!(
        harness.run(kit.outbox.parked(None, 9))?,
        Vec::<crate::Parked>::new(),
        "nothing is parked"
    );
    let hand = kit.claim()?;
    ensure_eq!(hand.sorted(), [1, 2, 4], "what goes on");
    for row in &hand.rows {
        ensure_eq!(row.attempts, 0, "attempts begin anew");
        if number(&row.event) == 2 {
            ensure_eq!(row.event, fixed, "the replacement");
        }
        if number(&row.event) != 4 {
            let times = (row.appended_at, row.first_claim);
            ensure_eq!(times, (at(1_000), at(1_020)), "the horizon begins anew");
        }
    }
    // A discarded event can be appended again.
    kit.append(&[event(3, "c")?])?;
    Ok(())
}

/// What was sent is sent again from a place or a time on, with its id, in its order; nothing else is.
///
/// # Errors
/// [`Violation`].
pub fn replays_send_again_what_was_sent<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let mut positions = Vec::new();
    for number in 1..=5 {
        kit.now = 1_000 + 10 * number;
        positions.extend(kit.append(&[event(number, "a")?])?);
    }
    let other = Event::builder(id(6), "other").payload("6").build()?;
    kit.append(&[other])?;
    kit.send_all()?;
    kit.append_all(&[(7, "a")])?;
    let replay = |kit: &Kit<'_, H>, from, topic: Option<&str>, max| {
        let mut replay = Replay {
            from,
            topic: topic.map(str::to_owned),
            after: None,
            max,
        };
        let mut rows = 0;
        for _ in 0..100 {
            let replayed = harness.run(kit.outbox.replay(at(kit.now), &replay))?;
            rows += replayed.rows;
            replay.after = replayed.next;
            if replay.after.is_none() {
                return Ok(rows);
            }
        }
        Err(Violation::new("the replay does not come to its end"))
    };
    for max in [1, 2, 100] {
        let from = ReplayFrom::Position(positions[2]);
        ensure_eq!(
            replay(&kit, from, Some("topic"), max)?,
            3,
            format!("from a place, by {max}")
        );
        let hand = kit.claim()?;
        ensure_eq!(
            hand.numbers(),
            [3, 4, 5, 7],
            "in their order, before what was not sent"
        );
        ensure_eq!(hand.rows[0].event, event(3, "a")?, "the same event");
        let replays = hand.rows[0].replays;
        ensure_eq!(
            replays > 0 && hand.rows[0].attempts == 0,
            true,
            "a replay is told"
        );
        for number in [3, 4, 5] {
            kit.settle(&hand, number, Outcome::Sent)?;
        }
        kit.settle(&hand, 7, Outcome::Release)?;
    }
    let from = ReplayFrom::Time(at(1_040));
    ensure_eq!(replay(&kit, from, None, 2)?, 3, "from a time");
    let hand = kit.claim()?;
    ensure_eq!(hand.sorted(), [4, 5, 6, 7], "appended since then");
    // What is under way, or was given up, is not replayed.
    kit.settle(&hand, 4, park(false))?;
    ensure_eq!(
        replay(&kit, ReplayFrom::Time(at(0)), None, 100)?,
        3,
        "the rest"
    );
    Ok(())
}

/// What was sent before a time is removed, oldest first; what was not sent stays.
///
/// # Errors
/// [`Violation`].
pub fn purging_removes_what_was_sent_long_ago<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, ""), (2, ""), (3, ""), (4, ""), (5, "")])?;
    let hand = kit.claim()?;
    for (number, at) in [(3, 1_010), (1, 1_020), (2, 1_030)] {
        kit.now = at;
        kit.settle(&hand, number, Outcome::Sent)?;
    }
    kit.settle(&hand, 4, park(true))?;
    let purge = |kit: &Kit<'_, H>, before, max| {
        Ok::<_, Violation>(harness.run(kit.outbox.purge(at(before), max))?)
    };
    let sent = |kit: &Kit<'_, H>| Ok::<_, Violation>(harness.run(kit.outbox.lag())?.sent);
    ensure_eq!(purge(&kit, 1_010, 99)?, 0, "not before");
    ensure_eq!(purge(&kit, 1_021, 1)?, 1, "at most one");
    ensure_eq!(sent(&kit)?, 2, "kept");
    // The oldest is gone, and with it its id; the others are there.
    kit.append(&[event(3, "")?])?;
    ensure_eq!(purge(&kit, 1_021, 99)?, 1, "the next");
    ensure_eq!(purge(&kit, u64::MAX, 99)?, 1, "the last");
    ensure_eq!(purge(&kit, u64::MAX, 99)?, 0, "nothing more");
    ensure_eq!(sent(&kit)?, 0, "kept");
    ensure_eq!(
        harness.run(kit.outbox.parked(None, 9))?.len(),
        1,
        "what was given up stays"
    );
    kit.now = 9_000;
    ensure_eq!(kit.claim()?.sorted(), [3, 5], "what was not sent stays");
    // What was replayed is not old.
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "")])?;
    kit.send_all()?;
    let replay = Replay {
        from: ReplayFrom::Time(at(0)),
        topic: None,
        after: None,
        max: 9,
    };
    harness.run(kit.outbox.replay(at(kit.now), &replay))?;
    ensure_eq!(purge(&kit, u64::MAX, 99)?, 0, "what is on its way again");
    Ok(())
}

/// The lag counts what waits, its bytes and its age, what was given up, and what is kept.
///
/// # Errors
/// [`Violation`].
pub fn lag_counts_what_waits<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let lag = |kit: &Kit<'_, H>| Ok::<_, Violation>(harness.run(kit.outbox.lag())?);
    ensure_eq!(lag(&kit)?, Lag::default(), "an empty outbox");
    for (number, now) in [(1, 1_000), (2, 1_010), (3, 1_020), (4, 1_030)] {
        kit.now = now;
        kit.append_all(&[(number, "")])?;
    }
    let size = |numbers: &[u64]| {
        let sizes = numbers
            .iter()
            .map(|number| Ok(event(*number, "")?.encode().len() as u64));
        sizes.sum::<Result<u64, Violation>>()
    };
    let expected = Lag {
        backlog_rows: 4,
        backlog_bytes: size(&[1, 2, 3, 4])?,
        oldest: Some(at(1_000)),
        parked: 0,
        sent: 0,
    };
    ensure_eq!(lag(&kit)?, expected, "four that wait");
    let hand = kit.claim()?;
    ensure_eq!(lag(&kit)?, expected, "claimed ones wait, too");
    kit.settle(&hand, 1, Outcome::Sent)?;
    kit.settle(&hand, 2, park(true))?;
    kit.settle(&hand, 3, retry(9_000))?;
    let expected = Lag {
        backlog_rows: 2,
        backlog_bytes: size(&[3, 4])?,
        oldest: Some(at(1_020)),
        parked: 1,
        sent: 1,
    };
    ensure_eq!(lag(&kit)?, expected, "one each");
    kit.now = 1_040;
    let position = hand.position(2)?;
    harness.run(kit.outbox.repair(at(kit.now), position, &Repair::Retry))?;
    let expected = Lag {
        backlog_rows: 3,
        backlog_bytes: size(&[2, 3, 4])?,
        oldest: Some(at(1_040)),
        parked: 0,
        sent: 1,
    };
    ensure_eq!(
        lag(&kit)?,
        expected,
        "what was repaired waits since then, at its place"
    );
    let mut kit = kit.reopened();
    ensure_eq!(lag(&kit)?, expected, "after reopening");
    kit.now = 99_000;
    kit.send_all()?;
    let expected = Lag {
        sent: 4,
        ..Lag::default()
    };
    ensure_eq!(lag(&kit)?, expected, "all sent");
    Ok(())
}
