//! The three programs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::{Backoff, Class, Clock, Deadline, Sleep, Uuid7};
use dpat_idempotency::{
    AnyStore, BeginError, Begun, Config as ResponseConfig, Fingerprint, Key, OnDoubt, Responses,
};
use dpat_outbox::{Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink};
use dpat_queue::{Message, MessageId, Outcome, Queue, Receipt, WalQueue};
use dpat_redb::{Config, Inbox, Outbox, ResponseLimits, ResponseStore, commit};
use dpat_sim::async_node::{AsyncNode, Closed, Incoming, NodeTime};
use redb::Database;

use super::store::{self, count};
use super::{BROKER, Broken, Outside};

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long one call waits for its answer.
const CALL: Duration = Duration::from_millis(300);
/// How long a claim of the relay holds, and a message is leased.
const LEASE: Duration = Duration::from_millis(1_000);
/// How often somebody looks who is told of nothing.
const POLL: Duration = Duration::from_millis(50);

/// Time between two steps, in which a node may crash.
async fn pause(node: &AsyncNode) {
    let micros = node.entropy().below(40_000);
    node.time().sleep(Duration::from_micros(micros)).await;
}

/// Passes a named point between two steps.
async fn pass(node: &AsyncNode, point: &'static str, order: u64) {
    pause(node).await;
    node.point(point, Some(&order.to_string())).await;
}

fn deadline(node: &AsyncNode) -> Deadline {
    Deadline::after(node.time().now(), CALL)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().map(u64::from_le_bytes).ok()
}

/// The id of the event of an order.
fn id(order: u64) -> Result<Uuid7, Error> {
    // Version 7, variant 2.
    let low = 0x8000_0000_0000_0000 | u128::from(order);
    Ok(Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes())?)
}

/// Writes changes and events, and relays them.
pub(super) async fn produce(node: AsyncNode, broken: Option<Broken>) -> Result<(), Error> {
    let database = store::open(node.disk())?;
    let config = Config::new("outbox")?;
    let outbox = Outbox::open(Arc::clone(&database), config, Limits::DEFAULT)?;
    node.serve({
        let (node, outbox) = (node.clone(), outbox.clone());
        move |incoming: Incoming| {
            let (node, database, outbox) = (node.clone(), Arc::clone(&database), outbox.clone());
            async move {
                let order = number(&incoming.body).ok_or(Closed)?;
                pass(&node, "append", order).await;
                let done = order_once(&node, &database, &outbox, order, broken).await;
                done.map_err(|_| Closed)?;
                pass(&node, "appended", order).await;
                Ok(Bytes::new())
            }
        }
    });
    let config = RelayConfig::builder()
        .lease(LEASE)
        .publish_timeout(LEASE / 2)
        .poll(POLL)
        .backoff(Backoff::constant(POLL))
        .build()?;
    let sink = Arc::new(ToBroker {
        node: node.clone(),
        broken,
    });
    let relay = Relay::new(config, Arc::new(outbox), sink, node.time(), node);
    Err(relay.run().await.into())
}

/// Changes something for an order, and tells of it; nothing for one that was changed before.
async fn order_once(
    node: &AsyncNode,
    database: &Database,
    outbox: &Outbox,
    order: u64,
    broken: Option<Broken>,
) -> Result<(), Error> {
    let event = Event::builder(id(order)?, "ordered")
        .key(format!("customer-{}", order % 3))
        .payload(order.to_le_bytes().to_vec())
        .build()?;
    let now = node.time().wall();
    {
        let tx = database.begin_write()?;
        if store::is_counted(&tx, order)? {
            return Ok(());
        }
        count(&tx, order)?;
        if broken != Some(Broken::EventAfterTheChange) {
            outbox.append(&tx, &event, now)?;
        }
        outbox.commit(tx)?;
    }
    if broken == Some(Broken::EventAfterTheChange) {
        pause(node).await;
        let tx = database.begin_write()?;
        outbox.append(&tx, &event, now)?;
        outbox.commit(tx)?;
    }
    Ok(())
}

