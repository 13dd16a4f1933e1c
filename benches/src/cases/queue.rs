//! The message queue: in memory against channels, on a log against SQLite and yaque.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, CoarseClock, Instant, Sleep, SystemClock, Wall};
use dpat_queue::{Message, Outcome, Queue, Settlement, WalQueue, WhenFull};
use dpat_storage::FsStorage;
use dpat_testkit::servers::{Engine, Server};
use dpat_wal::Durability;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::harness::{Case, Contender};

pub(super) const NOTES: &str = "\
What each side does:

- In memory, *dpat-queue* leases a message when it is received, and a second call settles it; until then it can come again. \
It has an id, a priority, a time and limits in bytes. With `calls=batches` it sends, receives and settles up to 64 by one call \
each. It looks at `CoarseClock`, as with `CoarseTime`; *dpat-queue@exact clock* at `SystemClock`, as with `TokioTime`. \
*async-channel*, *flume* and *crossfire* are bounded channels: a message that was received is gone.
- Durable, each thread sends a message of 256 bytes, receives one and settles it, and waits for each of the three. \
*dpat-queue* shares one sync between the threads that wait; *SQLite* is a table with an insert, an update that claims the \
first row, and a delete, each a transaction of its own (journal mode WAL, `synchronous=FULL`), behind one connection. \
*redis* is a stream of a Redis server of this machine with `appendfsync always`, one connection for each thread: XADD, \
XREADGROUP, and XACK with XDEL; it is absent where no server is installed.
- *yaque* keeps a queue in files and never syncs; *dpat-queue* does not sync there either (`Durability::ProcessKill`). A \
message of *yaque* is committed by its only receiver.";

const CAPACITY: usize = 1_024;
/// Messages that one thread hands to another in one run.
const HANDED: u64 = 20_480;
/// Messages that one call takes, where calls take many.
const BATCH: usize = 64;
/// Rounds of each thread in one durable run.
const EACH: u64 = 8;
/// Messages through the queues that do not sync, in one run.
const UNSYNCED: u64 = 1_000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 64]
        .map(|burst| in_turn(burst, |looks| one_by_one(burst, looks)))
        .into();
    let batches = in_turn(BATCH as u64, |looks| in_batches(BATCH, looks));
    cases.push(batches.param("calls", "batches"));
    cases.push(across(across_one_by_one));
    let batches = across(across_in_batches);
    cases.push(batches.param("calls", "batches"));
    cases.extend([1, 16, 64].map(durable));
    cases.push(unsynced());
    cases
}

fn payload() -> Bytes {
    Bytes::from_static(&[7; 256])
}

/// A clock of the system. Nothing here waits for a time, so that its sleeps never end.
#[derive(Clone, Copy)]
struct Awake<C>(C);

impl<C: Clock> Clock for Awake<C> {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall(&self) -> Wall {
        self.0.wall()
    }
}

impl<C: Clock> Sleep for Awake<C> {
    type Sleeping = std::future::Pending<()>;

