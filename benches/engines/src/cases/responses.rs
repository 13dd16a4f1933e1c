//! The response store: begin and finish on each engine against the bare commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use bytes::Bytes;
use dpat_core::{Clock as _, SystemClock, SystemEntropy};
use dpat_idempotency::{AnyStore, Begun, Config, Fingerprint, Key, Responses};

use super::postgres::{Bare, CONNECTIONS};
use super::{SAME, payload};
use crate::harness::{Case, Contender, nothing};
use crate::servers::{Servers, named};

pub(super) const NOTES: &str = "\
What each side does, with a new key each time:

- *same work* is what the store of the engine does, one call after the other: a claim that finds what is there, and a swap by its version. On \
*redis* these are the scripts of dpat-redis, sent by hand, which bound rows and bytes as well; on *async-nats* two publishes that expect the last \
sequence of the subject, each with the time until which it is good, into a bucket with a limit of rows; on *tokio-postgres* two prepared statements on the table of dpat-postgres, with 8 connections.
- *redis, plain keys*: `GET`, `SET key claim NX PX 60000`, then `SET key response XX PX 86400000`. Whoever comes second can take over, and \
nobody looks whose claim it was.
- *async-nats, look first*: what `create` in a key-value bucket and `update` by its revision are: a look at the last message, and the two \
publishes.
- *tokio-postgres, look first*: `SELECT`, `INSERT … ON CONFLICT DO NOTHING`, then `UPDATE` by the key, each a transaction.
- *dpat-redis* and *dpat-postgres* let changes that are asked for at one time go together, in one script or statement. \
On *tokio-postgres*, calls are pipelined on all 8 connections. *dpat-sqlite* needs no server.";

const WORK: &str = "\
    Each claims a key and stores its response of 100 bytes, and waits for the server each time.";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A key that nobody has used.
pub(super) fn name() -> String {
    format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn case(engine: String, in_flight: usize, ours: Contender, peers: Vec<Contender>) -> Case {
    Case {
        pattern: "idempotency",
        operation: "begin and complete",
        engine,
        in_flight,
        least: 1,
        work: WORK,
        ours,
        peers,
    }
}

fn ours(name: &str, in_flight: usize, store: AnyStore) -> Contender {
    let responses = Responses::new(Config::default(), store, SystemClock, SystemEntropy);
    let responses = Arc::new(responses);
    Contender::tasks(
        name,
        in_flight,
        move || {
            let responses = Arc::clone(&responses);
            async move {
                let key = Key::new("bench", &self::name()).expect("a key");
                let begun = responses.begin(&key, Fingerprint::NONE).await;
                let Begun::First(claim) = begun.expect("begun") else {
                    panic!("a key that nobody has used");
                };
                claim.complete(payload()).await.expect("completed");
            }
        },
        nothing,
    )
}

pub(super) async fn redis(servers: &Servers, in_flight: usize) -> Vec<Case> {
    use dpat_redis::{ResponseLimits, ResponseStore};
    let (url, engine) = (servers.redis.url(), named(&servers.redis));
    let config = dpat_redis::Config::new(&url, format!("responses-{in_flight}"));
    let store = ResponseStore::open(&config.expect("a name"), ResponseLimits::DEFAULT).await;
    let ours = ours(
        "dpat-redis",
        in_flight,
        AnyStore::new(store.expect("a store")),
    );

    vec![case(
        engine,
        in_flight,
        ours,
        super::redis::stores(&url, in_flight).await,
    )]
}

/// Puts a value in place of the one of this revision, and returns its own.
async fn put(context: &Context, subject: &str, revision: u64, value: Bytes) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert(
        "Nats-Expected-Last-Subject-Sequence",
        revision.to_string().as_str(),
    );
    // Until when it is good: what purges reads it.
    headers.insert("Expires", SystemClock.wall().as_nanos().to_string());
    let sent = context.publish_with_headers(subject.to_owned(), headers, value);
    let sent = sent.await.expect("sent");
    sent.await.expect("put").sequence
}

pub(super) async fn nats(servers: &Servers, in_flight: usize) -> Vec<Case> {
    use dpat_nats::{Connection, ResponseStore, StoreSettings};
    let (url, engine) = (servers.nats.url(), named(&servers.nats));
    let config = dpat_nats::Config::new(&url).expect("a URL");
    let connection = Connection::open(&config).await.expect("connected");
    let settings = StoreSettings::new(&format!("responses-{in_flight}"));
    let store = ResponseStore::open(&connection, settings.expect("a name")).await;
    let ours = ours(
        "dpat-nats",
        in_flight,
        AnyStore::new(store.expect("a store")),
    );

    let context = async_nats::jetstream::new(super::nats::connect(&url).await);
    // What a key-value bucket is, with a limit of rows.
    let bucket = async_nats::jetstream::stream::Config {
        name: format!("KV_bare-{in_flight}"),
        subjects: vec![format!("$KV.bare-{in_flight}.>")],
        max_messages_per_subject: 1,
        max_messages: 1_000_000,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        ..Default::default()
    };
    let bucket = context.create_stream(bucket).await.expect("a bucket");
    let (contexts, same_prefix) = (context.clone(), format!("$KV.bare-{in_flight}"));
    let same = Contender::tasks(
        &format!("async-nats@{SAME}"),
        in_flight,
        move || {
            let (context, subject) = (contexts.clone(), format!("{same_prefix}.{}", name()));
            async move {
                let claim = Bytes::from_static(&[7; 40]);
                let revision = put(&context, &subject, 0, claim).await;
                put(&context, &subject, revision, payload()).await;
            }
        },
        nothing,
    );
    let plain = Contender::tasks(
        "async-nats@look first",
        in_flight,
        move || {
            let (context, bucket) = (context.clone(), bucket.clone());
            async move {
                let subject = format!("$KV.bare-{in_flight}.{}", name());
                let there = bucket.get_last_raw_message_by_subject(&subject).await;
                assert!(there.is_err(), "a key that nobody has used");
                let claim = Bytes::from_static(b"claim");
                let revision = put(&context, &subject, 0, claim).await;
                put(&context, &subject, revision, payload()).await;
            }
        },
        nothing,
    );
    vec![case(engine, in_flight, ours, vec![same, plain])]
}

