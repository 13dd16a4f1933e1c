//! The queue: each engine against its bare client, PostgreSQL against other queues on it, the embedded ones beside them.

use dpat_core::TokioTime;

use super::embedded::{self, Kept};
use super::{nats, peers, postgres, redis};
use crate::harness::{Case, Contender};
use crate::servers::{Servers, named};

pub(super) const NOTES: &str = "\
What each side does:

- *redis, same work* sends the scripts of dpat-redis by hand (`EVALSHA`), one for each operation: ids that come once, bounds, delays, \
keys, deduplication, leases by receipts, dead letters. *redis, plain stream* is a stream with a group: `XADD`, `XREADGROUP`, `XACK` with \
`XDEL` in one transaction, and has none of these. *dpat-redis* lets what is asked for at one time go together, in one script.
- *async-nats, same work* is a work queue with bounds that refuses what is too much and remembers what was sent, with a durable \
consumer: a publish with a header that waits for its acknowledgement, a pull for one message, and an acknowledgement that is \
acknowledged. *plain stream* has no bounds and no header. *dpat-nats* does the same three.
- *tokio-postgres, same work* uses the tables and indexes of dpat-postgres, with one prepared statement for each operation: a send, and \
behind its commit a notification, without waiting in between; a look that claims; a settlement by the receipt. *plain table* is a table, and \
three statements that are each a transaction: an insert; an update that claims the first free row (`FOR UPDATE SKIP LOCKED`); a \
delete. *pgmq* is its functions `send`, `read` and `delete`, installed without the extension.
- *graphile_worker* and *apalis-postgres* run handlers in workers of their own, told by `NOTIFY`: an operation ends when the \
handler has run, and what marks the job as done comes behind. *apalis-postgres* keeps the rows of what is done.
- Every contender on PostgreSQL has 8 connections. *underway* 0.2 is not here: its sqlx 0.8 and dpat-sqlite link two versions of one \
library, and cargo refuses that.
- *dpat-postgres* lets what is asked for at one time go together, in one statement that is a transaction, and notifies behind it once. \
It counts what is there once a second.
- *dpat-queue* (on its log) and *dpat-sqlite* need no server; they sync as the servers do.";

const SEND: &str = "\
    Each sends a message and waits until the server has acknowledged it; sent messages are removed outside of the time.";
const CYCLE: &str = "\
    Each sends a message, receives one and settles it, and waits for the server each time.";

fn case(
    operation: &'static str,
    engine: String,
    in_flight: usize,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case {
        pattern: "queue",
        operation,
        engine,
        in_flight,
        least: 1,
        work: if operation == "send" { SEND } else { CYCLE },
        ours,
        peers,
    }
}

async fn ours_on_redis(url: &str, name: String) -> Kept {
    use dpat_redis::{Config, QueueSettings, QueueStore};
    let config = Config::new(url, name).expect("a name");
    let settings = QueueSettings {
        messages_max: 1_000_000,
        ..QueueSettings::DEFAULT
    };
    let store = QueueStore::open(&config, settings, TokioTime).await;
    Kept::of(store.expect("a queue").queue())
}

pub(super) async fn on_redis(servers: &Servers, in_flight: usize) -> Vec<Case> {
    let (url, engine) = (servers.redis.url(), named(&servers.redis));
    let kept = ours_on_redis(&url, format!("send-{in_flight}")).await;
    let ours = embedded::sender("dpat-redis", kept, in_flight);
    let mut against = redis::senders(&url, in_flight).await;
    against.extend(embedded::senders(in_flight));
    let send = case("send", engine.clone(), in_flight, ours, against);

    let kept = ours_on_redis(&url, format!("cycle-{in_flight}")).await;
    let ours = embedded::cycler("dpat-redis", kept, in_flight);
    let mut against = redis::cyclers(&url, in_flight).await;
    against.extend(embedded::cyclers(in_flight));
    let cycle = case("send, receive, settle", engine, in_flight, ours, against);
    vec![send, cycle]
}

async fn ours_on_nats(url: &str, name: &str) -> Kept {
    use dpat_nats::{Config, Connection, QueueSettings, StreamQueue};
    let config = Config::new(url).expect("a URL");
    let connection = Connection::open(&config).await.expect("connected");
    let settings = QueueSettings::new(name).expect("a name");
    let settings = settings.messages_max(1_000_000);
    let queue = StreamQueue::open(&connection, settings).await;
    let queue = queue.expect("a queue").queue();
    let context = async_nats::jetstream::new(nats::connect(url).await);
    let stream = context.get_stream(name).await.expect("its stream");
    Kept::in_stream(queue, stream)
}

pub(super) async fn on_nats(servers: &Servers, in_flight: usize) -> Vec<Case> {
    let (url, engine) = (servers.nats.url(), named(&servers.nats));
    let kept = ours_on_nats(&url, &format!("send-{in_flight}")).await;
    let ours = embedded::sender("dpat-nats", kept, in_flight);
    let mut against = nats::senders(&url, in_flight).await;
    against.extend(embedded::senders(in_flight));
    let send = case("send", engine.clone(), in_flight, ours, against);

    let kept = ours_on_nats(&url, &format!("cycle-{in_flight}")).await;
    let ours = embedded::cycler("dpat-nats", kept, in_flight);
    let mut against = nats::cyclers(&url, in_flight).await;
    against.extend(embedded::cyclers(in_flight));
    let cycle = case("send, receive, settle", engine, in_flight, ours, against);
    vec![send, cycle]
}

async fn ours_on_postgres(url: &str, name: String) -> Kept {
    use dpat_postgres::{Config, QueueSettings, QueueStore};
    let config = Config::new(url, name).expect("a name");
    let config = config.connections(postgres::CONNECTIONS).expect("so many");
    let settings = QueueSettings {
        messages_max: 1_000_000,
        ..QueueSettings::DEFAULT
    };
    let store = QueueStore::open(&config, settings, TokioTime).await;
    Kept::of(store.expect("a queue").queue())
}

pub(super) async fn postgres_send(servers: &Servers, in_flight: usize) -> Vec<Case> {
    let (url, engine) = (servers.postgres.url(), named(&servers.postgres));
    let kept = ours_on_postgres(&url, format!("send_{in_flight}")).await;
    let ours = embedded::sender("dpat-postgres", kept, in_flight);
    let mut against = postgres::senders(&url, in_flight).await;
    against.extend(peers::senders(&url, in_flight).await);
    against.extend(embedded::senders(in_flight));
    vec![case("send", engine, in_flight, ours, against)]
}

pub(super) async fn postgres_cycle(servers: &Servers, in_flight: usize) -> Vec<Case> {
    let (url, engine) = (servers.postgres.url(), named(&servers.postgres));
    let kept = ours_on_postgres(&url, format!("cycle_{in_flight}")).await;
    let ours = embedded::cycler("dpat-postgres", kept, in_flight);
    let mut against = postgres::cyclers(&url, in_flight).await;
    against.extend(peers::cyclers(&url, in_flight).await);
    against.extend(embedded::cyclers(in_flight));
    vec![case(
        "send, receive, settle",
        engine,
        in_flight,
        ours,
        against,
    )]
}
