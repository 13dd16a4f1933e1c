//! The bare client of PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::payload;
use crate::harness::Contender;

/// Connections of every contender on PostgreSQL.
pub(super) const CONNECTIONS: usize = 8;
const NAME: &str = "tokio-postgres";

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

    /// Runs a text.
    pub(super) async fn run(&self, text: &str) {
        self.links[0].0.batch_execute(text).await.expect("done");
    }
}

/// A connection with the statements that were prepared on it.
pub(super) struct Link {
    pub(super) client: Client,
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

pub(super) async fn sender(url: &str, in_flight: usize) -> Contender {
    let table = format!("bare_send_{in_flight}");
    let bare = Arc::new(queue(url, &table).await);
    let purged = Arc::clone(&bare);
    Contender::tasks(
        NAME,
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

pub(super) async fn cycler(url: &str, in_flight: usize) -> Contender {
    let table = format!("bare_cycle_{in_flight}");
    let bare = Arc::new(queue(url, &table).await);
    let emptied = Arc::clone(&bare);
    Contender::tasks(
        NAME,
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
