//! The laws of outbox and inbox, with transactions of sqlx.

use dpat_core::Wall;
use dpat_idempotency::Key;
use dpat_idempotency::conformance::{End as InboxEnd, InboxHarness, Step, Told};
use dpat_idempotency::inbox::{AcceptError, Accepted, Undo};
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{AppendError, Appended, Event, Limits};
use dpat_sqlite::rusqlite::OptionalExtension;
use dpat_sqlite::sqlx::{self, Sqlite};
use dpat_sqlite::{Inbox, Threads, commit_sqlx};

use super::{begin, block, pool};
use crate::kit::Folder;
use crate::outboxes::OnSqlite;

struct OnSqlx;

impl Harness for OnSqlx {
    type Outbox = OnSqlite;

    fn fresh(&self, limits: Limits) -> OnSqlite {
        OnSqlite::new(Folder::new(), limits, Threads::Caller)
    }

    fn reopen(&self, outbox: OnSqlite) -> OnSqlite {
        let OnSqlite { folder, limits, .. } = outbox;
        OnSqlite::new(folder, limits, Threads::Caller)
    }

    fn in_tx(
        &self,
        on: &OnSqlite,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        block(async {
            let pool = pool(&on.folder.config()).await;
            let mut tx = begin(&pool).await;
            let mut appended = Vec::new();
            for event in events {
                appended.push(on.outbox.append_sqlx(&mut tx, event, now).await?);
            }
            match end {
                End::Commit => on.outbox.commit_sqlx(tx).await.unwrap(),
                End::Rollback => tx.rollback().await.unwrap(),
                End::Crash => drop(tx),
            }
            pool.close().await;
            Ok(appended)
        })
    }
}

dpat_outbox::outbox_laws!(OnSqlx);

struct Db {
    inbox: Inbox,
    folder: Folder,
}

fn open(folder: Folder) -> Db {
    let connection = folder.connect();
    let own = "CREATE TABLE IF NOT EXISTS effects (key BLOB PRIMARY KEY, count INTEGER)";
    connection.execute(own, []).unwrap();
    Db {
        inbox: Inbox::open(&connection, &folder.config()).unwrap(),
        folder,
    }
}

async fn add(tx: &mut sqlx::Transaction<'_, Sqlite>, key: &Key, by: i64) -> sqlx::Result<()> {
    let add = "INSERT INTO effects VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2";
    let add = sqlx::query(add).bind(key.as_bytes().to_vec()).bind(by);
    add.execute(&mut **tx).await.map(drop)
}

async fn step(
    inbox: &Inbox,
    tx: &mut sqlx::Transaction<'_, Sqlite>,
    now: Wall,
    step: &Step,
) -> Result<Told, String> {
    match step {
        Step::Accept {
            key,
            fingerprint,
            outcome,
        } => {
            let accepted = inbox.accept_sqlx(tx, key, *fingerprint, now, async |tx| {
                add(tx, key, 1).await.unwrap();
                outcome.clone().ok_or("fails")
            });
            match accepted.await {
                Ok(Accepted::First(outcome)) => Ok(Told::First(outcome)),
                Ok(Accepted::Again(outcome)) => Ok(Told::Again(outcome)),
                Ok(Accepted::Cancelled) => Ok(Told::Cancelled),
                Err(AcceptError::Reused) => Ok(Told::Reused),
                Err(AcceptError::Effect(_)) => Ok(Told::Failed),
                Err(error) => Err(error.to_string()),
            }
        }
        Step::Cancel { key } => {
            let undone = inbox.cancel_sqlx(tx, key, now, async |tx, _| add(tx, key, -1).await);
            match undone.await.map_err(|error| error.to_string())? {
                Undo::Effect(outcome) => Ok(Told::Undone(outcome)),
                Undo::Nothing => Ok(Told::NothingToUndo),
                Undo::Already => Ok(Told::AlreadyCancelled),
            }
        }
    }
}

impl InboxHarness for OnSqlx {
    type Db = Db;

    fn fresh(&self) -> Db {
        open(Folder::new())
    }

    fn reopen(&self, db: Db) -> Db {
        open(db.folder)
    }

    fn in_tx(
        &self,
        db: &mut Db,
        now: Wall,
        steps: &[Step],
        end: InboxEnd,
    ) -> Result<Vec<Told>, String> {
        block(async {
            let pool = pool(&db.folder.config()).await;
            let mut tx = begin(&pool).await;
            let mut told = Vec::new();
            for one in steps {
                told.push(step(&db.inbox, &mut tx, now, one).await?);
                if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                    tx.rollback().await.unwrap();
                    return Ok(told);
                }
            }
            match end {
                InboxEnd::Commit => commit_sqlx(tx).await.map_err(|error| error.to_string())?,
                InboxEnd::Rollback => tx.rollback().await.unwrap(),
                InboxEnd::Crash => drop(tx),
            }
            pool.close().await;
            Ok(told)
        })
    }

    fn effects(&self, db: &Db, key: &Key) -> Result<i64, String> {
        let sql = "SELECT count FROM effects WHERE key = ?1";
        let connection = db.folder.connect();
        let count = connection.query_row(sql, [key.as_bytes()], |row| row.get(0));
        let count = count.optional().map_err(|error| error.to_string())?;
        Ok(count.unwrap_or(0))
    }

    fn sweep(&self, db: &Db, before: Wall, max: usize) -> Result<usize, String> {
        let swept = db.inbox.sweep(&mut db.folder.connect(), before, max);
        swept.map_err(|error| error.to_string())
    }
}

mod inbox {
    dpat_idempotency::inbox_laws!(super::OnSqlx);
}
