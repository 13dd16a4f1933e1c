//! The outbox on PostgreSQL: appends against a bare insert, relays against a loop that polls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use dpat_core::{Clock as _, SystemClock, SystemEntropy, TokioTime, Uuid7Generator};
use dpat_outbox::{Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink};
use dpat_postgres::{Config, Outbox, sql};
use tokio::sync::oneshot;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement, Transaction};

use super::postgres::{CONNECTIONS, Link, Own, connect};
use super::{SAME, payload};
use crate::harness::{Case, Contender, Timed};
use crate::servers::{Servers, named};

pub(super) const NOTES: &str = "\
What each side does:

- *append*: a transaction of tokio-postgres inserts a row of the caller's, and the event; 8 connections. *plain table* inserts \
the event into a table by one prepared statement. *same work* encodes it, and inserts two rows, the event and its state, by the exported \
statement of dpat-postgres, prepared on each connection. *dpat-postgres* does so with a `Prepared` beside each connection, and looks at its \
bounds as well, once a second. *dpat-postgres, not prepared* has the transaction alone: it calls a function of the database, \
and the server plans that call each time. No `NOTIFY` on any side.
- *relay*: events without keys lie there, and go to a sink that takes all at once. *same work* runs the \
statements of dpat-postgres by hand, prepared: a claim by a lease, and a mark of what was sent. *plain table* is the loop that many write: \
`SELECT … WHERE NOT sent ORDER BY id LIMIT 64`, then `UPDATE … SET sent`. It has one relay, no order by key, no attempts that are \
counted, no pause after an error, and it passes over what commits late.";

const APPEND: &str = "\
    Each inserts a row of its own and an event in one transaction, and waits for the commit; events are removed outside of the time.";
const RELAY: &str = "\
    Events that are there go to a sink that takes all at once, and are marked as sent; up to 64 at a time.";

static IDS: Uuid7Generator = Uuid7Generator::new();

fn event() -> Event {
    let id = IDS.next(SystemClock.wall(), &SystemEntropy).expect("an id");
    let event = Event::builder(id, "orders.completed").payload(payload());
    event.build().expect("an event")
}

async fn ours(url: &str, prefix: &str) -> Outbox {
    let config = Config::new(url, prefix).expect("a name");
    let config = config.connections(CONNECTIONS).expect("a number");
    let outbox = Outbox::open(&config.notify(false), Limits::DEFAULT).await;
    outbox.expect("an outbox")
}

const INSERT_OWN: &str = "INSERT INTO own (state) VALUES ('completed')";

async fn run(url: &str, text: &str) {
    let client = connect(url).await;
    client.batch_execute(text).await.expect("done");
}

pub(super) async fn postgres(servers: &Servers, in_flight: usize) -> Vec<Case> {
    let (url, engine) = (servers.postgres.url(), named(&servers.postgres));
    let setup = "CREATE TABLE IF NOT EXISTS own (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text NOT NULL); \
                 CREATE TABLE IF NOT EXISTS bare_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 topic text NOT NULL, payload bytea NOT NULL, sent boolean NOT NULL DEFAULT false); \
                 CREATE INDEX IF NOT EXISTS bare_unsent ON bare_outbox (id) WHERE NOT sent; \
                 TRUNCATE own, bare_outbox";
    run(&url, setup).await;
    let mut cases = vec![Case {
        pattern: "outbox",
        operation: "append",
        engine: engine.clone(),
        in_flight,
        least: 1,
        work: APPEND,
        ours: append(&url, in_flight).await,
        peers: vec![
            append_by_hand(&url, in_flight).await,
            append_alone(&url, in_flight).await,
            bare_append(&url, in_flight).await,
        ],
    }];
    if in_flight > 1 {
        cases.push(Case {
            pattern: "outbox",
            operation: "relay",
            engine,
            in_flight,
            least: 512,
            work: RELAY,
            ours: relay(&url, in_flight).await,
            peers: vec![relay_by_hand(&url).await, bare_relay(&url).await],
        });
    }
    cases
}