    fn sleep_until(&self, _: Instant) -> Self::Sleeping {
        std::future::pending()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread; the same for all sides.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Which clock ours looks at.
#[derive(Clone, Copy)]
enum Looks {
    Coarse,
    Exact,
}

impl Looks {
    /// The contender that looks so.
    fn contender(self, run: impl FnMut() + 'static) -> Contender {
        let name = match self {
            Self::Coarse => "dpat-queue",
            Self::Exact => "dpat-queue@exact clock",
        };
        Contender::single(name, run)
    }
}

fn in_memory(looks: Looks) -> Queue {
    let builder = Queue::builder()
        .messages_max(CAPACITY as u64)
        .when_full(WhenFull::Wait);
    let queue = match looks {
        Looks::Coarse => builder.in_memory(Awake(CoarseClock)),
        Looks::Exact => builder.in_memory(Awake(SystemClock)),
    };
    queue.expect("a valid configuration")
}

async fn receive_and_settle(queue: &Queue) {
    let delivery = queue.receive().await.expect("a message");
    let settled = queue.settle(delivery.receipt, Outcome::Done).await;
    settled.expect("it is ours");
}

/// Our side of a burst: a call for each message.
fn one_by_one(burst: u64, looks: Looks) -> Contender {
    let queue = in_memory(looks);
    looks.contender(move || {
        block_on(async {
            for _ in 0..burst {
                queue.send(Message::new(payload())).await.expect("room");
            }
            for _ in 0..burst {
                receive_and_settle(&queue).await;
            }
        });
    })
}

/// Our side of a burst: a call for all messages.
fn in_batches(burst: usize, looks: Looks) -> Contender {
    let queue = in_memory(looks);
    looks.contender(move || {
        block_on(async {
            let batch = (0..burst).map(|_| Message::new(payload())).collect();
            for sent in queue.send_batch(batch).await {
                sent.expect("room");
            }
            let received = queue.receive_batch(burst, Duration::ZERO).await;
            let received = received.expect("open");
            assert_eq!(received.len(), burst);
            let done = received.iter().map(|delivery| Settlement {
                receipt: delivery.receipt,
                outcome: Outcome::Done,
            });
            for settled in queue.settle_batch(done.collect()).await {
                settled.expect("it is ours");
            }
        });
    })
}

/// Sends a burst and receives it again, on one thread.
fn in_turn(burst: u64, ours: impl Fn(Looks) -> Contender) -> Case {
    let channel = {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        Contender::single("async-channel", move || {
            block_on(async {
                for _ in 0..burst {
                    sender.send(payload()).await.expect("open");
                }
                for _ in 0..burst {
                    receiver.recv().await.expect("a message");
                }
            });
        })
    };
    let flume = {
        let (sender, receiver) = flume::bounded(CAPACITY);
        Contender::single("flume", move || {
            block_on(async {
                for _ in 0..burst {
                    sender.send_async(payload()).await.expect("open");
                }
                for _ in 0..burst {
                    receiver.recv_async().await.expect("a message");
                }
            });
        })
    };
    let crossfire = {
        let (sender, receiver) = crossfire::mpmc::bounded_async(CAPACITY);
        Contender::single("crossfire", move || {
            block_on(async {
                for _ in 0..burst {
                    sender.send(payload()).await.expect("open");
                }
                for _ in 0..burst {
                    receiver.recv().await.expect("a message");
                }
            });
        })
    };
    Case::new(
        "queue",
        "in turn",
        "Sends messages and receives them (and settles them, where that is possible) on one thread, in memory.",
        ours(Looks::Coarse),
        vec![channel, flume, crossfire, ours(Looks::Exact)],
    )
    .param("burst", burst)
    .items(burst)
}

/// Runs a sender and a receiver, each on a thread of its own.
fn on_two_threads(send: impl Future<Output = ()> + Send, receive: impl Future<Output = ()> + Send) {
    thread::scope(|scope| {
        scope.spawn(|| block_on(send));
        scope.spawn(|| block_on(receive));
    });
}

/// Our side of the way across: a call for each message.
fn across_one_by_one(looks: Looks) -> Contender {
    let queue = in_memory(looks);
    looks.contender(move || {
        let send = async {
            for _ in 0..HANDED {
                queue.send(Message::new(payload())).await.expect("open");
            }
        };
        let receive = async {
            for _ in 0..HANDED {
                receive_and_settle(&queue).await;
            }
        };
        on_two_threads(send, receive);
    })
}

/// Our side of the way across: a call for up to [`BATCH`] messages, as a worker makes them.
fn across_in_batches(looks: Looks) -> Contender {
    let queue = in_memory(looks);
    looks.contender(move || {
        let send = async {
            for _ in 0..HANDED / BATCH as u64 {
                let batch = (0..BATCH).map(|_| Message::new(payload())).collect();
                for sent in queue.send_batch(batch).await {
                    sent.expect("open");
                }
            }
        };
        let receive = async {
            let mut left = HANDED;
            while left > 0 {
                let received = queue.receive_batch(BATCH, Duration::MAX).await;
                let received = received.expect("open");
                left -= received.len() as u64;
                let done = received.iter().map(|delivery| Settlement {
                    receipt: delivery.receipt,
                    outcome: Outcome::Done,
                });
                for settled in queue.settle_batch(done.collect()).await {
                    settled.expect("it is ours");
                }
            }
        };
        on_two_threads(send, receive);
    })
}

fn across(ours: impl Fn(Looks) -> Contender) -> Case {
    let channel = {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        Contender::single("async-channel", move || {
            let send = async {
                for _ in 0..HANDED {
                    sender.send(payload()).await.expect("open");
                }
            };
            let receive = async {
                for _ in 0..HANDED {
                    receiver.recv().await.expect("a message");
                }
            };
            on_two_threads(send, receive);
        })
    };
    let flume = {
        let (sender, receiver) = flume::bounded(CAPACITY);
        Contender::single("flume", move || {
            let send = async {
                for _ in 0..HANDED {
                    sender.send_async(payload()).await.expect("open");
                }
            };
            let receive = async {
                for _ in 0..HANDED {
                    receiver.recv_async().await.expect("a message");
                }
            };
            on_two_threads(send, receive);
        })
    };
    let crossfire = {
        let (sender, receiver) = crossfire::mpmc::bounded_async(CAPACITY);
        Contender::single("crossfire", move || {
            let send = async {
                for _ in 0..HANDED {
                    sender.send(payload()).await.expect("open");
                }
            };
            let receive = async {
                for _ in 0..HANDED {
                    receiver.recv().await.expect("a message");
                }
            };
            on_two_threads(send, receive);
        })
    };
    let mut case = Case::new(
        "queue",
        "across threads",
        "Hands messages from one thread to another, at most 1 024 of them under way, in memory.",
        ours(Looks::Coarse),
        vec![channel, flume, crossfire, ours(Looks::Exact)],
    )
    .items(HANDED);
    case.threads = 2;
    case.in_flight = CAPACITY;
    case
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory on disk")
}

fn on_log(path: &Path, durability: Durability) -> WalQueue<FsStorage> {
    let log = dpat_wal::Config::builder().durability(durability);
    let log = log.build().expect("a valid configuration");
    let storage = FsStorage::open(path).expect("a directory");
    WalQueue::open(storage, log, Queue::builder(), Awake(SystemClock))
        .expect("a queue")
        .0
}

/// Lets threads do their rounds at once.
fn on_threads(threads: usize, round: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..EACH {
                    round();
                }
            });
        }
    });
}

