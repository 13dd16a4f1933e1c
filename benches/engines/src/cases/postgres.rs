//! The bare client of PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::{PAYLOAD, SAME, payload};
use crate::harness::Contender;

/// Connections of every contender on PostgreSQL.
pub(super) const CONNECTIONS: usize = 8;
/// A table that has no more than each message.
const PLAIN: &str = "tokio-postgres@plain table";

/// Connects, and lets the connection work on the runtime.
pub(super) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("connected");
    tokio::spawn(async move {
        // It ends with the server or the client.
        let _ = connection.await;
    });
    client
}

/// Connections with prepared statements, each of which is its own transaction.
pub(super) struct Bare {
    links: Vec<(Client, Vec<Statement>)>,
    next: AtomicUsize,
}

impl Bare {
    /// Runs `setup`, and prepares `statements` on each connection.
    pub(super) async fn new(url: &str, setup: &str, statements: &[&str]) -> Self {
        let mut links = Vec::new();
        for number in 0..CONNECTIONS {
            let client = connect(url).await;
            if number == 0 {
                client.batch_execute(setup).await.expect("tables");
            }
            let mut prepared = Vec::new();
            for text in statements {
                prepared.push(client.prepare(text).await.expect("a statement"));
            }
            links.push((client, prepared));
        }
        Self {
            links,
            next: AtomicUsize::new(0),
        }
    }

    fn link(&self) -> &(Client, Vec<Statement>) {
        &self.links[self.next.fetch_add(1, Ordering::Relaxed) % self.links.len()]
    }

    /// Executes one of the statements on the next connection.
    pub(super) async fn execute(&self, which: usize, params: &[&(dyn ToSql + Sync)]) -> u64 {
        let (client, statements) = self.link();
        let done = client.execute(&statements[which], params).await;
        done.expect("executed")
    }

    /// Queries one of the statements on the next connection, for an id.
    pub(super) async fn id(&self, which: usize, params: &[&(dyn ToSql + Sync)]) -> Option<i64> {
        let (client, statements) = self.link();
        let rows = client.query(&statements[which], params).await;
        rows.expect("queried").first().map(|row| row.get(0))
    }

    /// Executes one of the statements, and another behind it on the same connection, without waiting in between.
    async fn execute_both(&self, (first, second): (usize, usize), params: &[&(dyn ToSql + Sync)]) {
        let (client, statements) = self.link();
        let first = client.query(&statements[first], params);
        let second = client.query(&statements[second], &[]);
        let (first, second) = futures_util::future::join(first, second).await;
        first.expect("executed");
        second.expect("executed");
    }

    /// Queries one of the statements on the next connection.
    async fn row(&self, which: usize, params: &[&(dyn ToSql + Sync)]) -> Row {
        let (client, statements) = self.link();
        let row = client.query_one(&statements[which], params).await;
        row.expect("queried")
    }

    /// Runs a text.
    pub(super) async fn run(&self, text: &str) {
        self.links[0].0.batch_execute(text).await.expect("done");
    }
}

/// A connection with the statements that were prepared on it.
pub(super) struct Link {
    pub(super) client: Client,
    /// Those of dpat-postgres.
    pub(super) ours: dpat_postgres::Prepared,
    prepared: HashMap<&'static str, Statement>,
}

impl Link {
    /// Prepares a statement at its first use.
    pub(super) async fn prepare_own(&mut self, text: &'static str) -> Statement {
        if let Some(statement) = self.prepared.get(text) {
            return statement.clone();
        }
        let statement = self.client.prepare(text).await.expect("a statement");
        self.prepared.insert(text, statement.clone());
        statement
    }
}

/// Connections that are used by one transaction at a time.
pub(super) struct Own {
    links: Vec<Mutex<Link>>,
    next: AtomicUsize,
}

impl Own {
    pub(super) async fn new(url: &str) -> Self {
        let mut links = Vec::new();
        for _ in 0..CONNECTIONS {
            links.push(Mutex::new(Link {
                client: connect(url).await,
                ours: dpat_postgres::Prepared::new(),
                prepared: HashMap::new(),
            }));
        }
        Self {
            links,
            next: AtomicUsize::new(0),
        }
    }