/// Rows are swapped by version, on the tables of dpat-postgres: a claim that finds what is there, and an update.
async fn swaps(url: &str, in_flight: usize) -> Contender {
    use dpat_postgres::{ResponseLimits, ResponseStore};
    let config = dpat_postgres::Config::new(url, format!("hand_responses_{in_flight}"));
    let config = config.expect("a name");
    // It makes the table.
    let made = ResponseStore::open(&config, ResponseLimits::DEFAULT).await;
    made.expect("a table");
    let insert = config.sql(
        "WITH new AS (INSERT INTO {schema}.{prefix}_records (key, version, expires, bytes, record) \
         VALUES ($1::bytea, nextval('{schema}.{prefix}_versions'), $2::bigint, length($1::bytea) + length($3::bytea), $3::bytea) \
         ON CONFLICT DO NOTHING RETURNING version) \
         SELECT version, NULL::bytea FROM new UNION ALL \
         SELECT version, record FROM {schema}.{prefix}_records WHERE key = $1 AND NOT EXISTS (SELECT FROM new)",
    );
    let update = config.sql(
        "UPDATE {schema}.{prefix}_records SET version = nextval('{schema}.{prefix}_versions'), expires = $2::bigint, \
         bytes = length($1::bytea) + length($3::bytea), record = $3 WHERE key = $1 AND version = $4::bigint RETURNING version",
    );
    let bare = Arc::new(Bare::new(url, "", &[&insert, &update]).await);
    Contender::tasks(
        &format!("tokio-postgres@{SAME}"),
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                let key = name().into_bytes();
                let (until, ends) = (1_900_000_000_000_000_000_i64, 1_900_000_000_000_000_001_i64);
                let version = bare.id(0, &[&key, &until, &&[7_u8; 40][..]]).await;
                let version = version.expect("a key that nobody has used");
                let done = bare.id(1, &[&key, &ends, &&payload()[..], &version]).await;
                assert!(done.is_some(), "our key");
            }
        },
        nothing,
    )
}

pub(super) async fn postgres(servers: &Servers, in_flight: usize) -> Vec<Case> {
    use dpat_sqlite::{ResponseLimits, ResponseStore, Threads};
    let (url, engine) = (servers.postgres.url(), named(&servers.postgres));
    let folder = tempfile::tempdir().expect("a directory on disk");
    let config = dpat_sqlite::Config::new(folder.path().join("responses.db"), "bench");
    let config = config.expect("a name").threads(Threads::TokioBlocking);
    let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).expect("a store");
    // As long as the process: the folder is the system's temporary one.
    std::mem::forget(folder);
    let embedded = ours("dpat-sqlite", in_flight, AnyStore::new(store));

    let config = dpat_postgres::Config::new(&url, format!("responses_{in_flight}"));
    let config = config.expect("a name").connections(CONNECTIONS);
    let limits = dpat_postgres::ResponseLimits::DEFAULT;
    let store = dpat_postgres::ResponseStore::open(&config.expect("so many"), limits).await;
    let ours = ours(
        "dpat-postgres",
        in_flight,
        AnyStore::new(store.expect("a store")),
    );

    let table = format!("bare_responses_{in_flight}");
    let setup = format!(
        "CREATE TABLE {table} (key text PRIMARY KEY, response bytea, expires_at timestamptz NOT NULL)"
    );
    let begin = format!(
        "INSERT INTO {table} (key, expires_at) VALUES ($1, now() + interval '60 s') ON CONFLICT DO NOTHING"
    );
    let finish = format!(
        "UPDATE {table} SET response = $2, expires_at = now() + interval '1 day' WHERE key = $1 AND response IS NULL"
    );
    let look = format!("SELECT response FROM {table} WHERE key = $1");
    let bare = Arc::new(Bare::new(&url, &setup, &[&begin, &finish, &look]).await);
    let peer = Contender::tasks(
        "tokio-postgres@look first",
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                let name = name();
                assert_eq!(bare.execute(2, &[&name]).await, 0, "looked");
                assert_eq!(bare.execute(0, &[&name]).await, 1, "begun");
                assert_eq!(bare.execute(1, &[&name, &&payload()[..]]).await, 1, "done");
            }
        },
        nothing,
    );
    let same = swaps(&url, in_flight).await;
    vec![case(engine, in_flight, ours, vec![same, peer, embedded])]
}
