//! The bare client of Redis: a plain stream, and the scripts of our own queue sent by hand.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands as _, Script, Value};

use super::responses::name;
use super::{PAYLOAD, SAME, payload};
use crate::harness::{Contender, nothing};

/// A stream that has no more than a stream has.
const PLAIN: &str = "redis@plain stream";

/// Connects.
pub(super) async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await;
    connection.expect("connected")
}

/// A stream with its only group, and nothing else: what the guarantees of a queue are measured by.
#[derive(Clone)]
struct Plain {
    connection: MultiplexedConnection,
    key: String,
}

impl Plain {
    async fn new(url: &str, key: &str) -> Self {
        let plain = Self {
            connection: connect(url).await,
            key: key.to_owned(),
        };
        plain.reset().await;
        plain
    }

    async fn reset(&self) {
        let mut connection = self.connection.clone();
        let _: () = connection.del(&self.key).await.expect("removed");
        let made: Result<(), _> = connection
            .xgroup_create_mkstream(&self.key, "all", "0")
            .await;
        made.expect("a group");
    }

    async fn send(&self) {
        let mut connection = self.connection.clone();
        let payload = payload();
        let sent: Result<String, _> = connection
            .xadd(&self.key, "*", &[("payload", &payload[..])])
            .await;
        sent.expect("sent");
    }

    async fn receive(&self) -> String {
        let mut connection = self.connection.clone();
        let options = StreamReadOptions::default().group("all", "one").count(1);
        loop {
            let read: Option<StreamReadReply> = connection
                .xread_options(&[&self.key], &[">"], &options)
                .await
                .expect("read");
            let first = read.and_then(|read| read.keys.into_iter().next());
            if let Some(entry) = first.and_then(|stream| stream.ids.into_iter().next()) {
                return entry.id;
            }
        }
    }

    async fn settle(&self, id: &str) {
        let mut connection = self.connection.clone();
        let mut both = redis::pipe();
        both.atomic().xack(&self.key, "all", &[id]).ignore();
        both.xdel(&self.key, &[id]).ignore();
        let _: () = both.query_async(&mut connection).await.expect("settled");
    }
}

/// A queue by the scripts of dpat-redis, one call each: ids that come once, bounds, delays, deduplication, leases, dead letters.
#[derive(Clone)]
struct ByHand {
    connection: MultiplexedConnection,
    keys: Vec<String>,
    send: Arc<Script>,
    receive: Arc<Script>,
    settle: Arc<Script>,
}

macro_rules! lua {
    ($name:literal) => {
        concat!(
            "#!lua\n",
            include_str!("../../../../crates/dpat-redis/lua/queue/names.lua"),
            include_str!("../../../../crates/dpat-redis/lua/queue/common.lua"),
            include_str!(concat!(
                "../../../../crates/dpat-redis/lua/queue/",
                $name,
                ".lua"
            )),
        )
    };
}

/// What a message counts: as the scripts' own queue has it.
const SIZE: usize = 256 + PAYLOAD;
const CHANNEL: &str = "by-hand:wake";

impl ByHand {
    async fn new(url: &str, name: &str) -> Self {
        let parts = [
            "meta", "log", "facts", "bodies", "ready", "delayed", "leases", "ends", "lanes",
            "dead", "dedups", "windows",
        ];
        Self {
            connection: connect(url).await,
            keys: parts
                .iter()
                .map(|part| format!("by-hand:{{{name}}}:{part}"))
                .collect(),
            send: Arc::new(Script::new(lua!("send"))),
            receive: Arc::new(Script::new(lua!("receive"))),
            settle: Arc::new(Script::new(lua!("settle"))),
        }
    }

    async fn run(&self, script: &Script, arguments: &[&[u8]]) -> Vec<Value> {
        let mut connection = self.connection.clone();
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        // By the server's clock.
        call.arg("").arg(CHANNEL).arg(arguments);
        call.invoke_async(&mut connection).await.expect("answered")
    }

    async fn reset(&self) {
        let mut connection = self.connection.clone();
        let _: () = connection.del(&self.keys).await.expect("removed");
    }

    async fn send(&self) {
        let body = [&[0, 0][..], &payload()[..]].concat();
        let size = SIZE.to_string();
        // messages_max, bytes_max, dedup_max, dedup_window; priority, bytes, delay, ttl, key, dedup, body
        let arguments: [&[u8]; 11] = [
            b"1000000",
            b"268435456",
            b"100000",
            b"300000000",
            b"0",
            size.as_bytes(),
            b"0",
            b"0",
            b"",
            b"",
            &body,
        ];
        let sent = self.run(&self.send, &arguments).await;
        assert!(
            matches!(sent[..], [Value::Int(0), Value::Int(_)]),
            "{sent:?}"
        );
    }

    async fn receive(&self) -> (String, String) {
        loop {
            // max, visibility, consumer, bytes
            let arguments: [&[u8]; 4] = [b"1", b"30000000", b"one", b"16777216"];
            let received = self.run(&self.receive, &arguments).await;
            if let Some([Value::Int(id), Value::Int(count), ..]) = received.get(4..) {
                return (id.to_string(), count.to_string());
            }
        }
    }