fn durable(threads: usize) -> Case {
    let ours = {
        let directory = directory();
        let wal = on_log(directory.path(), Durability::PowerLoss);
        let queue = wal.queue().clone();
        Contender::single("dpat-queue", move || {
            let _keep = (&directory, &wal);
            on_threads(threads, || {
                block_on(async {
                    queue.send(Message::new(payload())).await.expect("durable");
                    receive_and_settle(&queue).await;
                });
            });
        })
    };
    let sqlite = {
        let directory = directory();
        let table = Mutex::new(table(directory.path()));
        Contender::single("rusqlite", move || {
            let _keep = &directory;
            on_threads(threads, || {
                let with = |run: &dyn Fn(&Connection)| run(&table.lock().expect("not poisoned"));
                with(&insert);
                let mut id = None;
                while id.is_none() {
                    id = claim(&table.lock().expect("not poisoned"));
                }
                with(&|table| delete(table, id));
            });
        })
    };
    let peers = [Some(sqlite), streams(threads)].into_iter().flatten();
    let mut case = Case::new(
        "queue",
        "send, receive, settle, durable",
        "Each thread sends a message of 256 bytes, receives one and settles it, and waits until each of that is synced.",
        ours,
        peers.collect(),
    )
    .items(EACH * threads as u64);
    case.threads = threads;
    case.in_flight = threads;
    case
}

fn table(path: &Path) -> Connection {
    let table = Connection::open(path.join("queue.sqlite")).expect("a database");
    table
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE queue (id INTEGER PRIMARY KEY, leased INTEGER NOT NULL DEFAULT 0, payload BLOB NOT NULL);
             CREATE INDEX free ON queue (leased, id);",
        )
        .expect("a table");
    table
}

fn insert(table: &Connection) {
    let mut insert = table
        .prepare_cached("INSERT INTO queue (payload) VALUES (?1)")
        .expect("a statement");
    insert.execute([&payload()[..]]).expect("durable");
}

