//! What is stored: versions, rows that do not decode, names.

use std::sync::Arc;

use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::inbox::AcceptError;
use dpat_idempotency::{Fingerprint, Key, Store as _};
use dpat_outbox::{Limits, Outcome, Settlement, Store, Token};
use dpat_redb::redb::{Database, ReadableTable, TableDefinition};
use dpat_redb::{
    Config, ConfigError, EngineError, Inbox, OpenError, Outbox, ResponseLimits, ResponseStore,
    Threads, commit,
};

use crate::kit::{claim, event, memory, outbox_on};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("t.meta");

fn open_all(database: &Arc<Database>) -> [Result<(), OpenError>; 3] {
    let config = || Config::new("t").unwrap();
    let limits = ResponseLimits::DEFAULT;
    [
        Outbox::open(Arc::clone(database), config(), Limits::DEFAULT).map(drop),
        Inbox::open(database, &config()).map(drop),
        ResponseStore::open(Arc::clone(database), &config(), limits).map(drop),
    ]
}

#[test]
fn a_newer_schema_is_refused() {
    let database = memory();
    let tx = database.begin_write().unwrap();
    tx.open_table(META).unwrap().insert("schema", 2).unwrap();
    commit(tx).unwrap();
    for opened in open_all(&database) {
        let error = opened.unwrap_err();
        assert_eq!(
            error.to_string(),
            "t.meta: schema 2 is newer than 1, the newest that this version knows"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
    }
}

#[test]
fn tables_of_another_kind_are_refused() {
    let database = memory();
    let tx = database.begin_write().unwrap();
    let other: TableDefinition<'_, u64, &str> = TableDefinition::new("t.meta");
    tx.open_table(other).unwrap().insert(1, "mine").unwrap();
    commit(tx).unwrap();
    for opened in open_all(&database) {
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::Engine(_)), "{error}");
        assert_eq!(error.class(), Class::Permanent);
    }
}