    pub(super) async fn take(&self) -> MutexGuard<'_, Link> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.links.len();
        self.links[next].lock().await
    }
}

/// A table with the statements that a queue needs at the least.
async fn queue(url: &str, table: &str) -> Bare {
    let setup = format!(
        "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, deliveries int NOT NULL DEFAULT 0, \
         visible_at timestamptz NOT NULL DEFAULT now(), payload bytea NOT NULL)"
    );
    let send = format!("INSERT INTO {table} (payload) VALUES ($1)");
    let claim = format!(
        "UPDATE {table} SET visible_at = now() + interval '30 s', deliveries = deliveries + 1 WHERE id = (SELECT id FROM \
         {table} WHERE visible_at <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, payload"
    );
    let done = format!("DELETE FROM {table} WHERE id = $1");
    Bare::new(url, &setup, &[&send, &claim, &done]).await
}

/// A queue on the tables and indexes of dpat-postgres, one statement for each operation: keys, priorities, delays, expiry, leases
/// by receipts, deduplication, dead letters, and receivers that are told.
async fn by_hand(url: &str, prefix: &str) -> Bare {
    use dpat_postgres::{Config, QueueSettings, QueueStore};
    let config = Config::new(url, prefix).expect("a name");
    // It makes the tables.
    let made = QueueStore::open(&config, QueueSettings::DEFAULT, dpat_core::TokioTime).await;
    made.expect("tables");
    let texts = [dpat_postgres::sql::SEND, TELL, CLAIM, DONE].map(|text| config.sql(text));
    let texts = texts.each_ref().map(String::as_str);
    Bare::new(url, "", &texts).await
}

/// Behind the commit that it tells of, and without a disk.
const TELL: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify('dpat_queue', '{schema}.{prefix}')::text";

/// Looks whether it is paused, a message with a key is ready, or something has come due; else takes the first message.
const CLAIM: &str = "\
WITH look AS (
  SELECT
    (SELECT paused FROM {schema}.{prefix}_queue WHERE one = 1) AS paused,
    (SELECT id FROM {schema}.{prefix}_deliveries WHERE ready AND key IS NOT NULL ORDER BY priority DESC, place LIMIT 1) AS keyed,
    (SELECT head FROM {schema}.{prefix}_deliveries WHERE head IS NOT NULL AND NOT ready ORDER BY head LIMIT 1) AS next,
    (SELECT ends FROM {schema}.{prefix}_deliveries WHERE ends IS NOT NULL ORDER BY ends LIMIT 1) AS ends,
    (SELECT until FROM {schema}.{prefix}_dedups ORDER BY until LIMIT 1) AS forgets
), found AS (
  SELECT id FROM {schema}.{prefix}_deliveries
  WHERE ready AND key IS NULL AND (
    SELECT NOT paused AND keyed IS NULL AND coalesce(least(next, ends, forgets) > $2, true) FROM look
  )
  ORDER BY priority DESC, place LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE {schema}.{prefix}_deliveries AS d SET
    count = count + 1, holder = 1, leased_until = $1, due = $1, head = $1, ready = false,
    ends = CASE WHEN expires IS NOT NULL THEN greatest(expires, $1) END
  FROM found CROSS JOIN LATERAL (SELECT * FROM {schema}.{prefix}_messages AS c WHERE c.id = found.id LIMIT 1) AS m
  WHERE d.id = found.id
  RETURNING d.id, d.count, m.key, m.priority, m.sent_at, m.headers, m.payload
)
SELECT claimed.*, look.* FROM look LEFT JOIN claimed ON true";

const DONE: &str = "\
WITH gone AS (
  DELETE FROM {schema}.{prefix}_deliveries
  WHERE
    id = $1 AND count = $2 AND key IS NULL AND holder IS NOT NULL AND due IS NOT NULL AND (ends IS NULL OR ends > $3)
  RETURNING id
)
DELETE FROM {schema}.{prefix}_messages WHERE id IN (SELECT id FROM gone)";