fn claim(table: &Connection) -> Option<i64> {
    let mut claim = table
        .prepare_cached(
            "UPDATE queue SET leased = 1 WHERE id = (SELECT id FROM queue WHERE leased = 0 ORDER BY id LIMIT 1)
             RETURNING id",
        )
        .expect("a statement");
    let mut rows = claim.query([]).expect("a claim");
    let row = rows.next().expect("durable")?;
    let id = row.get(0).expect("an id");
    // The rest, so that the statement ends and is committed.
    while rows.next().expect("durable").is_some() {}
    Some(id)
}

fn delete(table: &Connection, id: Option<i64>) {
    let mut delete = table
        .prepare_cached("DELETE FROM queue WHERE id = ?1")
        .expect("a statement");
    delete.execute([id]).expect("durable");
}

/// A stream of Redis with a connection for each thread; none where no server is installed.
fn streams(threads: usize) -> Option<Contender> {
    let server = Server::start(Engine::Redis).ok()?;
    let client = redis::Client::open(server.url()).expect("an address");
    let connect = || client.get_connection().expect("the server runs");
    redis::cmd("XGROUP")
        .arg(&["CREATE", "jobs", "workers", "0", "MKSTREAM"])
        .exec(&mut connect())
        .expect("a group");
    let idle = Mutex::new((0..threads).map(|_| connect()).collect::<Vec<_>>());
    let round = move || {
        let _keep = &server;
        let idle = || idle.lock().expect("not poisoned");
        let mut connection = idle().pop().expect("one for each thread");
        stream_round(&mut connection);
        idle().push(connection);
    };
    Some(Contender::single("redis", move || {
        on_threads(threads, &round);
    }))
}

fn stream_round(connection: &mut redis::Connection) {
    redis::cmd("XADD")
        .arg(&["jobs", "*", "payload"])
        .arg(&payload()[..])
        .exec(connection)
        .expect("durable");
    let read = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "workers", "worker", "COUNT", "1"])
        .arg(&["STREAMS", "jobs", ">"])
        .query(connection);
    type Streams = Vec<(String, Vec<(String, redis::Value)>)>;
    let read: Streams = read.expect("durable");
    let (id, _) = &read[0].1[0];
    redis::pipe()
        .atomic()
        .cmd("XACK")
        .arg(&["jobs", "workers", id])
        .cmd("XDEL")
        .arg(&["jobs", id])
        .exec(connection)
        .expect("durable");
}

fn unsynced() -> Case {
    let ours = {
        let directory = directory();
        let wal = on_log(directory.path(), Durability::ProcessKill);
        let queue = wal.queue().clone();
        Contender::single("dpat-queue", move || {
            let _keep = (&directory, &wal);
            block_on(async {
                for _ in 0..UNSYNCED {
                    queue.send(Message::new(payload())).await.expect("written");
                }
                let mut left = UNSYNCED;
                while left > 0 {
                    let received = queue.receive_batch(64, Duration::ZERO).await;
                    let received = received.expect("written");
                    left -= received.len() as u64;
                    let settlements = received.iter().map(|delivery| dpat_queue::Settlement {
                        receipt: delivery.receipt,
                        outcome: Outcome::Done,
                    });
                    for settled in queue.settle_batch(settlements.collect()).await {
                        settled.expect("written");
                    }
                }
            });
        })
    };
    let yaque = {
        let directory = directory();
        let path = directory.path().join("yaque");
        let (mut sender, mut receiver) = yaque::channel(path).expect("a queue");
        Contender::single("yaque", move || {
            let _keep = &directory;
            block_on(async {
                for _ in 0..UNSYNCED {
                    sender.send(&payload()[..]).await.expect("written");
                }
                let mut left = UNSYNCED;
                while left > 0 {
                    let count = left.min(64);
                    let count = usize::try_from(count).expect("a small number");
                    let received = receiver.recv_batch(count).await.expect("read");
                    received.commit().expect("written");
                    left -= count as u64;
                }
            });
        })
    };
    Case::new(
        "queue",
        "through files, not synced",
        "Sends 1 000 messages of 256 bytes one by one, receives and settles them 64 at a time; nothing is synced.",
        ours,
        vec![yaque],
    )
    .items(UNSYNCED)
}
