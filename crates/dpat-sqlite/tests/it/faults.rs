//! A full disk, and other writers.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::{Fingerprint, Key};
use dpat_outbox::{AppendError, Event, Store};
use dpat_sqlite::rusqlite::{Connection, TransactionBehavior};
use dpat_sqlite::{EngineError, Inbox, commit};

use crate::kit::{Folder, claim, id, number_of, run};

fn large(number: u64) -> Event {
    let event = Event::builder(id(number), "topic").payload(vec![7; 20_000]);
    event.build().unwrap()
}

/// Lets the file of a connection grow no more.
fn fill(connection: &Connection) {
    let pages = number_of(connection, "PRAGMA page_count");
    let max = number_of(connection, &format!("PRAGMA max_page_count = {pages}"));
    assert_eq!(max, pages);
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    connection.execute("CREATE TABLE own (id)", []).unwrap();
    let mut acknowledged = 0;
    let mut refused = 0;
    for number in 0..20_u64 {
        if number == 10 {
            fill(&connection);
        }
        let tx = connection.transaction().unwrap();
        tx.execute("INSERT INTO own VALUES (?1)", [number.cast_signed()])
            .unwrap();
        match outbox.append(&tx, &large(number), Wall::MIN) {
            Ok(_) => {
                outbox.commit(tx).unwrap();
                acknowledged += 1;
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Store(_)), "{error}");
                assert!(error.to_string().contains("`max_page_count`"), "{error}");
                assert_eq!(
                    (error.class(), error.effect()),
                    (Class::Overloaded, Effect::NotDone)
                );
                refused += 1;
            }
        }
    }
    assert_eq!((acknowledged, refused), (10, 10));
    let own = number_of(&folder.connect(), "SELECT count(*) FROM own");
    assert_eq!(own, acknowledged, "change and event, or neither");
    let claimed = run(outbox.claim(&claim(1, 5))).unwrap();
    assert_eq!(claimed.rows.len(), 10);
    // Room again.
    number_of(&connection, "PRAGMA max_page_count = 100000");
    let tx = connection.transaction().unwrap();
    outbox.append(&tx, &large(99), Wall::MIN).unwrap();
    outbox.commit(tx).unwrap();
}

#[test]
fn an_append_that_fails_leaves_nothing_in_the_transaction() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    connection.execute("CREATE TABLE own (id)", []).unwrap();
    // What is counted is counted within the statement: its failure takes the event back.
    let broken =
        "CREATE TRIGGER broken BEFORE UPDATE ON t_outbox BEGIN SELECT RAISE(ABORT, 'no'); END";
    connection.execute(broken, []).unwrap();
    let tx = connection.transaction().unwrap();
    tx.execute("INSERT INTO own VALUES (1)", []).unwrap();
    let error = outbox.append(&tx, &large(1), Wall::MIN).unwrap_err();
    assert_eq!(error.effect(), Effect::NotDone);
    outbox.commit(tx).unwrap();
    assert_eq!(number_of(&connection, "SELECT count(*) FROM own"), 1);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM t_events"), 0);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM t_states"), 0);
}

#[test]
fn a_full_disk_refuses_messages_and_the_effect_with_them() {
    let folder = Folder::new();
    let mut connection = folder.connect();
    connection.execute("CREATE TABLE own (id)", []).unwrap();
    let inbox = Inbox::open(&connection, &folder.config()).unwrap();
    fill(&connection);
    let tx = connection.transaction().unwrap();
    let key = Key::new("s", "a").unwrap();
    let accepted = inbox.accept(&tx, &key, Fingerprint::NONE, Wall::MIN, |tx| {
        tx.execute("INSERT INTO own VALUES (1)", [])
            .map_err(EngineError::of)?;
        Ok::<_, EngineError>(vec![1; 60_000].into())
    });
    let error = accepted.unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Overloaded, Effect::NotDone)
    );
    drop(tx);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM own"), 0);
    assert_eq!(number_of(&connection, "SELECT markers FROM t_inbox"), 0);
}

#[test]
fn a_busy_database_is_transient_and_names_the_setting() {
    let folder = Folder::new();
    let config = folder.config().busy_timeout(Duration::ZERO).unwrap();
    let outbox = dpat_sqlite::Outbox::open(&config, dpat_outbox::Limits::DEFAULT).unwrap();
    let mut other = folder.connect();
    let tx = other.transaction().unwrap();
    outbox.append(&tx, &large(1), Wall::MIN).unwrap();
    outbox.commit(tx).unwrap();
    let held = other
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let error = run(outbox.claim(&claim(1, 5))).unwrap_err();
    assert!(error.to_string().contains("`busy_timeout`"), "{error}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Transient, Effect::NotDone)
    );
    // Looking waits for nobody.
    assert_eq!(outbox.lag_now().unwrap().backlog_rows, 1);
    let mut connection = config.connect().unwrap();
    let tx = connection.transaction().unwrap();
    let error = outbox.append(&tx, &large(2), Wall::MIN).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Transient, Effect::NotDone)
    );
    drop(tx);
    commit(held).unwrap();
    assert_eq!(run(outbox.claim(&claim(1, 5))).unwrap().rows.len(), 1);
}

#[test]
fn a_transaction_that_began_before_another_committed_does_not_append_over_it() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let (mut one, mut two) = (folder.connect(), folder.connect());
    let early = one.transaction().unwrap();
    assert_eq!(number_of(&early, "SELECT count(*) FROM t_events"), 0);
    let late = two.transaction().unwrap();
    outbox.append(&late, &large(1), Wall::MIN).unwrap();
    outbox.commit(late).unwrap();
    let error = outbox.append(&early, &large(2), Wall::MIN).unwrap_err();
    assert_eq!(error.class(), Class::Transient, "begin again: {error}");
}
