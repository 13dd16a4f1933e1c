//! The laws of an inbox.

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::{End, InboxHarness, Step, Told};
use dpat_idempotency::inbox::{AcceptError, Accepted, Undo};
use dpat_idempotency::{Fingerprint, Key};
use dpat_sqlite::rusqlite::{self, Connection, OptionalExtension, Transaction, params};
use dpat_sqlite::{EngineError, Inbox, commit};
use dpat_testkit::live::{Law, conformance};

use crate::kit::Folder;

struct Db {
    connection: Connection,
    inbox: Inbox,
    folder: Folder,
}

fn open(folder: Folder) -> Db {
    let connection = folder.connect();
    let own = "CREATE TABLE IF NOT EXISTS effects (key BLOB PRIMARY KEY, count INTEGER)";
    connection.execute(own, []).unwrap();
    Db {
        inbox: Inbox::open(&connection, &folder.config()).unwrap(),
        connection,
        folder,
    }
}

fn add(tx: &Transaction<'_>, key: &Key, by: i64) -> rusqlite::Result<()> {
    let add = "INSERT INTO effects VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2";
    tx.execute(add, params![key.as_bytes(), by]).map(drop)
}

fn step(inbox: &Inbox, tx: &Transaction<'_>, now: Wall, step: &Step) -> Result<Told, String> {
    match step {
        Step::Accept {
            key,
            fingerprint,
            outcome,
        } => {
            let accepted = inbox.accept(tx, key, *fingerprint, now, |tx| {
                add(tx, key, 1).unwrap();
                outcome.clone().ok_or("fails")
            });
            match accepted {
                Ok(Accepted::First(outcome)) => Ok(Told::First(outcome)),
                Ok(Accepted::Again(outcome)) => Ok(Told::Again(outcome)),
                Ok(Accepted::Cancelled) => Ok(Told::Cancelled),
                Err(AcceptError::Reused) => Ok(Told::Reused),
                Err(AcceptError::Effect(_)) => Ok(Told::Failed),
                Err(error) => Err(error.to_string()),
            }
        }
        Step::Cancel { key } => {
            let undone = inbox.cancel(tx, key, now, |tx, _| add(tx, key, -1));
            match undone.map_err(|error| error.to_string())? {
                Undo::Effect(outcome) => Ok(Told::Undone(outcome)),
                Undo::Nothing => Ok(Told::NothingToUndo),
                Undo::Already => Ok(Told::AlreadyCancelled),
            }
        }
    }
}

struct OnFile;

impl InboxHarness for OnFile {
    type Db = Db;

    fn fresh(&self) -> Db {
        open(Folder::new())
    }

    fn reopen(&self, db: Db) -> Db {
        drop(db.connection);
        open(db.folder)
    }

    fn in_tx(&self, db: &mut Db, now: Wall, steps: &[Step], end: End) -> Result<Vec<Told>, String> {
        let tx = db.connection.transaction().unwrap();
        let mut told = Vec::new();
        for one in steps {
            told.push(step(&db.inbox, &tx, now, one)?);
            if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                tx.rollback().unwrap();
                return Ok(told);
            }
        }
        match end {
            End::Commit => commit(tx).map_err(|error| error.to_string())?,
            End::Rollback => tx.rollback().unwrap(),
            // A crash as the file sees it: nobody writes a commit. Killed processes are in `process.rs`.
            End::Crash => drop(tx),
        }
        Ok(told)
    }

    fn effects(&self, db: &Db, key: &Key) -> Result<i64, String> {
        let sql = "SELECT count FROM effects WHERE key = ?1";
        let count = db
            .connection
            .query_row(sql, [key.as_bytes()], |row| row.get(0))
            .optional();
        Ok(count.map_err(|error| error.to_string())?.unwrap_or(0))
    }

    fn sweep(&self, db: &Db, before: Wall, max: usize) -> Result<usize, String> {
        let swept = db.inbox.sweep(&mut db.folder.connect(), before, max);
        swept.map_err(|error| error.to_string())
    }
}

dpat_idempotency::inbox_laws!(OnFile);

#[test]
fn a_full_inbox_refuses_new_messages_and_knows_the_old_ones() {
    let folder = Folder::new();
    let mut connection = folder.connect();
    let inbox = Inbox::with_limit(&connection, &folder.config(), 1).unwrap();
    let accept = |connection: &mut Connection, id: &str| {
        let tx = connection.transaction().unwrap();
        let key = Key::new("s", id).unwrap();
        let accepted = inbox.accept(&tx, &key, Fingerprint::NONE, Wall::MIN, |_| {
            Ok::<_, EngineError>(Bytes::new())
        })?;
        commit(tx).map_err(AcceptError::Store)?;
        Ok::<_, AcceptError<EngineError, EngineError>>(accepted)
    };
    let first = Accepted::First(Bytes::new());
    assert_eq!(accept(&mut connection, "a").unwrap(), first);
    let error = accept(&mut connection, "b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "transaction: markers: the limit of 1 is reached"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Overloaded, Effect::NotDone)
    );
    let again = Accepted::Again(Bytes::new());
    assert_eq!(accept(&mut connection, "a").unwrap(), again);
    let tx = connection.transaction().unwrap();
    let key = Key::new("s", "a").unwrap();
    let undo = inbox.cancel(&tx, &key, Wall::MIN, |_, _| Ok::<_, EngineError>(()));
    assert_eq!(undo.unwrap(), Undo::Effect(Bytes::new()), "in its place");
    drop(tx);
    assert_eq!(inbox.sweep(&mut connection, Wall::MAX, 9).unwrap(), 1);
    assert_eq!(accept(&mut connection, "b").unwrap(), first);
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_idempotency::conformance::inbox_laws(), || OnFile);
    conformance("sqlite", "inbox", laws).unwrap();
}
