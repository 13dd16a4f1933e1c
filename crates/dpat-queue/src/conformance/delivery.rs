//! Deliveries, leases and receipts.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;

use super::kit::{Kit, SECOND, retry, text};
use super::{Harness, Violation, ensure, ensure_eq};
use crate::capability::{Capability, Survives};
use crate::error::SettleError;
use crate::message::{Message, Outcome};

/// Payload, key, headers and priority come as they were sent, with the id of the send.
///
/// # Errors
/// [`Violation`].
pub fn a_message_comes_as_it_was_sent<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    let payload = Bytes::from_static(b"\0\xff bytes");
    let mut message = Message::new(payload.clone())
        .header("b", "2")
        .header("a", vec![0_u8, 255]);
    if kit.has(Capability::OrderedKeys) {
        message = message.key("k");
    }
    if kit.has(Capability::Priority) {
        message = message.priority(7);
    }
    let id = kit.send(message.clone())?;
    let delivery = kit.one()?;
    ensure_eq!(delivery.id(), id, "the id");
    ensure_eq!(delivery.payload(), &payload, "the payload");
    ensure_eq!(delivery.headers(), message.headers(), "the headers");
    ensure_eq!(delivery.key(), message.get_key(), "the key");
    ensure_eq!(delivery.priority(), message.get_priority(), "the priority");
    ensure_eq!(delivery.count, 1, "the count");
    ensure_eq!(kit.receive(10)?.len(), 0, "messages beside it");
    let empty = kit.send(Message::new(""))?;
    ensure_eq!(kit.one()?.id(), empty, "an empty message");
    Ok(())
}

/// A receive returns at most `max` messages, and several calls share them.
///
/// # Errors
/// [`Violation`].
pub fn a_receive_returns_at_most_what_was_asked_for<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["1", "2", "3", "4", "5"])?;
    ensure_eq!(kit.receive(0)?.len(), 0, "of none");
    let mut seen: Vec<String> = kit.receive(2)?.iter().map(text).collect();
    ensure_eq!(seen.len(), 2, "of two");
    seen.extend(kit.texts()?);
    seen.sort();
    ensure_eq!(seen, ["1", "2", "3", "4", "5"], "all of them, each once");
    Ok(())
}

/// A receive that waits gets what is sent meanwhile; without it, it ends after its time.
///
/// # Errors
/// [`Violation`].
pub fn a_waiting_receive_ends_with_a_message_or_its_time<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    let receive = || kit.queue().receive_batch(10, 2 * SECOND);
    let sends = async { kit.queue().send(Message::new("late")).await };
    let (received, sent) = kit.run(join(receive(), sends));
    ensure_eq!(received?.len(), 1, "messages that came while it waited");
    sent?;
    let kit = Kit::new(harness);
    let receive = kit.queue().receive_batch(10, SECOND);
    let passes = async { kit.pass(SECOND) };
    let (received, ()) = kit.run(join(receive, passes));
    ensure_eq!(received?.len(), 0, "messages after its time");
    Ok(())
}

/// Until its lease ends, a message is not handed out again; then it is.
///
/// # Errors
/// [`Violation`].
pub fn a_message_is_hidden_while_it_is_leased<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one"])?;
    let first = kit.one()?;
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "at once");
    kit.pass(kit.setup.visibility / 2);
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "within the lease");
    kit.pass(kit.setup.visibility);
    let second = kit.one()?;
    ensure_eq!(second.id(), first.id(), "after the lease");
    ensure!(
        first.receipt != second.receipt,
        "two deliveries have one receipt"
    );
    Ok(())
}

/// The count rises with each delivery, also if nothing settles the message.
///
/// # Errors
/// [`Violation`].
pub fn the_count_rises_when_a_message_is_handed_out<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one"])?;
    for count in 1..4 {
        let delivery = kit.one()?;
        ensure_eq!(
            (delivery.count, delivery.attempt),
            (count, count),
            "the count of a delivery that nobody settled"
        );
        kit.pass(2 * kit.setup.visibility);
    }
    let delivery = kit.one()?;
    kit.settle(delivery.receipt, Outcome::release())?;
    ensure_eq!(kit.one()?.count, 5, "the count after it was given back");
    Ok(())
}

/// What is done is gone, and stays gone.
///
/// # Errors
/// [`Violation`].
pub fn a_done_message_never_comes_again<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one", "two"])?;
    let received = kit.receive(10)?;
    for delivery in received.iter().filter(|delivery| text(delivery) == "one") {
        kit.done(delivery)?;
    }
    kit.pass(3 * kit.setup.visibility);
    ensure_eq!(kit.texts()?, ["two"], "what comes again");
    Ok(())
}