/// Takes events to the broker.
struct ToBroker {
    node: AsyncNode,
    broken: Option<Broken>,
}

#[async_trait]
impl Sink for ToBroker {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        let node = &self.node;
        let body = delivery.event.payload().clone();
        let order = number(&body).unwrap_or_default();
        pass(node, "relay", order).await;
        if self.broken == Some(Broken::MarksBeforeTheAnswer) {
            let node = node.clone();
            let sending = node.clone();
            drop(node.spawn(async move {
                pause(&sending).await;
                sending.call(BROKER, "send", body, deadline(&sending)).await
            }));
            return Ok(());
        }
        let sent = node.call(BROKER, "send", body, deadline(node)).await;
        sent.map_err(|_| PublishError::new(Class::Transient, "no answer"))?;
        pass(node, "relayed", order).await;
        Ok(())
    }
}

/// Keeps the queue.
pub(super) async fn broker(node: AsyncNode) -> Result<(), Error> {
    let log = dpat_wal::Config::builder()
        .segment_bytes(1 << 20)
        .frame_bytes_max(128 << 10)
        .preallocate_bytes(0)
        .build()?;
    let config = Queue::builder()
        .message_bytes_max(1 << 10)
        .visibility(LEASE);
    let (wal, _) = WalQueue::open(node.disk().clone(), log, config, node.time())?;
    let queue = wal.queue().clone();
    let served = node.clone();
    node.serve(move |incoming: Incoming| {
        let (node, queue) = (served.clone(), queue.clone());
        async move {
            let answer = serve(&node, &queue, &incoming).await;
            answer.map_err(|_| Closed)
        }
    });
    // The handler goes on.
    std::future::pending::<()>().await;
    drop(wal);
    Ok(())
}

async fn serve(node: &AsyncNode, queue: &Queue, incoming: &Incoming) -> Result<Bytes, Error> {
    match incoming.kind {
        "send" => {
            let order = number(&incoming.body).ok_or("no order")?;
            queue.send(Message::new(incoming.body.clone())).await?;
            pass(node, "queued", order).await;
            Ok(Bytes::new())
        }
        "receive" => {
            let mut received = queue.receive_batch(1, Duration::ZERO).await?;
            let Some(delivery) = received.pop() else {
                return Ok(Bytes::new());
            };
            let order = number(delivery.payload()).ok_or("no order")?;
            pass(node, "handed", order).await;
            Ok(encode(delivery.receipt, order))
        }
        _ => {
            let (receipt, order) = decode(&incoming.body).ok_or("no receipt")?;
            // One that is stale was handed out again: it is settled then.
            queue.settle(receipt, Outcome::Done).await?;
            pass(node, "settled", order).await;
            Ok(Bytes::new())
        }
    }
}

fn encode(receipt: Receipt, order: u64) -> Bytes {
    let id = receipt.id().get().to_le_bytes();
    let token = receipt.token().to_le_bytes();
    [&id[..], &token, &order.to_le_bytes()].concat().into()
}

fn decode(bytes: &[u8]) -> Option<(Receipt, u64)> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (token, order) = rest.split_first_chunk()?;
    let id = MessageId::new(u128::from_le_bytes(*id));
    Some((
        Receipt::new(id, u128::from_le_bytes(*token)),
        number(order)?,
    ))
}

/// Acts on what comes.
struct Receiver {
    node: AsyncNode,
    outside: Arc<Outside>,
    broken: Option<Broken>,
    database: Arc<Database>,
    inbox: Inbox,
    responses: Responses<NodeTime>,
}

