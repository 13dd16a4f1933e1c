//! The laws of order.

use super::kit::{Kit, at, event, park, retry};
use super::{Harness, Violation, ensure_eq};
use crate::row::Outcome;
use crate::store::{Repair, Store};

/// The events of a key come in the order of their appending; while one is on its way, the later ones wait.
///
/// # Errors
/// [`Violation`].
pub fn order_is_kept_within_a_key<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    // Ten and more, so that an order by text would show.
    for number in 1..=12 {
        kit.append_all(&[(number, "a"), (100 + number, "b")])?;
    }
    let mut claim = kit.ask();
    claim.lane_rows_max = 5;
    let hand = kit.claim_as(&claim)?;
    let of = |numbers: &[u64], from: u64| -> Vec<u64> {
        let mut numbers = numbers.to_vec();
        numbers.retain(|number| (from..from + 50).contains(number));
        numbers
    };
    ensure_eq!(
        of(&hand.numbers(), 0),
        [1, 2, 3, 4, 5],
        "the first of one key"
    );
    ensure_eq!(
        of(&hand.numbers(), 100),
        [101, 102, 103, 104, 105],
        "of the other"
    );
    for number in 1..=4 {
        ensure_eq!(kit.claim()?.numbers(), [0_u64; 0], "the key is on its way");
        kit.settle(&hand, number, Outcome::Sent)?;
    }
    kit.settle(&hand, 5, Outcome::Sent)?;
    ensure_eq!(
        kit.claim()?.numbers(),
        [6, 7, 8, 9, 10, 11, 12],
        "the rest of the key"
    );
    Ok(())
}

/// An event that is to be tried again holds back the later ones of its key, and no others; nor does a key in the middle
/// of which another claim has ended.
///
/// # Errors
/// [`Violation`].
pub fn a_failed_event_holds_its_key<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")])?;
    let hand = kit.claim()?;
    kit.settle_all(&[
        hand.settlement(1, retry(2_000))?,
        hand.settlement(2, Outcome::Release)?,
        hand.settlement(3, Outcome::Release)?,
        hand.settlement(4, Outcome::Sent)?,
    ])?;
    kit.append_all(&[(5, "b"), (6, "a")])?;
    kit.now = 1_999;
    ensure_eq!(kit.claim()?.numbers(), [5], "only the other key");
    kit.now = 2_000;
    let hand = kit.claim()?;
    let numbers: Vec<u64> = hand
        .numbers()
        .into_iter()
        .filter(|number| *number != 5)
        .collect();
    ensure_eq!(numbers, [1, 2, 3, 6], "the key, in its order");
    // The relay dies with it after the first.
    kit.settle(&hand, 1, Outcome::Sent)?;
    kit.now = 9_000;
    let numbers: Vec<u64> = kit
        .send_all()?
        .into_iter()
        .filter(|number| *number != 5)
        .collect();
    ensure_eq!(numbers, [2, 3, 6], "the rest of the key, in its order");
    Ok(())
}

/// Events without a key wait for nobody.
///
/// # Errors
/// [`Violation`].
pub fn events_without_a_key_do_not_wait<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, ""), (2, ""), (3, "")])?;
    let mut claim = kit.ask();
    claim.lane_rows_max = 1;
    let hand = kit.claim_as(&claim)?;
    ensure_eq!(hand.sorted(), [1, 2, 3], "all at once");
    kit.settle(&hand, 1, retry(9_000))?;
    kit.settle(&hand, 2, park(true))?;
    kit.append_all(&[(4, "")])?;
    ensure_eq!(
        kit.claim()?.numbers(),
        [4],
        "beside one that waits and one that was given up"
    );
    Ok(())
}

/// An event that was given up holds back its key or not, as it was said; also after others were sent.
///
/// # Errors
/// [`Violation`].
pub fn a_parked_event_blocks_or_is_set_aside<H: Harness>(harness: &H) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    kit.append_all(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")])?;
    let hand = kit.claim()?;
    kit.settle_all(&[
        hand.settlement(1, park(true))?,
        hand.settlement(2, Outcome::Release)?,
        hand.settlement(3, Outcome::Sent)?,
        hand.settlement(4, park(false))?,
        hand.settlement(5, Outcome::Release)?,
    ])?;
    kit.append_all(&[(6, "a"), (7, "b")])?;
    kit.now = 1_000_000;
    ensure_eq!(kit.send_all()?, [5, 7], "the key that was not blocked");
    // Each is repaired, and comes at its place among what is not sent.
    let repair = |kit: &Kit<'_, H>, number| {
        let position = hand.position(number)?;
        let repaired = kit.outbox.repair(at(kit.now), position, &Repair::Retry);
        harness.run(repaired)?;
        Ok::<_, Violation>(())
    };
    repair(&kit, 4)?;
    ensure_eq!(kit.send_all()?, [4], "what was set aside");
    repair(&kit, 1)?;
    ensure_eq!(kit.send_all()?, [1, 2, 6], "what was blocked, in its order");
    Ok(())
}

/// An event whose transaction appended early and commits late is sent all the same.
///
/// # Errors
/// [`Violation`].
pub fn a_transaction_that_commits_late_is_not_passed_over<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let (early, late) = (event(1, "a")?, event(2, "b")?);
    let claim = kit.ask();
    let mut between = Ok(Vec::new());
    let mut claim_and_send = || {
        between = kit.claim_as(&claim).and_then(|hand| {
            for number in hand.numbers() {
                kit.settle(&hand, number, Outcome::Sent)?;
            }
            Ok(hand.numbers())
        });
    };
    let now = at(kit.now);
    if !harness.overlap(&kit.outbox, now, &early, &late, &mut claim_and_send) {
        return Ok(());
    }
    ensure_eq!(between?, [2], "what had committed");
    ensure_eq!(kit.send_all()?, [1], "what committed late");
    Ok(())
}