async fn append(url: &str, in_flight: usize) -> Contender {
    let prefix = format!("append{in_flight}");
    let outbox = ours(url, &prefix).await;
    let own = Arc::new(Own::new(url).await);
    let empty = Empty::new(url, &prefix);
    Contender::tasks(
        "dpat-postgres",
        in_flight,
        move || {
            let (own, outbox) = (Arc::clone(&own), outbox.clone());
            async move {
                let mut link = own.take().await;
                let insert = link.prepare_own(INSERT_OWN).await;
                let Link { client, ours, .. } = &mut *link;
                let mut tx = client.transaction().await.expect("begun");
                tx.execute(&insert, &[]).await.expect("changed");
                let mut on = ours.on(&mut tx);
                let appended = outbox.append(&mut on, &event(), SystemClock.wall()).await;
                appended.expect("appended");
                dpat_postgres::commit(tx).await.expect("committed");
            }
        },
        move || empty.clone().run(),
    )
}

/// In a transaction whose connection keeps nothing of ours.
async fn append_alone(url: &str, in_flight: usize) -> Contender {
    let prefix = format!("append_alone{in_flight}");
    let outbox = ours(url, &prefix).await;
    let own = Arc::new(Own::new(url).await);
    let empty = Empty::new(url, &prefix);
    Contender::tasks(
        "dpat-postgres@not prepared",
        in_flight,
        move || {
            let (own, outbox) = (Arc::clone(&own), outbox.clone());
            async move {
                let mut link = own.take().await;
                let insert = link.prepare_own(INSERT_OWN).await;
                let mut tx = link.client.transaction().await.expect("begun");
                tx.execute(&insert, &[]).await.expect("changed");
                let appended = outbox.append(&mut tx, &event(), SystemClock.wall()).await;
                appended.expect("appended");
                dpat_postgres::commit(tx).await.expect("committed");
            }
        },
        move || empty.clone().run(),
    )
}

/// Removes what a round has appended.
#[derive(Clone)]
struct Empty {
    url: String,
    text: String,
}

impl Empty {
    fn new(url: &str, prefix: &str) -> Self {
        Self {
            url: url.to_owned(),
            text: format!("TRUNCATE own, {prefix}_events, {prefix}_states"),
        }
    }

    async fn run(self) {
        run(&self.url, &self.text).await;
    }
}

/// The exported statement on the tables of dpat-postgres, by hand.
async fn append_by_hand(url: &str, in_flight: usize) -> Contender {
    let prefix = format!("hand_append{in_flight}");
    // It makes the tables.
    ours(url, &prefix).await;
    let own = Arc::new(Own::new(url).await);
    let config = Config::new(url, prefix.as_str()).expect("a name");
    // As long as the process.
    let insert: &'static str = config.sql(dpat_postgres::sql::APPEND).leak();
    let empty = Empty::new(url, &prefix);
    Contender::tasks(
        &format!("tokio-postgres@{SAME}"),
        in_flight,
        move || {
            let own = Arc::clone(&own);
            async move {
                let mut client = own.take().await;
                let change = client.prepare_own(INSERT_OWN).await;
                let insert = client.prepare_own(insert).await;
                let tx = client.client.transaction().await.expect("begun");
                tx.execute(&change, &[]).await.expect("changed");
                let (event, now) = (event(), dpat_postgres::sql::nanos(SystemClock.wall()));
                let (id, encoded) = (event.id().to_bytes(), event.encode());
                let params: [&(dyn ToSql + Sync); 7] = [
                    &&id[..],
                    &event.topic(),
                    &event.key(),
                    &event.dedup(),
                    &now,
                    &&encoded[..],
                    &false,
                ];
                let appended = tx.query_one(&insert, &params).await;
                appended.expect("appended");
                tx.commit().await.expect("committed");
            }
        },
        move || empty.clone().run(),
    )
}

const BARE_INSERT: &str = "INSERT INTO bare_outbox (topic, payload) VALUES ($1, $2)";

