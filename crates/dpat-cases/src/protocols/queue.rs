//! Queues on logs, a worker on each: asynchronous code under the simulator, judged by the delivery model.
//!
//! A node is a process with a queue on its disk and a worker. Clients send messages to the nodes and repeat them, under one
//! deduplication key, until they are answered. Handlers fail, reject, and outlast their leases. What the worker sees of its
//! queue is the history: [`dpat_check::check_delivery`] decides whether it is one of a queue with receipts.

mod book;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use dpat_check::{History, Violation, check_delivery};
use dpat_core::{Backoff, Clock, Deadline, Sleep, SplitMix64};
use dpat_model::NodeIx;
use dpat_queue::testing::Mutant as Rule;
use dpat_queue::{Delivery, Failure, Message, Queue, WalQueue, Worker};
use dpat_sim::async_node::{AsyncNode, AsyncSystem, Closed, Program};
use dpat_sim::disk::SimDisk;
use dpat_sim::{Family, Judge, Mutant, Plan, Setup, Stream};

use self::book::{Book, Recorded, Still};
use crate::sync::Mutex;

const CLIENTS: u32 = 3;
const CALLS: u64 = 30;
/// A client thinks less than so long before a call.
const THINKS_MS: u64 = 300;
/// Long enough for a client that could do nothing before everything healed, and for the last retries.
const SETTLE_MS: u64 = 30_000;
const _: () = assert!(CALLS * THINKS_MS + 10_000 < SETTLE_MS);
/// How long a client waits before it sends again.
const PATIENCE: Duration = Duration::from_millis(40);
const LEASE: Duration = Duration::from_millis(200);

const DELIVERY: &str = "delivery";
const ALL_SENT: &str = "all-sent";
const ALL_SETTLED: &str = "all-settled";

/// The rules that are left out, each with the number of seeds within which that is found.
///
/// A dead letter that is written down in two steps is left to the tests of `dpat-queue`, which strike between them.
const RULES: [(Rule, u64); 7] = [
    (Rule::AckBeforeDurable, 40),
    (Rule::HandOutBeforeDurable, 100),
    (Rule::StaleReceipt, 20),
    (Rule::CountAtRetry, 10),
    (Rule::EarlyRetry, 10),
    (Rule::IgnoreKeys, 10),
    (Rule::ForgetDedup, 10),
];

const MUTANTS: [Mutant; RULES.len()] = {
    let mut mutants = [Mutant {
        name: "",
        rule: "",
        seeds_max: 0,
    }; RULES.len()];
    let mut at = 0;
    while at < mutants.len() {
        let (rule, seeds_max) = RULES[at];
        mutants[at] = Mutant {
            name: rule.name(),
            rule: rule.rule(),
            seeds_max,
        };
        at += 1;
    }
    mutants
};

/// The system: a queue and a worker on each node, and clients that share them.
pub struct Queues {
    nodes: u32,
    rule: Option<Rule>,
    disks: BTreeMap<NodeIx, SimDisk>,
    /// The queue of each node, as its present life has it.
    queues: Arc<Mutex<BTreeMap<NodeIx, Queue>>>,
    book: Arc<Mutex<Book>>,
    begun: u64,
}

