//! The laws of an inbox, in memory and on a file.

use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::{End, InboxHarness, Step, Told};
use dpat_idempotency::inbox::{AcceptError, Accepted, Undo};
use dpat_idempotency::{Fingerprint, Key};
use dpat_redb::redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use dpat_redb::{Config, EngineError, Inbox, commit};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, memory};

const EFFECTS: TableDefinition<'_, &[u8], i64> = TableDefinition::new("effects");

struct Db {
    database: Arc<Database>,
    inbox: Inbox,
    folder: Option<Folder>,
}

impl Db {
    fn new(database: Arc<Database>, folder: Option<Folder>) -> Self {
        Self {
            inbox: Inbox::open(&database, &Config::new("inbox").unwrap()).unwrap(),
            database,
            folder,
        }
    }
}

fn add(tx: &WriteTransaction, key: &Key, by: i64) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let mut effects = tx.open_table(EFFECTS).map_err(|error| text(&error))?;
    let now = effects
        .get(key.as_bytes())
        .map_err(|error| text(&error))?
        .map_or(0, |value| value.value());
    effects
        .insert(key.as_bytes(), now + by)
        .map_err(|error| text(&error))?;
    Ok(())
}

fn step(inbox: &Inbox, tx: &WriteTransaction, now: Wall, step: &Step) -> Result<Told, String> {
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

fn reopen(db: Db) -> Db {
    let Db {
        database,
        inbox,
        folder,
    } = db;
    drop(inbox);
    let database = match &folder {
        None => database,
        Some(folder) => {
            drop(Arc::try_unwrap(database).expect("nobody else has it"));
            folder.open()
        }
    };
    Db::new(database, folder)
}

fn in_tx(db: &Db, now: Wall, steps: &[Step], end: End) -> Result<Vec<Told>, String> {
    let tx = db.database.begin_write().unwrap();
    let mut told = Vec::new();
    for one in steps {
        told.push(step(&db.inbox, &tx, now, one)?);
        if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
            tx.abort().unwrap();
            return Ok(told);
        }
    }
    match end {
        End::Commit => commit(tx).map_err(|error| error.to_string())?,
        End::Rollback => tx.abort().unwrap(),
        End::Crash => drop(tx),
    }
    Ok(told)
}

fn effects(db: &Db, key: &Key) -> i64 {
    let tx = db.database.begin_read().unwrap();
    match tx.open_table(EFFECTS) {
        Ok(effects) => effects
            .get(key.as_bytes())
            .unwrap()
            .map_or(0, |value| value.value()),
        Err(TableError::TableDoesNotExist(_)) => 0,
        Err(error) => panic!("{error}"),
    }
}

macro_rules! harness {
    ($name:ident, $fresh:expr) => {
        struct $name;

        impl InboxHarness for $name {
            type Db = Db;
            fn fresh(&self) -> Db {
                $fresh
            }
            fn reopen(&self, db: Db) -> Db {
                reopen(db)
            }
            fn in_tx(
                &self,
                db: &mut Db,
                now: Wall,
                steps: &[Step],
                end: End,
            ) -> Result<Vec<Told>, String> {
                in_tx(db, now, steps, end)
            }
            fn effects(&self, db: &Db, key: &Key) -> Result<i64, String> {
                Ok(effects(db, key))
            }
            fn sweep(&self, db: &Db, before: Wall, max: usize) -> Result<usize, String> {
                let swept = db.inbox.sweep(&db.database, before, max);
                swept.map_err(|error| error.to_string())
            }
        }
    };
}

harness!(InMemory, Db::new(memory(), None));
harness!(OnFile, {
    let folder = Folder::new();
    Db::new(folder.open(), Some(folder))
});

mod in_memory {
    dpat_idempotency::inbox_laws!(super::InMemory);
}

mod on_file {
    dpat_idempotency::inbox_laws!(super::OnFile);
}

#[test]
fn a_full_inbox_refuses_new_messages_and_knows_the_old_ones() {
    let database = memory();
    let config = Config::new("inbox").unwrap();
    let inbox = Inbox::with_limit(&database, &config, 1).unwrap();
    let accept = |id: &str| {
        let tx = database.begin_write().unwrap();
        let key = Key::new("s", id).unwrap();
        let accepted = inbox.accept(&tx, &key, Fingerprint::NONE, Wall::MIN, |_| {
            Ok::<_, EngineError>(Bytes::new())
        })?;
        commit(tx).map_err(AcceptError::Store)?;
        Ok::<_, AcceptError<EngineError, EngineError>>(accepted)
    };
    assert_eq!(accept("a").unwrap(), Accepted::First(Bytes::new()));
    let error = accept("b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "transaction: markers: the limit of 1 is reached"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Overloaded, Effect::NotDone)
    );
    assert_eq!(accept("a").unwrap(), Accepted::Again(Bytes::new()));
    assert_eq!(inbox.sweep(&database, Wall::MAX, 9).unwrap(), 1);
    assert_eq!(accept("b").unwrap(), Accepted::First(Bytes::new()));
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_idempotency::conformance::inbox_laws(), || OnFile);
    conformance("redb", "inbox", laws).unwrap();
}
