//! The laws of an inbox hold on the small database, and its transactions are transactions.

use std::convert::Infallible;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::{End, InboxHarness, Step, Told};
use dpat_idempotency::inbox::{
    AcceptError, Accepted, CommitError, MemoryDb, MemoryTx, OUTCOME_BYTES_MAX, Undo, accept, cancel,
};
use dpat_idempotency::{Fingerprint, Key};
use dpat_testkit::live::{Law, conformance};

use crate::world::{Failed, body, key};

struct Small;

/// Adds to the counter of a key, in the transaction.
fn add(tx: &mut MemoryTx, key: &Key, change: i64) {
    let count = count(tx.get(key.as_bytes()));
    tx.put(key.as_bytes(), &(count + change).to_le_bytes());
}

fn count(row: Option<Vec<u8>>) -> i64 {
    row.map_or(0, |row| i64::from_le_bytes(row.try_into().unwrap()))
}

impl InboxHarness for Small {
    type Db = MemoryDb;

    fn fresh(&self) -> MemoryDb {
        MemoryDb::new()
    }

    fn reopen(&self, db: MemoryDb) -> MemoryDb {
        db
    }

    fn in_tx(
        &self,
        db: &mut MemoryDb,
        now: Wall,
        steps: &[Step],
        end: End,
    ) -> Result<Vec<Told>, String> {
        let mut tx = db.begin();
        let mut told = Vec::new();
        for step in steps {
            told.push(one(&mut tx, now, step)?);
            if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                return Ok(told);
            }
        }
        if end == End::Commit {
            tx.commit().map_err(|error| error.to_string())?;
        }
        Ok(told)
    }

    fn effects(&self, db: &MemoryDb, key: &Key) -> Result<i64, String> {
        Ok(count(db.get(key.as_bytes())))
    }

    fn sweep(&self, db: &MemoryDb, before: Wall, max: usize) -> Result<usize, String> {
        Ok(db.sweep(before, max))
    }
}

fn one(tx: &mut MemoryTx, now: Wall, step: &Step) -> Result<Told, String> {
    match step {
        Step::Accept {
            key,
            fingerprint,
            outcome,
        } => {
            let accepted = accept(tx, key, *fingerprint, now, |tx| {
                add(tx, key, 1);
                outcome.clone().ok_or(Failed(Effect::NotDone))
            });
            Ok(match accepted {
                Ok(Accepted::First(outcome)) => Told::First(outcome),
                Ok(Accepted::Again(outcome)) => Told::Again(outcome),
                Ok(Accepted::Cancelled) => Told::Cancelled,
                Err(AcceptError::Reused) => Told::Reused,
                Err(AcceptError::Effect(_)) => Told::Failed,
                Err(other) => return Err(format!("{other:?}")),
            })
        }
        Step::Cancel { key } => {
            let cancelled = cancel(tx, key, now, |tx, _| {
                add(tx, key, -1);
                Ok::<_, Infallible>(())
            });
            Ok(match cancelled {
                Ok(Undo::Effect(outcome)) => Told::Undone(outcome),
                Ok(Undo::Nothing) => Told::NothingToUndo,
                Ok(Undo::Already) => Told::AlreadyCancelled,
                Err(other) => return Err(format!("{other:?}")),
            })
        }
    }
}

dpat_idempotency::inbox_laws!(Small);

#[test]
fn pitfall_19_1_a_message_that_is_delivered_twice_takes_effect_once() {
    let db = MemoryDb::new();
    for _ in 0..2 {
        let mut tx = db.begin();
        let step = Step::Accept {
            key: key(),
            fingerprint: body(),
            outcome: Some(Bytes::new()),
        };
        one(&mut tx, Wall::MIN, &step).unwrap();
        tx.commit().unwrap();
    }
    assert_eq!(count(db.get(key().as_bytes())), 1);
}

#[test]
fn of_two_transactions_that_accept_one_key_one_commits() {
    let db = MemoryDb::new();
    let (mut left, mut right) = (db.begin(), db.begin());
    let step = Step::Accept {
        key: key(),
        fingerprint: body(),
        outcome: Some(Bytes::new()),
    };
    assert_eq!(
        one(&mut left, Wall::MIN, &step),
        Ok(Told::First(Bytes::new()))
    );
    assert_eq!(
        one(&mut right, Wall::MIN, &step),
        Ok(Told::First(Bytes::new()))
    );
    right.commit().unwrap();
    let error = left.commit().unwrap_err();
    assert_eq!(error, CommitError::Contended);
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Conflict, Effect::NotDone)
    );
    assert_eq!(count(db.get(key().as_bytes())), 1);
}

#[test]
fn the_small_database_is_bounded() {
    let db = MemoryDb::new();
    let mut tx = db.begin();
    for number in 0..MemoryDb::ROWS_MAX {
        tx.put(&number.to_le_bytes(), b"");
    }
    tx.commit().unwrap();
    let mut tx = db.begin();
    tx.put(b"one more", b"");
    let error = tx.commit().unwrap_err();
    assert_eq!(error.to_string(), "rows: the limit of 100000 is reached");
    assert_eq!(error.class(), Class::Overloaded);
}

#[test]
fn rows_are_read_as_the_transaction_sees_them() {
    let db = MemoryDb::new();
    let mut tx = db.begin();
    tx.put(b"a", b"1");
    assert_eq!(tx.get(b"a"), Some(b"1".to_vec()));
    assert_eq!(db.get(b"a"), None);
    tx.commit().unwrap();
    let mut tx = db.begin();
    tx.remove(b"a");
    assert_eq!((tx.get(b"a"), db.get(b"a")), (None, Some(b"1".to_vec())));
    drop(tx);
    assert_eq!(db.get(b"a"), Some(b"1".to_vec()));
    let mut tx = db.begin();
    tx.remove(b"a");
    tx.commit().unwrap();
    assert_eq!(db.get(b"a"), None);
}

#[test]
fn a_long_outcome_is_refused_by_name() {
    let db = MemoryDb::new();
    let mut tx = db.begin();
    let long = || Ok::<_, Failed>(Bytes::from(vec![0; OUTCOME_BYTES_MAX + 1]));
    let error = accept(&mut tx, &key(), Fingerprint::NONE, Wall::MIN, |_| long()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "outcome: 65537 bytes are more than 65536"
    );
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_idempotency::conformance::inbox_laws(), || Small);
    conformance("memory", "inbox", laws).unwrap();
}