impl AsyncSystem for Queues {
    const NAME: &'static str = "queue";
    const ABOUT: &'static str = "a queue on a log and a worker on each node: nothing lost, nothing again, order within a key";
    const NODES: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &[DELIVERY, ALL_SENT, ALL_SETTLED];
    const MUTANTS: &'static [Mutant] = &MUTANTS;
    const KINDS: &'static [&'static str] = &["send"];

    fn new(setup: &Setup) -> Self {
        Self {
            nodes: setup.nodes,
            rule: setup.mutant.and_then(Rule::named),
            disks: BTreeMap::new(),
            queues: Arc::default(),
            book: Arc::default(),
            begun: 0,
        }
    }

    fn plan() -> Plan {
        // The model compares true times, and a clock that is wrong has leases of its own.
        Plan {
            settle: Duration::from_millis(SETTLE_MS),
            ..Plan::default()
        }
        .without(Family::Disk)
        .without(Family::Clock)
    }

    fn node(&mut self, node: AsyncNode) -> Program {
        let index = node.peer().node;
        self.disks.insert(index, node.disk().clone());
        // What the queue of its last life knows is not all that is on the disk.
        self.queues.lock().remove(&index);
        // With its process, the leases of its last life have ended.
        self.book.lock().crashed(index, node.true_ns());
        let (book, queues, rule) = (Arc::clone(&self.book), Arc::clone(&self.queues), self.rule);
        Box::pin(async move {
            let Ok(wal) = open(node.disk(), rule, node.time()) else {
                return; // a disk without faults refuses only a life that is over
            };
            queues.lock().insert(index, wal.queue().clone());
            serve(node, wal, book).await;
        })
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn call(
        &mut self,
        client: u32,
        call: u64,
        node: AsyncNode,
        mut rng: Stream,
    ) -> Option<Program> {
        if call == CALLS {
            return None;
        }
        self.begun += 1;
        let message = Order {
            id: u64::from(client) << 32 | call,
            // Each client has a key of its own, in which its messages have an order.
            keyed: rng.below(2) == 0,
            delay_ms: if rng.below(4) == 0 { rng.below(400) } else { 0 },
        };
        let server = NodeIx(client % self.nodes.max(1));
        let book = Arc::clone(&self.book);
        Some(Box::pin(async move {
            let time = node.time();
            time.sleep(Duration::from_millis(rng.below(THINKS_MS)))
                .await;
            let call = book.lock().send(&message, node.true_ns());
            loop {
                let deadline = Deadline::after(time.now(), PATIENCE);
                let sent = node.call(server, "send", message.encode(), deadline).await;
                if sent.is_ok() {
                    book.lock().sent(call, node.true_ns());
                    return;
                }
                time.sleep(Duration::from_millis(1 + rng.below(20))).await;
            }
        }))
    }

    fn is_settled(&mut self) -> bool {
        let expected = u64::from(CLIENTS) * CALLS;
        let left = |queue: &Queue| {
            now(queue.stats()).is_some_and(|stats| {
                stats.is_ok_and(|stats| stats.ready + stats.waiting + stats.leased == 0)
            })
        };
        let at_rest = {
            let book = self.book.lock();
            book.answered() == expected && book.is_at_rest()
        };
        let queues = self.queues.lock();
        at_rest && queues.len() == self.disks.len() && queues.values().all(left)
    }

    fn finish(&mut self, judge: &mut Judge) {
        let mut book = self.book.lock();
        let answered = book.answered();
        judge.always(ALL_SENT, answered == self.begun, || {
            format!("{answered} of {} messages were taken in", self.begun)
        });
        let (mut left, mut waiting) = (Vec::new(), 0);
        for disk in self.disks.values() {
            // What is left after a power cut, which no answer may depend on.
            let Ok(wal) = open(&disk.crash(), None, Still) else {
                judge.fail(DELIVERY, "a queue cannot be opened");
                return;
            };
            let peeked = now(wal.queue().peek(None, usize::MAX)).and_then(Result::ok);
            let letters = now(wal.queue().dead_letters(None, usize::MAX)).and_then(Result::ok);
            let (peeked, letters) = (peeked.unwrap_or_default(), letters.unwrap_or_default());
            waiting += peeked.len();
            let payloads = peeked.iter().map(|one| one.message.payload());
            let payloads = payloads.chain(letters.iter().map(|one| one.message.payload()));
            left.extend(
                payloads
                    .filter_map(|payload| Order::decode(payload))
                    .map(|one| one.id),
            );
        }
        let (events, compared) = book.finish(&left);
        let checked = History::from_events(events).map_err(|error| error.to_string());
        let checked = checked.and_then(|history| {
            let verdict = check_delivery(&history).map_err(|error| error.to_string())?;
            let violation = verdict.violation();
            violation.map_or(Ok(()), |violation| Err(told(&history, violation)))
        });
        if let Err(error) = checked {
            judge.fail(DELIVERY, error);
        }
        judge.always(ALL_SETTLED, waiting == 0, || {
            format!("{waiting} messages were not settled")
        });
        judge.sometimes("a lease ends before its handler", book.stale > 0);
        judge.sometimes("a message is given up", book.rejected > 0);
        judge.compared(compared);
    }
}

/// The rule, and the operations that break it.
fn told(history: &History, violation: &Violation) -> String {
    let operation = |index: &usize| {
        history
            .operations()
            .get(*index)
            .map_or_else(String::new, |one| {
                let (from, to) = (one.called_ns / 1_000_000, one.returned_ns / 1_000_000);
                let (f, value) = (&one.f, &one.value);
                format!("; {f} {value} -> {} ({from}..{to} ms)", one.final_value())
            })
    };
    let rule = violation.rule.unwrap_or_default();
    let blocked = operation(&violation.blocked);
    let with: String = violation.with.iter().map(operation).collect();
    format!("{rule}{blocked}{with}")
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    id: u64,
    keyed: bool,
    delay_ms: u64,
}