#[test]
fn prefixes_are_bounded_and_kept_apart() {
    let long = "x".repeat(65);
    assert_eq!(Config::new(long), Err(ConfigError::Prefix { got: 65 }));
    let database = memory();
    let open = |prefix: &str| {
        let config = Config::new(prefix).unwrap();
        Outbox::open(Arc::clone(&database), config, Limits::DEFAULT).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    let tx = database.begin_write().unwrap();
    one.append(&tx, &event(1, "a"), Wall::MIN).unwrap();
    commit(tx).unwrap();
    assert_eq!(one.lag_now().unwrap().backlog_rows, 1);
    assert_eq!(two.lag_now().unwrap().backlog_rows, 0);
}

/// Replaces rows by bytes that mean nothing.
fn spoil_outbox(database: &Database, event: bool) {
    let tx = database.begin_write().unwrap();
    if event {
        let events: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox.events");
        let bad: &[u8] = &[0xff; 3];
        tx.open_table(events).unwrap().insert(1, bad).unwrap();
    } else {
        type States = (u64, &'static [u8], &'static [u8]);
        let states: TableDefinition<'_, u64, States> = TableDefinition::new("outbox.states");
        let mut states = tx.open_table(states).unwrap();
        let lane = states.get(1).unwrap().unwrap().value().1.to_vec();
        states.insert(1, (1, &lane[..], &[0xff, 1][..])).unwrap();
    }
    commit(tx).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

#[test]
fn a_row_of_the_outbox_that_does_not_decode_is_a_typed_error() {
    for (spoil_event, table) in [(true, "outbox.events"), (false, "outbox.states")] {
        let database = memory();
        let outbox = outbox_on(&database, Limits::DEFAULT);
        let tx = database.begin_write().unwrap();
        outbox.append(&tx, &event(1, "a"), Wall::MIN).unwrap();
        outbox.commit(tx).unwrap();
        spoil_outbox(&database, spoil_event);
        let error = runtime().block_on(outbox.claim(&claim(1, 5))).unwrap_err();
        let start = format!("table {table}: row 1 does not decode: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Corrupt, Effect::NotDone)
        );
        if !spoil_event {
            let settlement = Settlement {
                position: dpat_outbox::Position(1),
                token: Token::from_bytes([1; 16]),
                outcome: Outcome::Sent,
            };
            let settled = runtime().block_on(outbox.settle(Wall::MIN, &[settlement]));
            assert_eq!(settled.unwrap_err().class(), Class::Corrupt);
        }
        // Nothing was changed.
        assert_eq!(outbox.lag_now().unwrap().backlog_rows, 1);
    }
}

#[test]
fn an_index_that_names_a_missing_row_is_a_typed_error() {
    let database = memory();
    let outbox = outbox_on(&database, Limits::DEFAULT);
    let tx = database.begin_write().unwrap();
    outbox.append(&tx, &event(1, "a"), Wall::MIN).unwrap();
    let events: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox.events");
    tx.open_table(events).unwrap().remove(1).unwrap();
    outbox.commit(tx).unwrap();
    let error = runtime().block_on(outbox.claim(&claim(1, 5))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "table outbox.events: row 1: its state is there, and the event is gone"
    );
    assert_eq!(error.class(), Class::Corrupt);
}

#[test]
fn a_marker_or_key_that_does_not_decode_is_a_typed_error() {
    let database = memory();
    let config = Config::new("t").unwrap();
    let inbox = Inbox::open(&database, &config).unwrap();
    let responses = Config::new("r").unwrap();
    let limits = ResponseLimits::DEFAULT;
    let store = ResponseStore::open(Arc::clone(&database), &responses, limits).unwrap();
    let key = Key::new("s", "a").unwrap();
    let tx = database.begin_write().unwrap();
    {
        let markers: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("t.markers");
        let mut markers = tx.open_table(markers).unwrap();
        markers.insert(key.as_bytes(), (1, &[0xff][..])).unwrap();
        type Row = (u64, Option<u64>, &'static [u8]);
        let rows: TableDefinition<'_, &[u8], Row> = TableDefinition::new("r.rows");
        let mut rows = tx.open_table(rows).unwrap();
        rows.insert(&[9, 9][..], (1, None, &[][..])).unwrap();
    }
    commit(tx).unwrap();
    let tx = database.begin_write().unwrap();
    let error = inbox
        .accept(&tx, &key, Fingerprint::NONE, Wall::MIN, |_| {
            Ok::<_, EngineError>("".into())
        })
        .unwrap_err();
    assert!(matches!(error, AcceptError::Corrupt(_)), "{error}");
    assert_eq!(error.class(), Class::Corrupt);
    drop(tx);
    let error = runtime().block_on(store.scan(None, 9)).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
}

#[test]
fn tables_that_are_open_already_are_a_typed_error() {
    let database = memory();
    let outbox = outbox_on(&database, Limits::DEFAULT);
    let tx = database.begin_write().unwrap();
    let open = outbox.within(&tx).unwrap();
    let error = outbox.append(&tx, &event(1, ""), Wall::MIN).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone)
    );
    drop(open);
    outbox.append(&tx, &event(1, ""), Wall::MIN).unwrap();
}

#[test]
fn a_future_that_is_dropped_leaves_its_work_whole() {
    let database = memory();
    let config = Config::new("outbox")
        .unwrap()
        .threads(Threads::TokioBlocking);
    let outbox = Outbox::open(Arc::clone(&database), config, Limits::DEFAULT).unwrap();
    let tx = database.begin_write().unwrap();
    for number in 0..9 {
        outbox.append(&tx, &event(number, ""), Wall::MIN).unwrap();
    }
    outbox.commit(tx).unwrap();
    {
        let runtime = runtime();
        runtime.block_on(async {
            let asked = claim(1, 5);
            let mut claiming = outbox.claim(&asked);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            // Started, and nobody waits for it.
            let _ = claiming.as_mut().poll(&mut cx);
        });
        // Waits for a thread that has begun; one that has not never will.
    }
    // Claimed as a whole or not at all; and free when the lease ends.
    let free = |token, now| {
        let batch = runtime().block_on(outbox.claim(&claim(token, now)));
        batch.unwrap().rows.len()
    };
    let not_claimed = free(2, 50);
    assert!(matches!(not_claimed, 0 | 9), "{not_claimed}");
    assert_eq!(free(3, 150), 9);
}