fn nanos() -> i64 {
    use dpat_core::Clock as _;
    dpat_postgres::sql::nanos(dpat_core::SystemClock.wall())
}

/// A lease of 30 s.
const LEASE: i64 = 30_000_000_000;

impl Bare {
    async fn send_by_hand(&self) {
        let (none, now, bytes) = (None::<i64>, nanos(), (256 + PAYLOAD) as i64);
        let payload = payload();
        let params: [&(dyn ToSql + Sync); 10] = [
            &none,
            &None::<&str>,
            &4_i64,
            &now,
            &now,
            &none,
            &bytes,
            &None::<&[u8]>,
            &&payload[..],
            &false,
        ];
        self.execute_both((0, 1), &params).await;
    }

    async fn receive_by_hand(&self) -> (i64, i64) {
        loop {
            let now = nanos();
            let row = self.row(2, &[&(now + LEASE), &now]).await;
            if let Some(id) = row.get::<_, Option<i64>>(0) {
                return (id, row.get(1));
            }
        }
    }

    async fn settle_by_hand(&self, (id, count): (i64, i64)) {
        assert_eq!(
            self.execute(3, &[&id, &count, &nanos()]).await,
            1,
            "settled"
        );
    }
}

/// The bare client, that sends: first what does the same work.
pub(super) async fn senders(url: &str, in_flight: usize) -> Vec<Contender> {
    let prefix = format!("hand_send_{in_flight}");
    let bare = Arc::new(by_hand(url, &prefix).await);
    let emptied = Arc::clone(&bare);
    let same = Contender::tasks(
        &format!("tokio-postgres@{SAME}"),
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move { bare.send_by_hand().await }
        },
        move || {
            let (bare, text) = (
                Arc::clone(&emptied),
                format!("TRUNCATE {prefix}_messages, {prefix}_deliveries"),
            );
            async move { bare.run(&text).await }
        },
    );
    vec![same, sender(url, in_flight).await]
}

/// The bare client, in full cycles: first what does the same work.
pub(super) async fn cyclers(url: &str, in_flight: usize) -> Vec<Contender> {
    let prefix = format!("hand_cycle_{in_flight}");
    let bare = Arc::new(by_hand(url, &prefix).await);
    let emptied = Arc::clone(&bare);
    let same = Contender::tasks(
        &format!("tokio-postgres@{SAME}"),
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.send_by_hand().await;
                let taken = bare.receive_by_hand().await;
                bare.settle_by_hand(taken).await;
            }
        },
        move || {
            let (bare, text) = (
                Arc::clone(&emptied),
                format!("TRUNCATE {prefix}_messages, {prefix}_deliveries"),
            );
            async move { bare.run(&text).await }
        },
    );
    vec![same, cycler(url, in_flight).await]
}

async fn sender(url: &str, in_flight: usize) -> Contender {
    let table = format!("bare_send_{in_flight}");
    let bare = Arc::new(queue(url, &table).await);
    let purged = Arc::clone(&bare);
    Contender::tasks(
        PLAIN,
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.execute(0, &[&&payload()[..]]).await;
            }
        },
        move || {
            let (bare, text) = (Arc::clone(&purged), format!("TRUNCATE {table}"));
            async move { bare.run(&text).await }
        },
    )
}

async fn cycler(url: &str, in_flight: usize) -> Contender {
    let table = format!("bare_cycle_{in_flight}");
    let bare = Arc::new(queue(url, &table).await);
    let emptied = Arc::clone(&bare);
    Contender::tasks(
        PLAIN,
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.execute(0, &[&&payload()[..]]).await;
                let id = loop {
                    if let Some(id) = bare.id(1, &[]).await {
                        break id;
                    }
                };
                bare.execute(2, &[&id]).await;
            }
        },
        move || {
            let (bare, text) = (Arc::clone(&emptied), format!("TRUNCATE {table}"));
            async move { bare.run(&text).await }
        },
    )
}
