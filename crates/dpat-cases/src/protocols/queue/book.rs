//! The history: what clients and workers see, at true times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dpat_check::Value;
use dpat_core::{Classify, Clock, Effect, Instant, Sleep, Wall};
use dpat_model::{Event, Kind, NodeIx};
use dpat_queue::{
    Backend, Capabilities, Capability, Delivery, Message, Outcome, Queue, Receipt, ReceiveError,
    SendError, Sent, SettleError, Settlement,
};
use dpat_sim::async_node::AsyncNode;

use super::{LEASE, Order};
use crate::sync::Mutex;

/// Events in their order; each call is a process of its own, so that an answer may stay away.
#[derive(Default)]
pub(super) struct Book {
    events: Vec<Event<Value>>,
    calls: u64,
    answered: u64,
    receipts: u64,
    /// Deliveries that were not settled, by the node that has them: the name of each, and when its lease ends.
    out: BTreeMap<(NodeIx, Receipt), (Value, u64)>,
    /// Settlements that wait for their answer, by the node whose worker makes them.
    settling: BTreeMap<NodeIx, u64>,
    pub(super) stale: u64,
    pub(super) rejected: u64,
    last_ns: u64,
}

/// A call that has no answer yet.
#[derive(Clone, Copy)]
pub(super) struct Call {
    process: u64,
    f: &'static str,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter();
    Value::Map(fields.map(|(name, value)| (name.into(), value)).collect())
}

/// Times and ids are far below 2^63.
fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Book {
    fn push(&mut self, call: Call, kind: Kind, value: Value, time_ns: u64) {
        self.last_ns = self.last_ns.max(time_ns);
        self.events.push(Event {
            time_ns,
            process: call.process,
            kind,
            f: call.f.into(),
            value,
        });
    }

    fn invoke(&mut self, f: &'static str, value: Value, time_ns: u64) -> Call {
        let process = self.calls;
        self.calls += 1;
        let call = Call { process, f };
        self.push(call, Kind::Invoke, value, time_ns);
        call
    }

    pub(super) fn send(&mut self, order: &Order, time_ns: u64) -> Call {
        let after_ns = time_ns + nanos(Duration::from_millis(order.delay_ms));
        let mut value = vec![
            ("id".into(), int(order.id)),
            ("after_ns".into(), int(after_ns)),
        ];
        if order.keyed {
            value.push(("group".into(), int(order.client())));
        }
        self.invoke("send", Value::Map(value), time_ns)
    }

    pub(super) fn sent(&mut self, call: Call, time_ns: u64) {
        self.answered += 1;
        self.push(call, Kind::Ok, Value::Nil, time_ns);
    }

    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }

    /// Whether no settlement waits for its answer, which may not be durable before.
    pub(super) fn is_at_rest(&self) -> bool {
        self.settling.values().all(|settling| *settling == 0)
    }

    /// The process of a node has ended, and with it its leases.
    pub(super) fn crashed(&mut self, node: NodeIx, time_ns: u64) {
        self.settling.remove(&node);
        for ((of, receipt), (name, until_ns)) in std::mem::take(&mut self.out) {
            if of != node {
                self.out.insert((of, receipt), (name, until_ns));
            } else if until_ns > time_ns {
                let value = map([("receipt", name), ("until_ns", int(time_ns))]);
                let call = self.invoke("extend", value, time_ns);
                self.push(call, Kind::Ok, Value::Nil, time_ns);
            }
        }
    }

    fn received(
        &mut self,
        call: Call,
        node: NodeIx,
        called_ns: u64,
        delivery: &Delivery,
        time_ns: u64,
    ) {
        let Some(order) = Order::decode(delivery.payload()) else {
            return;
        };
        // A name of its own, so that a delivery which comes twice is two.
        self.receipts += 1;
        let name = int(self.receipts);
        // It began no earlier than it was asked for.
        let until_ns = called_ns + nanos(LEASE);
        let out = (name.clone(), until_ns);
        self.out.insert((node, delivery.receipt), out);
        let value = map([
            ("id", int(order.id)),
            ("receipt", name),
            ("count", Value::Int(delivery.count.into())),
            ("until_ns", int(until_ns)),
        ]);
        self.push(call, Kind::Ok, value, time_ns);
    }

    fn settle(&mut self, node: NodeIx, settlement: &Settlement, time_ns: u64) -> Option<Call> {
        let (name, _) = self.out.get(&(node, settlement.receipt))?.clone();
        *self.settling.entry(node).or_default() += 1;
        Some(match &settlement.outcome {
            Outcome::Done => self.invoke("ack", map([("receipt", name)]), time_ns),
            Outcome::Reject { .. } => self.invoke("reject", map([("receipt", name)]), time_ns),
            Outcome::Retry { delay, .. } => {
                let after_ns = int(time_ns + nanos(*delay));
                let value = map([("receipt", name), ("after_ns", after_ns)]);
                self.invoke("nack", value, time_ns)
            }
        })
    }

    fn settled(
        &mut self,
        node: NodeIx,
        call: Call,
        receipt: Receipt,
        settled: &Result<(), SettleError>,
        time_ns: u64,
    ) {
        if let Some(settling) = self.settling.get_mut(&node) {
            *settling = settling.saturating_sub(1);
        }
        match settled {
            Ok(()) => {
                self.rejected += u64::from(call.f == "reject");
                self.out.remove(&(node, receipt));
                self.push(call, Kind::Ok, Value::Nil, time_ns);
            }
            Err(error) if error.effect() == Effect::NotDone => {
                self.stale += u64::from(matches!(error, SettleError::Stale));
                self.push(call, Kind::Fail, Value::Nil, time_ns);
            }
            Err(_) => {}
        }
    }

    /// Ends the history with what is left, and returns it with the number of its answers.
    pub(super) fn finish(&mut self, left: &[u64]) -> (Vec<Event<Value>>, u64) {
        let time_ns = self.last_ns + 1;
        let call = self.invoke("drain", Value::Nil, time_ns);
        let left = left.iter().map(|id| int(*id)).collect();
        self.push(call, Kind::Ok, Value::List(left), time_ns);
        let events = std::mem::take(&mut self.events);
        let answers = events.iter().filter(|event| event.kind == Kind::Ok).count();
        (events, answers as u64)
    }
}

