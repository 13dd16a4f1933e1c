//! Limits, ends, and what is not offered.

use dpat_core::{Classify, Effect};

use super::kit::{Kit, SECOND};
use super::{Harness, Setup, Violation, ensure, ensure_eq};
use crate::capability::Capability;
use crate::error::{ManageError, MessageError, ReceiveError, SendError, SettleError, Unsupported};
use crate::message::{HEADERS_MAX, Message, PRIORITY_MAX, TEXT_BYTES_MAX};

/// A message outside of its limits is refused, the field is named, and nothing is done; at the limit it is taken.
///
/// # Errors
/// [`Violation`].
pub fn a_message_outside_of_its_limits_is_refused<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    let largest = kit.offered().message_bytes_max;
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let many = (0..=HEADERS_MAX).fold(Message::new(""), |message, _| message.header("a", ""));
    let refused = [
        (Message::new(vec![1; largest + 1]), "payload"),
        (Message::new("").key(""), "key"),
        (Message::new("").key(long.as_str()), "key"),
        (Message::new("").dedup(long.as_str()), "dedup"),
        (Message::new("").header("", ""), "header name"),
        (many, "headers"),
        (
            Message::new("").header("a", vec![0; 16 << 10]),
            "bytes of headers",
        ),
        (Message::new("").priority(PRIORITY_MAX + 1), "priority"),
        (Message::new("").ttl(std::time::Duration::ZERO), "ttl"),
    ];
    for (message, name) in refused {
        let Err(error) = kit.try_send(message) else {
            return Err(Violation::new(format!("{name} was not refused")));
        };
        let field = match error {
            SendError::Invalid(MessageError::Empty { field }) => field,
            SendError::Invalid(MessageError::TooLarge { field, .. }) => field,
            _ => return Err(error.into()),
        };
        ensure_eq!(field, name, "the field at fault");
    }
    let id = kit.send(Message::new(vec![7; largest]))?;
    let delivery = kit.one()?;
    ensure_eq!(
        (delivery.id(), delivery.payload().len()),
        (id, largest),
        "the largest"
    );
    Ok(())
}

/// At its limit the queue refuses sends, with nothing done; room is made by settling.
///
/// # Errors
/// [`Violation`].
pub fn a_full_queue_refuses_and_nothing_is_done<H: Harness>(harness: &H) -> Result<(), Violation> {
    let setup = Setup {
        messages_max: 3,
        ..harness.setup()
    };
    let kit = Kit::with(harness, setup);
    kit.send_all(&["1", "2"])?;
    let batch = ["3", "4"].map(Message::new).to_vec();
    let mut sent = kit.run(kit.queue().send_batch(batch)).into_iter();
    let (Some(Ok(_)), Some(Err(full))) = (sent.next(), sent.next()) else {
        return Err(Violation::new("one of two has room"));
    };
    ensure!(matches!(full, SendError::Full { .. }), "{full}");
    ensure_eq!(full.effect(), Effect::NotDone, "the effect");
    let received = kit.receive(1)?;
    let full = kit.try_send(Message::new("4"));
    ensure!(full.is_err(), "what is out takes room");
    for delivery in &received {
        kit.done(delivery)?;
    }
    kit.send_all(&["5"])?;
    ensure_eq!(kit.receive(10)?.len(), 3, "messages");
    Ok(())
}

/// A drained queue neither takes nor hands out; what is out can be settled, and draining waits for it.
///
/// # Errors
/// [`Violation`].
pub fn a_drained_queue_refuses<H: Harness>(harness: &H) -> Result<(), Violation> {
    let kit = Kit::new(harness);
    kit.send_all(&["a", "b"])?;
    let out = kit.receive(1)?;
    let settles = async {
        let mut settled = Vec::new();
        for delivery in &out {
            let outcome = crate::message::Outcome::Done;
            settled.push(kit.queue().settle(delivery.receipt, outcome).await);
        }
        settled
    };
    let ((), settled) = kit.run(futures_util::future::join(kit.queue().drain(), settles));
    for settled in settled {
        settled?;
    }
    let sent = kit.try_send(Message::new("c"));
    ensure!(matches!(sent, Err(SendError::Closed)), "a send: {sent:?}");
    let received = kit.run(kit.queue().receive_batch(1, SECOND));
    ensure!(
        matches!(received, Err(ReceiveError::Closed)),
        "a receive: {received:?}"
    );
    Ok(())
}

/// What the backend does not declare is refused by its name, and what it declares is not.
///
/// # Errors
/// [`Violation`].
pub fn what_is_not_offered_is_refused_by_name<H: Harness>(harness: &H) -> Result<(), Violation> {
    use Capability as C;
    let kit = Kit::new(harness);
    let asks = [
        (C::OrderedKeys, Message::new("").key("k")),
        (C::Dedup, Message::new("").dedup("d")),
        (C::Priority, Message::new("").priority(9)),
        (C::Delay, Message::new("").delay(SECOND)),
        (C::Ttl, Message::new("").ttl(SECOND)),
    ];
    let named = |asked: C, refused: Option<Unsupported>| {
        let name = refused.map(|refused| refused.capability);
        let expected = (!kit.has(asked)).then_some(asked);
        ensure_eq!(name, expected, format!("what refuses `{asked}`"));
        Ok(())
    };
    for (asked, message) in asks {
        let refused = match kit.try_send(message) {
            Ok(_) => None,
            Err(SendError::Unsupported(refused)) => Some(refused),
            Err(error) => return Err(error.into()),
        };
        named(asked, refused)?;
    }
    kit.send_all(&["one"])?;
    let received = kit.receive(1)?;
    if let Some(delivery) = received.first() {
        let refused = match kit.extend(delivery, SECOND) {
            Ok(()) => None,
            Err(SettleError::Unsupported(refused)) => Some(refused),
            Err(error) => return Err(error.into()),
        };
        named(C::Extend, refused)?;
    }
    let refusal = |managed: Result<(), ManageError>| match managed {
        Ok(()) => Ok(None),
        Err(ManageError::Unsupported(refused)) => Ok(Some(refused)),
        Err(error) => Err(Violation::from(error)),
    };
    let queue = kit.queue();
    let stats = kit.run(queue.stats()).map(drop);
    named(C::Inspect, refusal(stats)?)?;
    let letters = kit.run(queue.dead_letters(None, 1)).map(drop);
    named(C::DeadLetters, refusal(letters)?)?;
    let paused = kit.run(queue.set_paused(false));
    named(C::Pause, refusal(paused)?)
}
