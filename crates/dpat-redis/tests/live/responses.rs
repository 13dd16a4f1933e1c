//! The laws of a response store, its limits, and what comes twice.

use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Classify, Wall};
use dpat_idempotency::conformance::{self, Harness, Placed, response_laws, store_laws};
use dpat_idempotency::{Change, Key, Store, Swap};
use dpat_redis::{Config, OpenError, ResponseLimits, ResponseStore};
use dpat_testkit::live::{Law, Live};
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, Admin, run, url};

/// A store with its name, which the laws reopen.
type OnRedis = Placed<ResponseStore, Arc<Config>>;

fn on_redis(place: Arc<Config>) -> OnRedis {
    let store = run(ResponseStore::open(&place, ResponseLimits::DEFAULT)).unwrap();
    Placed { store, place }
}

struct OnServer;

impl Harness for OnServer {
    type Store = OnRedis;
    fn fresh(&self) -> OnRedis {
        on_redis(Arc::new(kit::config(&url())))
    }
    fn reopen(&self, store: OnRedis) -> OnRedis {
        let Placed { place, store } = store;
        drop(store);
        on_redis(place)
    }
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(future)
    }
}

pub(crate) fn redis_keeps_the_laws_of_responses(live: &Live) -> Trial {
    let mut laws = Law::plain(store_laws(), || OnServer);
    laws.extend(Law::plain(response_laws(), || OnServer));
    live.laws("responses", laws)
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        redis_keeps_the_laws_of_responses(live),
        live.trial(
            "a_full_store_refuses_new_keys",
            a_full_store_refuses_new_keys,
        ),
        live.trial(
            "a_version_does_not_come_back_when_the_server_is_emptied",
            a_version_does_not_come_back_when_the_server_is_emptied,
        ),
        live.trial(
            "a_row_that_does_not_decode_is_a_typed_error",
            a_row_that_does_not_decode_is_a_typed_error,
        ),
        live.faults("what_a_store_needs_is_named", what_a_store_needs_is_named),
    ]
}

fn put(text: &'static str) -> Change {
    Change::Put {
        bytes: Bytes::from_static(text.as_bytes()),
        expires: None,
    }
}

fn key(id: &str) -> Key {
    Key::new("s", id).unwrap()
}

fn a_full_store_refuses_new_keys(url: &str) -> Result<(), Failed> {
    let open = |rows, bytes| {
        let limits = ResponseLimits { rows, bytes };
        run(ResponseStore::open(&kit::config(url), limits)).unwrap()
    };
    Ok(conformance::a_full_store_refuses_new_keys(
        &OnServer, 33, open,
    )?)
}

fn a_version_does_not_come_back_when_the_server_is_emptied(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let store = run(ResponseStore::open(
        &Config::new(url, name.as_str())?,
        ResponseLimits::DEFAULT,
    ))?;
    let one = key("a");
    run(store.swap(&one, None, put("before")))?;
    let before = run(store.load(&one))?.unwrap();
    for part in ["meta", "rows", "index", "expires"] {
        Admin::new(url).run(&["DEL", &format!("dpat:{{{name}}}:responses:{part}")]);
    }
    assert_eq!(run(store.load(&one))?, None);
    run(store.swap(&one, None, put("after")))?;
    let after = run(store.load(&one))?.unwrap();
    assert!(after.version > before.version);
    let late = run(store.swap(&one, Some(before.version), Change::Remove))?;
    assert_eq!(late, Swap::Conflict);
    Ok(())
}

fn a_row_that_does_not_decode_is_a_typed_error(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let store = run(ResponseStore::open(
        &Config::new(url, name.as_str())?,
        ResponseLimits::DEFAULT,
    ))?;
    let admin = Admin::new(url);
    let one = key("a");
    run(store.swap(&one, None, put("before")))?;
    let rows = format!("dpat:{{{name}}}:responses:rows");
    let field = std::str::from_utf8(one.as_bytes())?.to_owned();
    admin.run(&["HSET", &rows, &field, "no row"]);
    let loaded = run(store.load(&one)).unwrap_err();
    let swapped = run(store.swap(&one, None, put("after"))).unwrap_err();
    admin.run(&["HDEL", &rows, &field]);
    let scanned = run(store.scan(None, 9)).unwrap_err();
    for error in [loaded, swapped, scanned] {
        assert_eq!(error.class(), Class::Corrupt, "{error}");
    }
    Ok(())
}

fn what_a_store_needs_is_named(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let config = |login: &str| {
        let url = format!("redis://{login}127.0.0.1:{}/", server.port());
        Config::new(&url, "a").unwrap()
    };
    let open = |login: &str| run(ResponseStore::open(&config(login), ResponseLimits::DEFAULT));
    let mut grant = vec![
        "ACL",
        "SETUSER",
        "limited",
        "reset",
        "on",
        ">secret",
        "~dpat:{a}:*",
    ];
    grant.extend(GRANTS);
    admin.run(&grant);
    let store = open("limited:secret@")?;
    run(store.swap(&key("a"), None, put("1")))?;
    let row = run(store.load(&key("a")))?.unwrap();
    run(store.scan(None, 9))?;
    run(store.purge(Wall::MAX, 9))?;
    run(store.swap(&key("a"), Some(row.version), Change::Remove))?;
    admin.run(&["ACL", "SETUSER", "limited", "-zrem"]);
    let error = open("limited:secret@").unwrap_err();
    assert!(
        matches!(&error, OpenError::Forbidden { command, .. } if command == "zrem"),
        "{error}"
    );
    admin.run(&["SET", "dpat:{a}:responses:meta", "theirs"]);
    let error = open("").unwrap_err();
    assert!(matches!(error, OpenError::KeyTaken { .. }), "{error}");
    admin.run(&["DEL", "dpat:{a}:responses:meta"]);
    admin.run(&["HSET", "dpat:{a}:responses:meta", "schema", "9"]);
    let error = open("").unwrap_err();
    assert!(
        matches!(error, OpenError::NewerSchema { found: 9, .. }),
        "{error}"
    );
    admin.run(&["CONFIG", "SET", "maxmemory", "1gb"]);
    admin.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let error = open("").unwrap_err();
    assert!(matches!(error, OpenError::Evicts { .. }), "{error}");
    Ok(())
}

/// What the guide lists.
const GRANTS: [&str; 16] = [
    "+info",
    "+config|get",
    "+eval",
    "+evalsha",
    "+exists",
    "+type",
    "+time",
    "+hget",
    "+hmget",
    "+hset",
    "+hdel",
    "+hincrby",
    "+hlen",
    "+zadd",
    "+zrem",
    "+zrangebylex",
];
