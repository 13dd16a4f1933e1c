//! How an order goes through the services, and how it is undone.
//!
//! Reserve the goods, charge the card, complete; or release and void, in reverse. Every state is durable before the
//! next step begins, so a restarted service goes on where it stopped; the receivers are idempotent, so a step that
//! was on its way may be sent again. Undoing never gives up.

use core::time::Duration;

use bytes::Bytes;
use dpat_core::{Backoff, Clock, Deadline, Instant, Sleep, Uuid7Generator};
use dpat_outbox::Event;
use serde::Serialize;

use super::domain::{Item, OrderCompleted, OrderRecord, Reason, State};
use super::notices::Notices;
use super::outbox;
use super::service::ports::{
    CallError, Env, Peer, Reply, Request, Step, Store, StoreError, Table, Transport, encode, json,
};

/// Orders: `order_id` → [`OrderRecord`].
pub const ORDERS: Table = Table("orders");
/// Ids of orders that are not terminal.
pub const OPEN: Table = Table("open");

/// The point between the commit of a completed order and telling anybody.
pub const COMPLETED: &str = "order.completed";

/// What the flow is allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct FlowConfig {
    /// How long after its acceptance an order is still tried.
    pub patience: Duration,
    /// How long one call may take, with all its retries.
    pub call_timeout: Duration,
    /// How long to wait before a step is tried anew.
    pub redrive: Backoff,
    /// Whether a step that failed is tried anew at all; undoing always is.
    pub persistent: bool,
    /// Whether the event is written with the order.
    pub outbox: bool,
}

/// Asks inventory to set goods aside.
#[derive(Debug, Serialize)]
struct ReserveBody<'a> {
    items: &'a [Item],
}

/// Asks payment for money.
#[derive(Debug, Serialize)]
struct ChargeBody<'a> {
    customer: &'a str,
    cents: u64,
}

/// What became of an order, and the event that is still to be told.
#[derive(Debug)]
pub struct Finished {
    /// The terminal state.
    pub state: State,
    /// Present for a completed order.
    pub event: Option<Event>,
}

/// Drives one order until it is terminal, and tells of each state once it is durable.
///
/// # Errors
/// Whatever the store reports.
pub async fn drive<E: Env>(
    env: &E,
    config: &FlowConfig,
    ids: &Uuid7Generator,
    notices: &Notices,
    mut record: OrderRecord,
) -> Result<Finished, StoreError> {
    loop {
        match record.state {
            State::Accepted => {
                let body = json(&ReserveBody {
                    items: &record.order.items,
                })?;
                match attempt(env, config, &record, Peer::Inventory, Step::Reserve, body).await {
                    Ok(()) => {
                        record.charge_tried = true;
                        save(env, notices, &mut record, State::Reserved).await?;
                    }
                    Err(reason) => {
                        record.reason = Some(reason);
                        save(env, notices, &mut record, State::Compensating).await?;
                    }
                }
            }
            State::Reserved => {
                let body = json(&ChargeBody {
                    customer: &record.order.customer,
                    cents: record.order.payment_cents,
                })?;
                match attempt(env, config, &record, Peer::Payment, Step::Charge, body).await {
                    Ok(()) => {
                        let event = complete(env, config, ids, notices, &mut record).await?;
                        return Ok(Finished {
                            state: State::Completed,
                            event: Some(event),
                        });
                    }
                    Err(reason) => {
                        record.reason = Some(reason);
                        save(env, notices, &mut record, State::Compensating).await?;
                    }
                }
            }
            State::Compensating => {
                if record.charge_tried {
                    undo(env, config, &record, Peer::Payment, Step::Void).await;
                }
                undo(env, config, &record, Peer::Inventory, Step::Release).await;
                save(env, notices, &mut record, State::Compensated).await?;
            }
            State::Completed | State::Compensated => {
                return Ok(Finished {
                    state: record.state,
                    event: None,
                });
            }
        }
    }
}

