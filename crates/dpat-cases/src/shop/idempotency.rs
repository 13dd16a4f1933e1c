//! Acting once on a request that may come twice: the inbox of dpat-idempotency, as the services use it.
//!
//! The marker is written in the transaction of the effect, so that both are there or neither. Cancelling a step
//! leaves a marker too: a step that arrives after its cancellation is refused, and a cancellation of a step that
//! never arrived undoes nothing.

use core::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Sleep, Wall};
use dpat_idempotency::inbox::{self, AcceptError, Accepted, Marker, Verdict};
use dpat_idempotency::{Fingerprint, Key, KeyError};

use super::domain::Reason;
use super::service::ports::{Env, Reply, Store, StoreError, Write};

/// How long a receiver remembers: longer than the relay goes on trying (three days), with a day for repairs by hand.
pub const RETENTION: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// How often old markers are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How many markers are forgotten in one transaction.
const SWEEP_ROWS: usize = 10_000;

const DONE: &[u8] = b"done";
const OUT_OF_STOCK: &[u8] = b"out_of_stock";
const CARD_DECLINED: &[u8] = b"card_declined";

fn encode(reply: &Reply) -> Bytes {
    Bytes::from_static(match reply {
        Reply::Refused(Reason::OutOfStock) => OUT_OF_STOCK,
        Reply::Refused(Reason::CardDeclined) => CARD_DECLINED,
        _ => DONE,
    })
}

fn decode(outcome: &[u8]) -> Reply {
    match outcome {
        OUT_OF_STOCK => Reply::Refused(Reason::OutOfStock),
        CARD_DECLINED => Reply::Refused(Reason::CardDeclined),
        _ => Reply::Done,
    }
}

/// A request as its receiver remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    key: Key,
    body: Fingerprint,
    at: Wall,
}

impl Message {
    /// Names a request by its step and the order or event that it is about.
    ///
    /// # Errors
    /// [`KeyError`] for an id that cannot be one.
    pub fn of<E: Env>(env: &E, step: &str, id: &str, body: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            key: Key::new(step, id)?,
            body: Fingerprint::of(&[body]),
            at: env.time().wall(),
        })
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

/// Runs `effect` unless the step was done or cancelled before. Another body under the same key is a conflict.
///
/// # Errors
/// Whatever the store reports.
pub fn once(
    tx: &mut dyn Write,
    memory: Memory,
    message: &Message,
    effect: impl FnOnce(&mut dyn Write) -> Result<Reply, StoreError>,
) -> Result<Reply, StoreError> {
    if memory == Memory::Off {
        return again(tx, message, effect);
    }
    let Message { key, body, at } = message;
    let accepted = inbox::accept(tx, key, *body, *at, |tx| Ok(encode(&effect(tx)?)));
    match accepted {
        Ok(Accepted::First(outcome) | Accepted::Again(outcome)) => Ok(decode(&outcome)),
        Ok(Accepted::Cancelled) => Ok(Reply::Refused(Reason::Cancelled)),
        Err(AcceptError::Reused) => Ok(Reply::Conflict),
        Err(error) => Err(store_error(error)),
    }
}

/// What `--without idempotency` does: the marker is written, and nobody looks whether it says "done".
fn again(
    tx: &mut dyn Write,
    message: &Message,
    effect: impl FnOnce(&mut dyn Write) -> Result<Reply, StoreError>,
) -> Result<Reply, StoreError> {
    let Message { key, body, at } = message;
    let marker = tx.marker(key)?.map(|row| Marker::decode(&row));
    let marker = marker
        .transpose()
        .map_err(|error| store_error(AcceptError::Corrupt(error)))?;
    if Marker::judge(marker.as_ref(), *body) == Verdict::Cancelled {
        return Ok(Reply::Refused(Reason::Cancelled));
    }
    let reply = effect(tx)?;
    let marker = Marker::done(*body, encode(&reply), *at)
        .map_err(|error| store_error(AcceptError::Outcome(error)))?;
    tx.set_marker(key, marker.encode(), *at)?;
    Ok(reply)
}

/// Cancels a step: undoes it if it was done, and refuses it from now on.
///
/// # Errors
/// Whatever the store reports.
pub fn cancel(
    tx: &mut dyn Write,
    message: &Message,
    undo: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<Reply, StoreError> {
    let undone = inbox::cancel(tx, &message.key, message.at, |tx, outcome| {
        // What was refused has nothing to undo.
        match &outcome[..] == DONE {
            true => undo(tx),
            false => Ok(()),
        }
    });
    undone.map(|_| Reply::Done).map_err(store_error)
}

fn store_error(error: AcceptError<StoreError, StoreError>) -> StoreError {
    match error {
        AcceptError::Effect(error) | AcceptError::Store(error) => error,
        AcceptError::Corrupt(error) => StoreError::Corrupt {
            table: "inbox",
            reason: error.to_string(),
        },
        error => StoreError::Engine(error.to_string()),
    }
}

/// Forgets what is old, for ever.
///
/// # Errors
/// Whatever the store reports.
pub async fn keep<E: Env>(env: &E) -> Result<(), StoreError> {
    loop {
        env.time().sleep(SWEEP_EVERY).await;
        let before = env.time().wall() - RETENTION;
        let swept = move |tx: &mut dyn Write| tx.forget(before, SWEEP_ROWS);
        while env.store().transact(swept).await? == SWEEP_ROWS {}
    }
}
