//! Acting once on a request that may come twice.
//!
//! The marker is written in the transaction of the effect, so that both are there or neither. Cancelling a step
//! leaves a marker too: a step that arrives after its cancellation is refused, and a cancellation of a step that
//! never arrived undoes nothing (the barrier of the TCC literature).

use super::domain::Reason;
use super::service::ports::{Reply, StoreError, Table, Write};

/// Markers: `order_id/step` → the reply that was given.
const INBOX: Table = Table("inbox");

const DONE: &[u8] = b"done";
const CANCELLED: &[u8] = b"cancelled";

fn key(order_id: &str, step: &str) -> String {
    format!("{order_id}/{step}")
}

fn encode(reply: &Reply) -> &[u8] {
    match reply {
        Reply::Refused(Reason::OutOfStock) => b"out_of_stock",
        Reply::Refused(Reason::CardDeclined) => b"card_declined",
        Reply::Refused(Reason::Cancelled) => CANCELLED,
        _ => DONE,
    }
}

fn decode(row: &[u8]) -> Reply {
    match row {
        b"out_of_stock" => Reply::Refused(Reason::OutOfStock),
        b"card_declined" => Reply::Refused(Reason::CardDeclined),
        CANCELLED => Reply::Refused(Reason::Cancelled),
        _ => Reply::Done,
    }
}

/// Whether a receiver remembers what it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A repetition gets the first reply again.
    On,
    /// A repetition acts again; cancellations are still remembered.
    Off,
}

/// Runs `effect` unless the step was done or cancelled before.
///
/// # Errors
/// Whatever the store reports.
pub fn once(
    tx: &mut dyn Write,
    memory: Memory,
    order_id: &str,
    step: &str,
    effect: impl FnOnce(&mut dyn Write) -> Result<Reply, StoreError>,
) -> Result<Reply, StoreError> {
    let key = key(order_id, step);
    if let Some(row) = tx.get(INBOX, &key)? {
        let earlier = decode(&row);
        if memory == Memory::On || earlier == Reply::Refused(Reason::Cancelled) {
            return Ok(earlier);
        }
    }
    let reply = effect(tx)?;
    tx.put(INBOX, &key, encode(&reply))?;
    Ok(reply)
}

/// Cancels a step: undoes it if it was done, and refuses it from now on.
///
/// # Errors
/// Whatever the store reports.
pub fn cancel(
    tx: &mut dyn Write,
    order_id: &str,
    step: &str,
    undo: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<Reply, StoreError> {
    let key = key(order_id, step);
    let earlier = tx.get(INBOX, &key)?.map(|row| decode(&row));
    match earlier {
        Some(Reply::Refused(Reason::Cancelled)) => return Ok(Reply::Done),
        Some(Reply::Done) => undo(tx)?,
        // Refused or never arrived: there is nothing to undo.
        _ => {}
    }
    tx.put(INBOX, &key, CANCELLED)?;
    Ok(Reply::Done)
}
