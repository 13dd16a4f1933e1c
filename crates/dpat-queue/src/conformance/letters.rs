//! Dead letters, and what is done by hand.

use super::kit::{Kit, SECOND, reject, text};
use super::{Harness, Setup, Violation, ensure, ensure_eq};
use crate::capability::Capability;
use crate::error::SettleError;
use crate::message::{Message, Outcome, REASON_BYTES_MAX};

/// A rejected message does not come again; where dead letters are offered, it is listed with its reason.
///
/// # Errors
/// [`Violation`].
pub fn a_rejected_message_is_kept_with_its_reason<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let setup = Setup {
        dead_max: 2,
        ..harness.setup()
    };
    let kit = Kit::with(harness, setup);
    let ids = kit.send_all(&["a", "b", "c"])?;
    let received = kit.receive(10)?;
    let [a, b, c] = &received[..] else {
        return Err(Violation::new("three were sent"));
    };
    kit.settle(a.receipt, reject("no such order"))?;
    let long = "ä".repeat(REASON_BYTES_MAX);
    kit.settle(b.receipt, reject(&long))?;
    if !kit.has(Capability::DeadLetters) {
        kit.done(c)?;
        kit.pass(3 * kit.setup.visibility);
        ensure_eq!(kit.receive(10)?.len(), 0, "messages after rejection");
        return Ok(());
    }
    let full = kit.settle(c.receipt, reject("one too many"));
    ensure!(
        matches!(full, Err(SettleError::DeadLettersFull { limit: 2, .. })),
        "a rejection beyond the limit: {full:?}"
    );
    kit.pass(3 * kit.setup.visibility);
    ensure_eq!(kit.one()?.id(), c.id(), "the one that was not rejected");
    let letters = kit.run(kit.queue().dead_letters(None, 10))?;
    let [first, second] = &letters[..] else {
        return Err(Violation::new(format!("two dead letters: {letters:?}")));
    };
    ensure_eq!(first.id, a.id(), "the first dead letter");
    ensure!(ids.contains(&first.id), "its id is that of the send");
    ensure_eq!(&*first.reason, "no such order", "its reason");
    ensure_eq!(first.message.payload(), a.payload(), "its payload");
    ensure_eq!(first.count, 1, "its count");
    ensure!(
        second.reason.len() <= REASON_BYTES_MAX && long.starts_with(&*second.reason),
        "a long reason is cut: {:?}",
        second.reason
    );
    let behind = kit.run(kit.queue().dead_letters(Some(first.id), 10))?;
    ensure_eq!(behind.len(), 1, "dead letters behind the first");
    ensure_eq!(
        kit.run(kit.queue().dead_letters(None, 1))?.len(),
        1,
        "at most one"
    );
    Ok(())
}

/// A replayed dead letter is the same message, tried anew, behind all others; a discarded one is gone.
///
/// # Errors
/// [`Violation`].
pub fn a_dead_letter_is_replayed_or_discarded<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::DeadLetters) {
        return Ok(());
    }
    kit.send_all(&["a", "b"])?;
    let received = kit.receive(10)?;
    let [a, b] = &received[..] else {
        return Err(Violation::new("two were sent"));
    };
    kit.settle(a.receipt, reject("a"))?;
    kit.settle(b.receipt, reject("b"))?;
    let done = (
        kit.run(kit.queue().replay(a.id()))?,
        kit.run(kit.queue().replay(a.id()))?,
        kit.run(kit.queue().discard(b.id()))?,
        kit.run(kit.queue().discard(b.id()))?,
    );
    ensure_eq!(
        done,
        (true, false, true, false),
        "what was there to be done"
    );
    let again = kit.one()?;
    ensure_eq!(again.id(), a.id(), "the replayed message");
    ensure_eq!(
        (again.count, again.attempt),
        (2, 1),
        "its count, and its attempt"
    );
    if kit.has(Capability::FencedSettle) {
        let stale = kit.done(a);
        ensure!(
            matches!(stale, Err(SettleError::Stale)),
            "the receipt from before: {stale:?}"
        );
    }
    kit.done(&again)?;
    ensure_eq!(
        kit.run(kit.queue().dead_letters(None, 10))?.len(),
        0,
        "dead letters"
    );
    Ok(())
}