/// Takes messages from the broker, one after the other.
pub(super) async fn receive(
    node: AsyncNode,
    outside: Arc<Outside>,
    broken: Option<Broken>,
) -> Result<(), Error> {
    let database = store::open(node.disk())?;
    let on_doubt = match broken {
        Some(Broken::RetakesDoubt) => OnDoubt::Retake,
        _ => OnDoubt::Report,
    };
    let config = ResponseConfig::builder()
        .lease(LEASE)
        .on_doubt(on_doubt)
        .build()?;
    let store = ResponseStore::open(
        Arc::clone(&database),
        &Config::new("responses")?,
        ResponseLimits::DEFAULT,
    )?;
    let receiver = Receiver {
        inbox: Inbox::open(&database, &Config::new("inbox")?)?,
        responses: Responses::new(config, AnyStore::new(store), node.time(), node.clone()),
        database,
        outside,
        broken,
        node,
    };
    loop {
        receiver.next().await?;
    }
}

impl Receiver {
    async fn next(&self) -> Result<(), Error> {
        let node = &self.node;
        let asked = node.call(BROKER, "receive", Bytes::new(), deadline(node));
        let Some((receipt, order)) = asked.await.ok().and_then(|bytes| decode(&bytes)) else {
            node.time().sleep(POLL).await;
            return Ok(());
        };
        pass(node, "received", order).await;
        if self.broken == Some(Broken::SettlesBeforeTheEffect) {
            self.settle(receipt, order).await;
            pause(node).await;
        }
        self.handle(order).await?;
        pass(node, "handled", order).await;
        if self.act(order).await? {
            pass(node, "stored", order).await;
            self.settle(receipt, order).await;
        }
        Ok(())
    }

    async fn settle(&self, receipt: Receipt, order: u64) {
        let node = &self.node;
        let body = encode(receipt, order);
        let settled = node.call(BROKER, "settle", body, deadline(node)).await;
        if settled.is_ok() {
            self.outside.closed.lock().insert(order);
        }
    }

    /// The effect in the own database: once, by a marker in its transaction.
    async fn handle(&self, order: u64) -> Result<(), Error> {
        let key = Key::new("orders", &order.to_string())?;
        let now = self.node.time().wall();
        let accept = |effect: bool| -> Result<(), Error> {
            let tx = self.database.begin_write()?;
            let accepted = self.inbox.accept(&tx, &key, Fingerprint::NONE, now, |tx| {
                if effect {
                    count(tx, order)?;
                }
                Ok::<_, redb::Error>(Bytes::new())
            });
            accepted?;
            Ok(commit(tx)?)
        };
        let split = self.broken == Some(Broken::MarksInAnotherTransaction);
        if split || self.broken == Some(Broken::ActsWithoutMarker) {
            let tx = self.database.begin_write()?;
            let known = split && {
                let mut inbox = self.inbox.within(&tx)?;
                dpat_idempotency::inbox::Markers::marker(&mut inbox, &key)?.is_some()
            };
            if !known {
                count(&tx, order)?;
            }
            commit(tx)?;
            pause(&self.node).await;
        }
        match self.broken {
            Some(Broken::ActsWithoutMarker) => Ok(()),
            Some(Broken::MarksInAnotherTransaction) => accept(false),
            _ => accept(true),
        }
    }

    /// The act outside, behind a response store alone; says whether the message is dealt with.
    async fn act(&self, order: u64) -> Result<bool, Error> {
        let key = Key::new("acts", &order.to_string())?;
        match self.responses.begin(&key, Fingerprint::NONE).await {
            Ok(Begun::First(claim)) => {
                pause(&self.node).await;
                *self.outside.acts.lock().entry(order).or_default() += 1;
                pass(&self.node, "acted", order).await;
                claim.complete(Bytes::from_static(b"done")).await?;
                Ok(true)
            }
            Ok(Begun::Replay(_)) => Ok(true),
            Err(BeginError::InDoubt { .. }) => {
                self.node.sometimes("doubt", true);
                self.outside.doubts.lock().insert(order);
                Ok(true)
            }
            // An earlier life had it: until its lease ends the message is left alone, and comes again.
            Err(BeginError::Busy { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