async fn bare_append(url: &str, in_flight: usize) -> Contender {
    let own = Arc::new(Own::new(url).await);
    let url = url.to_owned();
    Contender::tasks(
        "tokio-postgres@plain table",
        in_flight,
        move || {
            let own = Arc::clone(&own);
            async move {
                let mut client = own.take().await;
                let change = client.prepare_own(INSERT_OWN).await;
                let insert = client.prepare_own(BARE_INSERT).await;
                let tx = client.client.transaction().await.expect("begun");
                tx.execute(&change, &[]).await.expect("changed");
                let appended = tx
                    .execute(&insert, &[&"orders.completed", &&payload()[..]])
                    .await;
                appended.expect("appended");
                tx.commit().await.expect("committed");
            }
        },
        move || {
            let url = url.clone();
            async move { run(&url, "TRUNCATE own, bare_outbox").await }
        },
    )
}

/// Takes everything, and says when it has taken as much as there is.
#[derive(Default)]
struct Taken {
    left: AtomicU64,
    all: Mutex<Option<oneshot::Sender<()>>>,
}

#[async_trait]
impl Sink for Taken {
    async fn publish(&self, _: Delivery<'_>) -> Result<(), PublishError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(all) = all.take() {
                // The round waits for it.
                let _ = all.send(());
            }
        }
        Ok(())
    }
}

async fn relay(url: &str, in_flight: usize) -> Contender {
    let outbox = ours(url, "relay").await;
    let url = url.to_owned();
    Contender::new("dpat-postgres", move |count| {
        let (outbox, url) = (outbox.clone(), url.clone());
        async move {
            let mut client = connect(&url).await;
            let mut tx = client.transaction().await.expect("begun");
            for _ in 0..count {
                let appended = outbox.append(&mut tx, &event(), SystemClock.wall()).await;
                appended.expect("appended");
            }
            dpat_postgres::commit(tx).await.expect("committed");
            let (sender, all) = oneshot::channel();
            let sink = Arc::new(Taken {
                left: AtomicU64::new(count),
                all: Mutex::new(Some(sender)),
            });
            let config = RelayConfig::builder().in_flight_max(in_flight).build();
            let config = config.expect("a valid configuration");
            let store = Arc::new(outbox);
            let relay = Relay::new(config, store, sink, TokioTime, SystemEntropy);
            let start = Instant::now();
            let stopped = relay.run_until(async {
                all.await.expect("taken");
            });
            stopped.await.expect("relayed");
            let elapsed = start.elapsed();
            run(&url, "TRUNCATE relay_events, relay_states").await;
            Timed {
                elapsed,
                each: Vec::new(),
            }
        }
    })
}

/// The statements of our own relay, each of up to 64 events: a claim by a lease, which passes over what others have locked, and a
/// mark of what was sent.
async fn relay_by_hand(url: &str) -> Contender {
    let outbox = ours(url, "hand_relay").await;
    let url = url.to_owned();
    Contender::new(&format!("tokio-postgres@{SAME}"), move |count| {
        let (outbox, url) = (outbox.clone(), url.clone());
        async move {
            let mut client = connect(&url).await;
            let mut tx = client.transaction().await.expect("begun");
            for _ in 0..count {
                let appended = outbox.append(&mut tx, &event(), SystemClock.wall()).await;
                appended.expect("appended");
            }
            dpat_postgres::commit(tx).await.expect("committed");
            let statements = Relaying::new(&client, &url).await;
            let start = Instant::now();
            let mut left = count;
            while left > 0 {
                let positions = statements.claim(&mut client).await;
                statements.mark(&mut client, &positions).await;
                left -= positions.len() as u64;
            }
            let elapsed = start.elapsed();
            run(&url, "TRUNCATE hand_relay_events, hand_relay_states").await;
            Timed {
                elapsed,
                each: Vec::new(),
            }
        }
    })
}

/// The statements of a relay, prepared.
struct Relaying {
    loose: Statement,
    heads: Statement,
    set_states: Statement,
    contents: Statement,
    lock_lanes: Statement,
    lock_rows: Statement,
}