impl Order {
    fn encode(&self) -> Bytes {
        let numbers = [self.id, u64::from(self.keyed), self.delay_ms];
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let [id, keyed, delay_ms] = words else {
            return None;
        };
        rest.is_empty().then(|| Self {
            id: u64::from_le_bytes(*id),
            keyed: u64::from_le_bytes(*keyed) == 1,
            delay_ms: u64::from_le_bytes(*delay_ms),
        })
    }

    /// The client, and so the key.
    const fn client(&self) -> u64 {
        self.id >> 32
    }

    fn message(&self) -> Message {
        let message = Message::new(self.encode()).dedup(format!("{:x}", self.id));
        let message = match self.delay_ms {
            0 => message,
            delay => message.delay(Duration::from_millis(delay)),
        };
        match self.keyed {
            true => message.key(format!("client {}", self.client())),
            false => message,
        }
    }
}

fn open(
    disk: &SimDisk,
    rule: Option<Rule>,
    time: impl Sleep + 'static,
) -> Result<WalQueue<SimDisk>, dpat_queue::OpenError> {
    let log = dpat_wal::Config::builder()
        .segment_bytes(96 << 10)
        .frame_bytes_max(64 << 10)
        .preallocate_bytes(0)
        .entropy(SplitMix64::new(1))
        .build()
        .unwrap_or_default();
    let settings = Queue::builder()
        .message_bytes_max(1 << 10)
        .visibility(LEASE)
        .mutant(rule);
    WalQueue::open(disk.clone(), log, settings, time).map(|(wal, _)| wal)
}

/// Takes messages in and works on them until the node is gone.
async fn serve(node: AsyncNode, wal: WalQueue<SimDisk>, book: Arc<Mutex<Book>>) {
    if let Some(keeper) = wal.committer() {
        drop(node.spawn(slowly(keeper.run(), node.clone())));
    }
    let queue = wal.queue().clone();
    node.serve(move |incoming| {
        let queue = queue.clone();
        async move {
            let order = Order::decode(&incoming.body).ok_or(Closed)?;
            let sent = queue.send(order.message()).await;
            sent.map(|_| Bytes::new()).map_err(|_| Closed)
        }
    });
    let recorded = Queue::on(Arc::new(Recorded::new(
        wal.queue().clone(),
        node.clone(),
        book,
    )));
    let handling = node.clone();
    let worker = Worker::builder(recorded)
        .concurrency(4)
        .prefetch(2)
        .attempts_max(u32::MAX)
        .receive_wait(Duration::from_millis(20))
        .backoff(Backoff::constant(Duration::from_millis(40)))
        .build(node.time(), node.clone(), move |delivery| {
            handle(handling.clone(), delivery)
        });
    if let Ok(worker) = worker {
        let _ = worker.run().await; // it ends with its node
    }
}

/// Lets a while pass before each poll, so that there is one between the taking in of a record and its sync.
async fn slowly(commits: impl Future<Output = ()>, node: AsyncNode) {
    let time = node.time();
    let mut commits = pin!(commits);
    let mut pause = None;
    poll_fn(|cx| {
        let pausing = pause.get_or_insert_with(|| {
            let micros = 2_000 + node.entropy().below(10_000);
            Box::pin(time.sleep(Duration::from_micros(micros)))
        });
        if pausing.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        pause = None;
        commits.as_mut().poll(cx)
    })
    .await;
}

/// Takes its time, mostly less than a lease, and fails now and then. Once everything has healed it is quick and good.
async fn handle(node: AsyncNode, delivery: Delivery) -> Result<(), Failure> {
    let healed = node.is_healed();
    let slow = !healed && node.entropy().below(8) == 0;
    let millis = if slow {
        150 + node.entropy().below(300)
    } else {
        node.entropy().below(20)
    };
    node.time().sleep(Duration::from_millis(millis)).await;
    match node.entropy().below(if healed { 1 } else { 10 }) {
        7..=8 => Err(Failure::retry("once more")),
        9 if delivery.attempt > 1 => Err(Failure::reject("never")),
        _ => Ok(()),
    }
}

/// Runs a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    futures_util::FutureExt::now_or_never(future)
}