/// While delivery is stopped nothing is handed out; sending and settling go on.
///
/// # Errors
/// [`Violation`].
pub fn a_paused_queue_hands_nothing_out<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Pause) {
        return Ok(());
    }
    kit.send_all(&["a"])?;
    let out = kit.one()?;
    kit.run(kit.queue().set_paused(true))?;
    kit.send_all(&["b"])?;
    kit.done(&out)?;
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "while it is paused");
    kit.run(kit.queue().set_paused(false))?;
    ensure_eq!(kit.texts()?, ["b"], "once it is resumed");
    Ok(())
}

/// A purge removes what is not out, and nothing else.
///
/// # Errors
/// [`Violation`].
pub fn a_purge_leaves_what_is_out<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Inspect) {
        return Ok(());
    }
    kit.send_all(&["out", "dead", "a", "b"])?;
    let received = kit.receive(2)?;
    if let [_, dead] = &received[..] {
        kit.settle(dead.receipt, reject("no"))?;
    }
    ensure_eq!(kit.run(kit.queue().purge())?, 2, "how many were purged");
    ensure_eq!(
        kit.run(kit.queue().purge())?,
        0,
        "how many were left to purge"
    );
    kit.pass(3 * kit.setup.visibility);
    ensure_eq!(kit.texts()?, ["out"], "what is left");
    if kit.has(Capability::DeadLetters) {
        ensure_eq!(
            kit.run(kit.queue().dead_letters(None, 9))?.len(),
            1,
            "dead letters"
        );
    }
    Ok(())
}

/// Looking at messages shows all of them in order and changes nothing.
///
/// # Errors
/// [`Violation`].
pub fn looking_changes_nothing<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Inspect) {
        return Ok(());
    }
    kit.send_all(&["a", "b", "c"])?;
    let a = kit.receive(1)?;
    let peek = |after, max| kit.run(kit.queue().peek(after, max));
    for _ in 0..2 {
        let peeked = peek(None, 10)?;
        let texts: Vec<_> = peeked
            .iter()
            .map(|one| {
                (
                    String::from_utf8_lossy(one.message.payload()).into_owned(),
                    one.leased,
                )
            })
            .collect();
        let expected = [("a", true), ("b", false), ("c", false)];
        ensure_eq!(
            texts,
            expected.map(|(text, leased)| (text.to_owned(), leased)),
            "what is there"
        );
        let behind = peek(peeked.first().map(|one| one.id), 1)?;
        ensure_eq!(
            behind.first().map(|one| one.id),
            peeked.get(1).map(|one| one.id),
            "the one behind the first"
        );
    }
    for delivery in &a {
        kit.done(delivery)?;
    }
    let received: Vec<_> = kit.receive(10)?;
    ensure_eq!(
        received.iter().map(text).collect::<Vec<_>>(),
        ["b", "c"],
        "what comes"
    );
    ensure_eq!(
        received.iter().map(|one| one.count).max(),
        Some(1),
        "the count"
    );
    Ok(())
}

/// The statistics say what is there, and what has happened.
///
/// # Errors
/// [`Violation`].
pub fn the_numbers_add_up<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Inspect) {
        return Ok(());
    }
    kit.send_all(&["done", "retried", "rejected", "out", "ready"])?;
    let mut waiting = 0;
    if kit.has(Capability::Delay) {
        kit.send(Message::new("waiting").delay(600 * SECOND))?;
        waiting = 1;
    }
    let received = kit.receive(4)?;
    let [done, retried, rejected, _] = &received[..] else {
        return Err(Violation::new("four were asked for"));
    };
    kit.done(done)?;
    kit.settle(retried.receipt, Outcome::release())?;
    kit.settle(rejected.receipt, reject("no"))?;
    let stats = kit.run(kit.queue().stats())?;
    ensure_eq!(
        (stats.ready, stats.waiting, stats.leased),
        (2, waiting, 1),
        "ready, waiting and leased"
    );
    ensure_eq!(
        (
            stats.sent,
            stats.delivered,
            stats.done,
            stats.retried,
            stats.rejected
        ),
        (5 + waiting, 4, 1, 1, 1),
        "sent, delivered, done, retried and rejected"
    );
    if kit.has(Capability::DeadLetters) {
        ensure_eq!(stats.dead, 1, "dead letters");
    }
    ensure!(stats.bytes > 0, "bytes: {}", stats.bytes);
    Ok(())
}