/// A retried message comes after its delay and not before.
///
/// # Errors
/// [`Violation`].
pub fn a_retry_comes_after_its_delay<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one"])?;
    let delay = 4 * kit.setup.visibility;
    kit.settle(kit.one()?.receipt, retry(delay))?;
    kit.pass(delay - kit.setup.visibility);
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "before its time");
    kit.pass(2 * kit.setup.visibility);
    ensure_eq!(kit.one()?.count, 2, "the count after its time");
    Ok(())
}

/// A delivery that is given back can be received at once.
///
/// # Errors
/// [`Violation`].
pub fn a_delivery_may_be_given_back<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one"])?;
    kit.settle(kit.one()?.receipt, Outcome::release())?;
    ensure_eq!(kit.texts()?, ["one"], "what can be received");
    Ok(())
}

/// Only the receipt of the last delivery settles, and only once.
///
/// Where that is not declared, a stale receipt has to work: a gap that is none should be declared.
///
/// # Errors
/// [`Violation`].
pub fn a_stale_receipt_is_refused<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["one"])?;
    let first = kit.one()?;
    kit.pass(2 * kit.setup.visibility);
    let second = kit.one()?;
    let late = kit.done(&first);
    if !kit.has(Capability::FencedSettle) {
        ensure!(late.is_ok(), "a stale receipt is refused, undeclared");
        return Ok(());
    }
    for outcome in [
        Outcome::Done,
        retry(Duration::ZERO),
        super::kit::reject("no"),
    ] {
        let stale = kit.settle(first.receipt, outcome.clone());
        ensure!(
            matches!(stale, Err(SettleError::Stale)),
            "a stale {outcome:?}: {stale:?}"
        );
    }
    ensure!(
        matches!(late, Err(SettleError::Stale)),
        "the earlier receipt: {late:?}"
    );
    if kit.has(Capability::Extend) {
        let stale = kit.extend(&first, SECOND);
        ensure!(
            matches!(stale, Err(SettleError::Stale)),
            "a stale extension: {stale:?}"
        );
    }
    kit.done(&second)?;
    let again = kit.done(&second);
    ensure!(
        matches!(again, Err(SettleError::Stale)),
        "settling twice: {again:?}"
    );
    kit.send_all(&["two"])?;
    let given_back = kit.one()?;
    kit.settle(given_back.receipt, Outcome::release())?;
    let late = kit.done(&given_back);
    ensure!(
        matches!(late, Err(SettleError::Stale)),
        "settling what was given back: {late:?}"
    );
    ensure_eq!(kit.texts()?, ["two"], "what is left");
    Ok(())
}

/// An extended lease holds as long as it was extended to.
///
/// # Errors
/// [`Violation`].
pub fn a_lease_can_be_extended<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Extend) {
        return Ok(());
    }
    kit.send_all(&["one"])?;
    let delivery = kit.one()?;
    let lease = kit.setup.visibility;
    kit.pass(lease / 2);
    kit.extend(&delivery, 3 * lease)?;
    kit.pass(2 * lease);
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "within the extension");
    kit.pass(2 * lease);
    ensure_eq!(kit.one()?.count, 2, "the count after the extension");
    Ok(())
}

/// After the process has ended, everything acknowledged is there and everything done is not.
///
/// Where nothing is declared to survive, nothing may.
///
/// # Errors
/// [`Violation`].
pub fn what_was_acknowledged_survives<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["done", "out", "kept"])?;
    let received = kit.receive(2)?;
    let texts: Vec<_> = received.iter().map(text).collect();
    if let Some(done) = received.iter().find(|delivery| text(delivery) == "done") {
        kit.done(done)?;
    }
    let declared = kit.offered().survives;
    let kit = kit.reopened();
    kit.pass(3 * kit.setup.visibility);
    let mut found: Vec<_> = kit
        .receive(10)?
        .iter()
        .map(|one| (text(one), one.count))
        .collect();
    found.sort();
    if declared == Survives::Nothing {
        ensure_eq!(found, Vec::new(), "what survived, undeclared");
        return Ok(());
    }
    let count = |name: &str| 1 + u32::from(texts.iter().any(|text| text == name));
    let mut expected: Vec<_> = ["done", "out", "kept"]
        .map(|name| (name.to_owned(), count(name)))
        .into_iter()
        .filter(|(name, count)| name != "done" || *count == 1)
        .collect();
    expected.sort();
    ensure_eq!(found, expected, "what survived");
    Ok(())
}