/// Makes a new state durable.
async fn save<E: Env>(
    env: &E,
    notices: &Notices,
    record: &mut OrderRecord,
    state: State,
) -> Result<(), StoreError> {
    record.enter(state, micros(env.time().now()));
    let row = encode(record)?;
    let order_id = record.order.order_id.clone();
    env.store()
        .transact(move |tx| {
            tx.put(ORDERS, &order_id, &row)?;
            if state.is_terminal() {
                tx.remove(OPEN, &order_id)?;
            }
            Ok(())
        })
        .await?;
    notices.tell(record, env.time().now());
    Ok(())
}

/// Makes the order complete, together with its event.
async fn complete<E: Env>(
    env: &E,
    config: &FlowConfig,
    ids: &Uuid7Generator,
    notices: &Notices,
    record: &mut OrderRecord,
) -> Result<Event, StoreError> {
    record.enter(State::Completed, micros(env.time().now()));
    let row = encode(record)?;
    let order_id = record.order.order_id.clone();
    let completed = OrderCompleted {
        event_id: format!("{order_id}.completed"),
        order_id: order_id.clone(),
        items: record.order.items.clone(),
    };
    let event = outbox::event(env, ids, &completed)?;
    let with_outbox = config.outbox;
    let mut delays = config.redrive.delays();
    loop {
        let (order_id, row, event) = (order_id.clone(), row.clone(), event.clone());
        let now = env.time().wall();
        let done = env.store().transact(move |tx| {
            // First, since nothing may be written if there is no room.
            if with_outbox && tx.append(&event, now)?.is_none() {
                return Ok(false);
            }
            tx.put(ORDERS, &order_id, &row)?;
            tx.remove(OPEN, &order_id)?;
            Ok(true)
        });
        if done.await? {
            break;
        }
        // The outbox is full: the order stays open until the relay has made room.
        let delay = delays.next_delay(env.entropy());
        env.time().sleep(delay).await;
    }
    notices.tell(record, env.time().now());
    env.at_point(COMPLETED, &order_id).await;
    Ok(event)
}

/// Tries a step until it is answered or the order's patience ends.
async fn attempt<E: Env>(
    env: &E,
    config: &FlowConfig,
    record: &OrderRecord,
    peer: Peer,
    step: Step,
    body: Bytes,
) -> Result<(), Reason> {
    let accepted = Instant::from_nanos(record.accepted_at_us().saturating_mul(1_000));
    let patience = Deadline::after(accepted, config.patience);
    let mut delays = config.redrive.delays();
    let mut request = Request::new(step, &record.order.order_id, body);
    loop {
        match once(env, config, peer, &mut request, patience).await {
            Ok(Reply::Done) => return Ok(()),
            Ok(Reply::Refused(reason)) => return Err(reason),
            _ if config.persistent && !patience.is_past(env.time().now()) => {
                let delay = delays.next_delay(env.entropy());
                env.time().sleep(delay).await;
            }
            _ => return Err(Reason::Unavailable),
        }
    }
}

/// Undoes a step, however long it takes.
async fn undo<E: Env>(env: &E, config: &FlowConfig, record: &OrderRecord, peer: Peer, step: Step) {
    let mut delays = config.redrive.delays();
    let mut request = Request::new(step, &record.order.order_id, Bytes::from_static(b"{}"));
    while once(env, config, peer, &mut request, Deadline::NEVER).await != Ok(Reply::Done) {
        let delay = delays.next_delay(env.entropy());
        env.time().sleep(delay).await;
    }
}

async fn once<E: Env>(
    env: &E,
    config: &FlowConfig,
    peer: Peer,
    request: &mut Request,
    patience: Deadline,
) -> Result<Reply, CallError> {
    let deadline = Deadline::after(env.time().now(), config.call_timeout).earlier(patience);
    let answer = env.transport().call(peer, request.clone(), deadline).await;
    // Attempts are counted over all tries of the step, so that each is a new one for the receiver's fault plan.
    request.attempt = request.attempt.saturating_add(ATTEMPTS_PER_TRY);
    answer
}

/// More than the attempts that one call makes.
pub const ATTEMPTS_PER_TRY: u32 = 16;

/// Returns microseconds since the start of the run.
#[must_use]
pub fn micros(now: Instant) -> u64 {
    now.as_nanos() / 1_000
}