    async fn settle(&self, (id, count): &(String, String)) {
        // dead_max, dead_bytes_max; id, consumer, count, outcome, delay, reason
        let arguments: [&[u8]; 8] = [
            b"10000",
            b"67108864",
            id.as_bytes(),
            b"one",
            count.as_bytes(),
            b"done",
            b"0",
            b"",
        ];
        let settled = self.run(&self.settle, &arguments).await;
        assert_eq!(settled.last(), Some(&Value::Int(0)), "{settled:?}");
    }
}

/// The bare client, that sends: first what does the same work.
pub(super) async fn senders(url: &str, in_flight: usize) -> Vec<Contender> {
    let by_hand = ByHand::new(url, &format!("send-{in_flight}")).await;
    let removed = by_hand.clone();
    let same = Contender::tasks(
        &format!("redis@{SAME}"),
        in_flight,
        move || {
            let by_hand = by_hand.clone();
            async move { by_hand.send().await }
        },
        move || {
            let by_hand = removed.clone();
            async move { by_hand.reset().await }
        },
    );
    let plain = Plain::new(url, "bare:send").await;
    let removed = plain.clone();
    let plain = Contender::tasks(
        PLAIN,
        in_flight,
        move || {
            let plain = plain.clone();
            async move { plain.send().await }
        },
        move || {
            let plain = removed.clone();
            async move { plain.reset().await }
        },
    );
    vec![same, plain]
}

/// The bare client, in full cycles: first what does the same work.
pub(super) async fn cyclers(url: &str, in_flight: usize) -> Vec<Contender> {
    let by_hand = ByHand::new(url, &format!("cycle-{in_flight}")).await;
    let same = Contender::tasks(
        &format!("redis@{SAME}"),
        in_flight,
        move || {
            let by_hand = by_hand.clone();
            async move {
                by_hand.send().await;
                let taken = by_hand.receive().await;
                by_hand.settle(&taken).await;
            }
        },
        nothing,
    );
    let plain = Plain::new(url, "bare:cycle").await;
    let plain = Contender::tasks(
        PLAIN,
        in_flight,
        move || {
            let plain = plain.clone();
            async move {
                plain.send().await;
                let id = plain.receive().await;
                plain.settle(&id).await;
            }
        },
        nothing,
    );
    vec![same, plain]
}

/// The scripts of our own response store, one call each: rows are swapped by version, and their number and bytes are bounded.
async fn swaps(url: &str, in_flight: usize) -> Contender {
    let connection = connect(url).await;
    let text = concat!(
        "#!lua\n",
        include_str!("../../../../crates/dpat-redis/lua/responses/common.lua"),
        include_str!("../../../../crates/dpat-redis/lua/responses/swap.lua"),
    );
    let swap = Arc::new(Script::new(text));
    let parts = ["meta", "rows", "index", "expires"];
    let keys: Arc<Vec<String>> = Arc::new(
        parts
            .iter()
            .map(|part| format!("by-hand:{{responses-{in_flight}}}:{part}"))
            .collect(),
    );
    // What, key, version, record, end; returns the code and the version.
    let run = move |arguments: [Vec<u8>; 5]| {
        let (mut connection, swap, keys) =
            (connection.clone(), Arc::clone(&swap), Arc::clone(&keys));
        async move {
            let mut call = swap.prepare_invoke();
            for key in &*keys {
                call.key(key);
            }
            call.arg("1000000").arg("1073741824").arg(&arguments[..]);
            let answer: (i64, Vec<u8>) =
                call.invoke_async(&mut connection).await.expect("answered");
            assert_eq!(answer.0, 0, "a key that nobody has used");
            answer.1
        }
    };
    Contender::tasks(
        &format!("redis@{SAME}"),
        in_flight,
        move || {
            let run = run.clone();
            async move {
                let key = name().into_bytes();
                let until = b"01900000000000000000".to_vec();
                let ends = b"01900000000000000001".to_vec();
                let claim = [7; 40].to_vec();
                let version =
                    run([b"insert".to_vec(), key.clone(), Vec::new(), claim, until]).await;
                run([b"put".to_vec(), key, version, payload().to_vec(), ends]).await;
            }
        },
        nothing,
    )
}

/// Three commands, and no more than they guarantee.
async fn commands(url: &str, in_flight: usize) -> Contender {
    let connection = connect(url).await;
    Contender::tasks(
        "redis@plain keys",
        in_flight,
        move || {
            let mut connection = connection.clone();
            async move {
                let name = name();
                let mut look = redis::cmd("GET");
                look.arg(&name);
                let there: Option<Vec<u8>> =
                    look.query_async(&mut connection).await.expect("looked");
                assert!(there.is_none(), "a key that nobody has used");
                let mut begin = redis::cmd("SET");
                begin.arg(&name).arg("claim").arg("NX");
                begin.arg("PX").arg(60_000);
                let begun: Option<String> =
                    begin.query_async(&mut connection).await.expect("begun");
                assert!(begun.is_some(), "a key that nobody has used");
                let mut finish = redis::cmd("SET");
                finish.arg(&name).arg(&payload()[..]).arg("XX");
                finish.arg("PX").arg(86_400_000);
                let done: Option<String> = finish.query_async(&mut connection).await.expect("done");
                assert!(done.is_some(), "our key");
            }
        },
        nothing,
    )
}

/// The bare client, that begins and completes: first what does the same work.
pub(super) async fn stores(url: &str, in_flight: usize) -> Vec<Contender> {
    vec![swaps(url, in_flight).await, commands(url, in_flight).await]
}
