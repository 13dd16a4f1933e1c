//! Appends, accepts and sends in transactions of sqlx.

mod cancelled;
mod errors;
mod laws;

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, ManualTime, Wall};
use dpat_idempotency::inbox::{Accepted, Undo};
use dpat_idempotency::{Fingerprint, Key};
use dpat_outbox::Appended;
use dpat_queue::{Message, SendError};
use dpat_sqlite::sqlx::sqlite::SqlitePoolOptions;
use dpat_sqlite::sqlx::{self, Sqlite, SqlitePool};
use dpat_sqlite::{Config, Inbox, QueueSettings, QueueStore, commit_sqlx};

use crate::kit::{Folder, event, number_of};

/// Runs a future on a runtime of its own.
fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A pool of one connection: what a transaction leaves there, the next one finds.
async fn pool(config: &Config) -> SqlitePool {
    let options = SqlitePoolOptions::new().max_connections(1);
    options.connect_with(config.sqlx_options()).await.unwrap()
}

async fn begin(pool: &SqlitePool) -> sqlx::Transaction<'static, Sqlite> {
    pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
}

async fn change(tx: &mut sqlx::Transaction<'_, Sqlite>) {
    let change = sqlx::query("INSERT INTO own VALUES (1)");
    change.execute(&mut **tx).await.unwrap();
}

/// A table of the caller's own.
fn own(folder: &Folder) {
    let own = "CREATE TABLE own (id INTEGER)";
    folder.connect().execute(own, []).unwrap();
}

#[test]
fn a_message_is_sent_in_sqlx_with_the_change_or_not_at_all() {
    let folder = Folder::new();
    own(&folder);
    let settings = QueueSettings {
        messages_max: 2,
        dedup_max: 1,
        ..QueueSettings::DEFAULT
    };
    let time = ManualTime::new();
    let store = QueueStore::open(&folder.config(), settings, time.clone()).unwrap();
    let message = Message::new("m").key("k").dedup("d").header("n", "v");
    block(async {
        let queue = store.queue();
        let pool = pool(&folder.config()).await;
        for commits in [false, true] {
            let mut tx = begin(&pool).await;
            change(&mut tx).await;
            let sent = store.send_sqlx(&mut tx, &message).await.unwrap();
            assert!(
                !sent.is_duplicate(),
                "what was rolled back is not remembered"
            );
            let again = store.send_sqlx(&mut tx, &message).await.unwrap();
            assert_eq!((again.id, again.is_duplicate()), (sent.id, true));
            match commits {
                true => store.commit_sqlx(tx).await.unwrap(),
                false => tx.rollback().await.unwrap(),
            }
            let received = queue.receive_batch(9, Duration::ZERO).await.unwrap();
            assert_eq!(received.len(), usize::from(commits));
            for delivery in received {
                assert_eq!(delivery.payload(), "m");
                assert_eq!(delivery.headers(), message.headers());
            }
        }
        assert_eq!(number_of(&folder.connect(), "SELECT count(*) FROM own"), 1);

        let mut tx = begin(&pool).await;
        let other = Message::new("").dedup("other");
        let full = store.send_sqlx(&mut tx, &other).await.unwrap_err();
        assert!(
            matches!(
                full,
                SendError::Full {
                    field: "dedup_max",
                    limit: 1
                }
            ),
            "{full}"
        );
        let short = Message::new("short").ttl(Duration::from_secs(1));
        store.send_sqlx(&mut tx, &short).await.unwrap();
        let full = store.send_sqlx(&mut tx, &short).await.unwrap_err();
        assert!(
            matches!(
                full,
                SendError::Full {
                    field: "messages_max",
                    limit: 2
                }
            ),
            "{full}"
        );
        time.advance(Duration::from_secs(2));
        store.send_sqlx(&mut tx, &short).await.unwrap(); // what has ended makes room
        let wrong = store.send_sqlx(&mut tx, &Message::new("").key("")).await;
        assert!(matches!(wrong, Err(SendError::Invalid(_))), "{wrong:?}");
        assert_eq!(
            (full.class(), full.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
    });
}

#[test]
fn the_work_in_sqlx_may_move_between_threads() {
    let folder = Folder::new();
    own(&folder);
    let outbox = folder.outbox();
    let inbox = Inbox::open(&folder.connect(), &folder.config()).unwrap();
    let config = folder.config();
    block(async {
        let work = async move {
            let pool = pool(&config).await;
            let key = Key::new("s", "a").unwrap();
            let mut tx = begin(&pool).await;
            let appended = outbox.append_sqlx(&mut tx, &event(1, ""), Wall::MIN).await;
            assert!(matches!(appended, Ok(Appended::New(_))), "{appended:?}");
            let effect =
                inbox.accept_sqlx(&mut tx, &key, Fingerprint::NONE, Wall::MIN, async |tx| {
                    change(tx).await;
                    Ok::<_, sqlx::Error>(Bytes::new())
                });
            assert_eq!(effect.await.unwrap(), Accepted::First(Bytes::new()));
            let undo = inbox.cancel_sqlx(&mut tx, &key, Wall::MIN, async |tx, _| {
                let undo = sqlx::query("DELETE FROM own");
                undo.execute(&mut **tx).await.map(drop)
            });
            assert_eq!(undo.await.unwrap(), Undo::Effect(Bytes::new()));
            outbox.commit_sqlx(tx).await.unwrap();
            outbox.lag_now().unwrap().backlog_rows
        };
        assert_eq!(tokio::spawn(work).await.unwrap(), 1);
    });
    assert_eq!(number_of(&folder.connect(), "SELECT count(*) FROM own"), 0);
}

#[test]
fn connections_of_sqlx_have_the_settings_of_ours() {
    let folder = Folder::new();
    let ours = folder.connect();
    block(async {
        let pool = pool(&folder.config()).await;
        for pragma in ["synchronous", "foreign_keys", "busy_timeout"] {
            let pragma = format!("PRAGMA {pragma}");
            let its: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(pragma.clone()))
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(its, number_of(&ours, &pragma), "{pragma}");
        }
        let mode = sqlx::query_scalar("PRAGMA journal_mode");
        let mode: String = mode.fetch_one(&pool).await.unwrap();
        assert_eq!(mode, "wal");
    });
}