/// A queue whose calls are written down. It has no extensions, so that leases end.
pub(super) struct Recorded {
    queue: Queue,
    node: AsyncNode,
    book: Arc<Mutex<Book>>,
}

impl Recorded {
    pub(super) const fn new(queue: Queue, node: AsyncNode, book: Arc<Mutex<Book>>) -> Self {
        Self { queue, node, book }
    }

    fn index(&self) -> NodeIx {
        self.node.peer().node
    }
}

#[async_trait::async_trait]
impl Backend for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn capabilities(&self) -> Capabilities {
        self.queue.capabilities().without(Capability::Extend)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        self.queue.send_batch(batch).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let called_ns = self.node.true_ns();
        let call = self.book.lock().invoke("receive", Value::Nil, called_ns);
        // One call, one delivery.
        let received = self.queue.receive_batch(max.min(1), wait).await?;
        let time_ns = self.node.true_ns();
        let mut book = self.book.lock();
        match received.first() {
            None => book.push(call, Kind::Ok, Value::Nil, time_ns),
            Some(delivery) => book.received(call, self.index(), called_ns, delivery, time_ns),
        }
        Ok(received)
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        let called_ns = self.node.true_ns();
        let calls: Vec<_> = {
            let mut book = self.book.lock();
            let settlements = batch.iter();
            settlements
                .map(|one| (one.receipt, book.settle(self.index(), one, called_ns)))
                .collect()
        };
        let settled = self.queue.settle_batch(batch).await;
        let time_ns = self.node.true_ns();
        let mut book = self.book.lock();
        for ((receipt, call), settled) in calls.into_iter().zip(&settled) {
            if let Some(call) = call {
                book.settled(self.index(), call, receipt, settled, time_ns);
            }
        }
        settled
    }

    async fn drain(&self) {
        self.queue.drain().await;
    }
}

/// A clock that stands still, to look at what is left.
#[derive(Clone, Copy)]
pub(super) struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::MIN
    }

    fn wall(&self) -> Wall {
        Wall::MIN
    }
}

impl Sleep for Still {
    type Sleeping = std::future::Pending<()>;

    fn sleep_until(&self, _: Instant) -> Self::Sleeping {
        std::future::pending()
    }
}
