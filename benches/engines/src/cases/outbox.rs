//! The outbox on PostgreSQL: appends against a bare insert, relays against a loop that polls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use dpat_core::{Clock as _, SystemClock, SystemEntropy, TokioTime, Uuid7Generator};
use dpat_outbox::{Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink};
use dpat_postgres::{Config, Outbox};
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;

use super::postgres::{CONNECTIONS, Own, connect};
use super::{SAME, payload};
use crate::harness::{Case, Contender, Timed};
use crate::servers::{Servers, named};

pub(super) const NOTES: &str = "\
What each side does:

- *append*: a transaction of tokio-postgres inserts a row of the caller's, and the event; 8 connections. *plain table* inserts \
the event into a table by one prepared statement. *same work* encodes it, and inserts two rows, the event and its state, by the exported \
statement of dpat-postgres. *dpat-postgres* looks at its bounds as well, once a second. No `NOTIFY` on any side.
- *relay*: events without keys lie there, and go to a sink that takes all at once. The bare side is the loop that many write by hand: \
`SELECT … WHERE NOT sent ORDER BY id LIMIT 64`, then `UPDATE … SET sent`. It has one relay, no order by key, no attempts that are \
counted, no pause after an error, and it passes over what commits late. *dpat-postgres* claims by a lease, and marks what was sent.";

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
            peers: vec![bare_relay(&url).await],
        });
    }
    cases
}

async fn append(url: &str, in_flight: usize) -> Contender {
    let prefix = format!("append{in_flight}");
    let outbox = ours(url, &prefix).await;
    let own = Arc::new(Own::new(url).await);
    let url = url.to_owned();
    let emptied = format!("TRUNCATE own, {prefix}_events, {prefix}_states");
    Contender::tasks(
        "dpat-postgres",
        in_flight,
        move || {
            let (own, outbox) = (Arc::clone(&own), outbox.clone());
            async move {
                let mut client = own.take().await;
                let insert = client.prepare_own(INSERT_OWN).await;
                let mut tx = client.client.transaction().await.expect("begun");
                tx.execute(&insert, &[]).await.expect("changed");
                let appended = outbox.append(&mut tx, &event(), SystemClock.wall()).await;
                appended.expect("appended");
                dpat_postgres::commit(tx).await.expect("committed");
            }
        },
        move || {
            let (url, emptied) = (url.clone(), emptied.clone());
            async move { run(&url, &emptied).await }
        },
    )
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
    let url = url.to_owned();
    let emptied = format!("TRUNCATE own, {prefix}_events, {prefix}_states");
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
        move || {
            let (url, emptied) = (url.clone(), emptied.clone());
            async move { run(&url, &emptied).await }
        },
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

async fn bare_relay(url: &str) -> Contender {
    let url = url.to_owned();
    Contender::new("tokio-postgres", move |count| {
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