impl Relaying {
    async fn new(client: &Client, url: &str) -> Self {
        let config = Config::new(url, "hand_relay").expect("a name");
        let texts = sql::statements(&config, sql::Part::Outbox);
        let prepare = async |name: &str, types: &[Type]| {
            let text = texts.iter().find(|text| text.0 == name);
            let (_, text) = text.expect("a statement of this name");
            client.prepare_typed(text, types).await.expect("prepared")
        };
        let (ints, texts_of) = (Type::INT8_ARRAY, Type::TEXT_ARRAY);
        let states = [
            ints.clone(),
            texts_of.clone(),
            ints.clone(),
            ints.clone(),
            ints.clone(),
            ints.clone(),
            ints.clone(),
            texts_of,
            Type::BYTEA_ARRAY,
        ];
        Self {
            loose: prepare("loose", &[]).await,
            heads: prepare("heads", &[]).await,
            set_states: prepare("set_states", &states).await,
            contents: prepare("contents", &[]).await,
            lock_lanes: prepare("lock_lanes", &[]).await,
            lock_rows: prepare("lock_rows", &[]).await,
        }
    }

    async fn claim(&self, client: &mut Client) -> Vec<i64> {
        let now = sql::nanos(SystemClock.wall());
        let tx = client.transaction().await.expect("begun");
        let rows = tx
            .query(&self.loose, &[&now, &64_i64])
            .await
            .expect("looked");
        tx.query(&self.heads, &[&now, &64_i64])
            .await
            .expect("looked");
        let positions: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        self.set(
            &tx,
            &positions,
            "claimed",
            (Some(now + 30_000_000_000), None),
        )
        .await;
        let contents = tx.query(&self.contents, &[&positions]).await.expect("read");
        for row in &contents {
            let event = Event::decode(row.get(1)).expect("an event");
            assert_eq!(event.payload().len(), super::PAYLOAD);
        }
        tx.commit().await.expect("committed");
        positions
    }

    async fn mark(&self, client: &mut Client, positions: &Vec<i64>) {
        let now = sql::nanos(SystemClock.wall());
        let tx = client.transaction().await.expect("begun");
        tx.query(&self.lock_lanes, &[positions])
            .await
            .expect("locked");
        tx.query(&self.lock_rows, &[positions])
            .await
            .expect("locked");
        self.set(&tx, positions, "sent", (None, Some(now))).await;
        tx.commit().await.expect("committed");
    }

    async fn set(
        &self,
        tx: &Transaction<'_>,
        positions: &[i64],
        phase: &str,
        (due, sent_at): (Option<i64>, Option<i64>),
    ) {
        let all = positions.len();
        let ones = vec![1_i64; all];
        let (due, sent_at) = (vec![due; all], vec![sent_at; all]);
        let (phases, reasons) = (vec![phase; all], vec![None::<&str>; all]);
        let states = vec![&[7_u8; 40][..]; all];
        let params: [&(dyn ToSql + Sync); 9] = [
            &positions, &phases, &ones, &ones, &due, &due, &sent_at, &reasons, &states,
        ];
        tx.execute(&self.set_states, &params).await.expect("set");
    }
}

async fn bare_relay(url: &str) -> Contender {
    let url = url.to_owned();
    Contender::new("tokio-postgres@plain table", move |count| {
        let url = url.clone();
        async move {
            let client = connect(&url).await;
            let fill = format!(
                "INSERT INTO bare_outbox (topic, payload) SELECT 'orders.completed', decode(repeat('07', {}), 'hex') FROM \
                 generate_series(1, {count})",
                super::PAYLOAD
            );
            client.batch_execute(&fill).await.expect("filled");
            let select =
                "SELECT id, topic, payload FROM bare_outbox WHERE NOT sent ORDER BY id LIMIT 64";
            let select = client.prepare(select).await.expect("a statement");
            let update = "UPDATE bare_outbox SET sent = true WHERE id = ANY($1)";
            let update = client.prepare(update).await.expect("a statement");
            let start = Instant::now();
            loop {
                let rows = client.query(&select, &[]).await.expect("selected");
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                if ids.is_empty() {
                    break;
                }
                client.execute(&update, &[&ids]).await.expect("updated");
            }
            let elapsed = start.elapsed();
            run(&url, "TRUNCATE bare_outbox").await;
            Timed {
                elapsed,
                each: Vec::new(),
            }
        }
    })
}
