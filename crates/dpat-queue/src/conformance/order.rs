//! Which message comes when.

use std::time::Duration;

use super::kit::{Kit, SECOND, reject, retry, text};
use super::{Harness, Violation, ensure, ensure_eq};
use crate::capability::{Capability, OrderScope};
use crate::message::{Message, Outcome};

/// Messages of equal priority come in the order of their sending, where the whole queue has one.
///
/// # Errors
/// [`Violation`].
pub fn messages_come_in_the_order_of_sending<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if kit.offered().order != OrderScope::Queue {
        return Ok(());
    }
    let texts: Vec<String> = (10..40).map(|number| number.to_string()).collect();
    for payload in &texts {
        kit.send(Message::new(payload.clone()))?;
    }
    let mut received: Vec<String> = kit.receive(7)?.iter().map(text).collect();
    received.extend(kit.texts()?);
    ensure_eq!(received, texts, "the order");
    Ok(())
}

/// Higher priorities come first, and among equals the earlier.
///
/// # Errors
/// [`Violation`].
pub fn a_higher_priority_comes_first<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Priority) {
        return Ok(());
    }
    for (text, priority) in [("c", 1), ("a", 9), ("d", 0), ("b", 4)] {
        kit.send(Message::new(text).priority(priority))?;
    }
    ensure_eq!(kit.texts()?, ["a", "b", "c", "d"], "the order");
    Ok(())
}

/// Of a key, one message is out at a time, in the order of sending: also after a retry, and after a rejection.
///
/// # Errors
/// [`Violation`].
pub fn of_a_key_one_is_out_and_order_is_kept<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::OrderedKeys) {
        return Ok(());
    }
    for (text, key) in [
        ("a1", "a"),
        ("a2", "a"),
        ("b1", "b"),
        ("a3", "a"),
        ("b2", "b"),
    ] {
        kit.send(Message::new(text).key(key))?;
    }
    kit.send(Message::new("free"))?;
    let mut received = kit.receive(10)?;
    received.sort_by_key(text);
    let texts: Vec<_> = received.iter().map(text).collect();
    ensure_eq!(texts, ["a1", "b1", "free"], "one of each key");
    ensure_eq!(kit.texts()?, Vec::<String>::new(), "while they are out");
    let [a1, b1, _] = &received[..] else {
        return Err(Violation::new("three were received"));
    };
    kit.done(b1)?;
    ensure_eq!(kit.texts()?, ["b2"], "after the first of its key was done");
    if kit.has(Capability::Delay) {
        kit.settle(a1.receipt, retry(kit.setup.visibility / 2))?;
        ensure_eq!(
            kit.texts()?,
            Vec::<String>::new(),
            "while a retry holds its key"
        );
        kit.pass(kit.setup.visibility * 3 / 4);
    } else {
        kit.settle(a1.receipt, Outcome::release())?;
    }
    let again = kit.one()?;
    ensure_eq!(text(&again), "a1", "the retry");
    kit.settle(again.receipt, reject("no"))?;
    let next = kit.receive(10)?;
    let next = next.iter().map(text).find(|text| text.starts_with('a'));
    ensure_eq!(next.as_deref(), Some("a2"), "after a rejection");
    Ok(())
}

/// A delayed message comes at its time and not before, and holds nobody else up.
///
/// # Errors
/// [`Violation`].
pub fn a_delayed_message_comes_at_its_time<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Delay) {
        return Ok(());
    }
    kit.send(Message::new("late").delay(4 * SECOND))?;
    kit.send(Message::new("soon").delay(2 * SECOND))?;
    kit.send_all(&["now"])?;
    let mut seen = Vec::new();
    for _ in 0..6 {
        for delivery in kit.receive(10)? {
            seen.push(text(&delivery));
            kit.done(&delivery)?;
        }
        kit.pass(SECOND);
        seen.push("|".to_owned());
    }
    ensure_eq!(
        seen.concat(),
        "now||soon||late||",
        "what came in which second"
    );
    Ok(())
}

/// A schedule that passed while nobody received fires once.
///
/// # Errors
/// [`Violation`].
pub fn a_missed_schedule_fires_once<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Delay) {
        return Ok(());
    }
    kit.send(Message::new("missed").delay(SECOND))?;
    kit.send(Message::new("past").not_before(dpat_core::Wall::from_nanos(1)))?;
    kit.pass(60 * SECOND);
    let received = kit.receive(10)?;
    ensure_eq!(received.len(), 2, "messages that came");
    for delivery in &received {
        ensure_eq!(delivery.count, 1, "the count");
        kit.done(delivery)?;
    }
    kit.pass(60 * SECOND);
    ensure_eq!(kit.receive(10)?.len(), 0, "messages that came again");
    Ok(())
}

/// Within the window, a second send with the same deduplication key adds nothing and answers with the first id, even if the
/// first is done; after it, it is another message.
///
/// # Errors
/// [`Violation`].
pub fn a_double_send_answers_with_the_first<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Dedup) {
        return Ok(());
    }
    let message = |text: &'static str| Message::new(text).dedup("d");
    let first = kit.send(message("first"))?;
    kit.send(Message::new("other").dedup("e"))?;
    let double = kit.try_send(message("second"))?;
    ensure_eq!(
        (double.id, double.is_duplicate()),
        (first, true),
        "the answer"
    );
    let received = kit.receive(10)?;
    ensure_eq!(received.len(), 2, "messages");
    for delivery in &received {
        kit.done(delivery)?;
    }
    let double = kit.try_send(message("third"))?;
    ensure_eq!(
        (double.id, double.is_duplicate()),
        (first, true),
        "once it is done"
    );
    kit.pass(2 * kit.setup.dedup_window);
    let later = kit.send(message("fourth"))?;
    ensure!(later != first, "after the window, it is the same message");
    ensure_eq!(kit.texts()?, ["fourth"], "after the window");
    Ok(())
}

/// What is not delivered in time is not delivered, and holds nobody up.
///
/// # Errors
/// [`Violation`].
pub fn a_message_ends_with_its_time_to_live<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    if !kit.has(Capability::Ttl) {
        return Ok(());
    }
    kit.send(Message::new("short").ttl(2 * SECOND))?;
    kit.send(Message::new("long").ttl(600 * SECOND))?;
    kit.pass(SECOND);
    let received = kit.receive(10)?;
    ensure_eq!(received.len(), 2, "messages in time");
    for delivery in &received {
        kit.settle(delivery.receipt, Outcome::release())?;
    }
    kit.pass(2 * SECOND);
    ensure_eq!(kit.texts()?, ["long"], "after the time of one");
    if kit.has(Capability::OrderedKeys) {
        kit.send(Message::new("first").key("k").ttl(SECOND))?;
        kit.send(Message::new("second").key("k"))?;
        kit.pass(Duration::from_millis(1_500));
        let mut texts = kit.texts()?;
        texts.retain(|text| text != "long");
        ensure_eq!(texts, ["second"], "behind one that ended");
    }
    Ok(())
}
