//! Futures that are dropped wherever they wait.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use super::*;

/// Holds the thread of a connection within a statement, so that its future waits for each of them.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Puts the gate into every statement of a connection.
    async fn hold(&self, tx: &mut sqlx::Transaction<'_, Sqlite>) {
        let shut = Arc::clone(&self.0);
        let mut connection = tx.lock_handle().await.unwrap();
        connection.set_progress_handler(1, move || {
            while shut.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            true
        });
    }

    /// Polls a future so often, each time when it is woken; none: it is dropped before its end.
    async fn polled<T>(&self, times: usize, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut left = times;
        std::future::poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            self.0.store(true, Ordering::Release);
            let polled = future.as_mut().poll(cx);
            self.0.store(false, Ordering::Release);
            polled.map(Some)
        })
        .await
    }
}

#[test]
fn a_future_of_sqlx_that_is_dropped_leaves_nothing_after_the_rollback() {
    const POLLS_MAX: usize = 1_000;
    let folder = Folder::new();
    let config = folder.config();
    let outbox = folder.outbox();
    let inbox = Inbox::open(&folder.connect(), &config).unwrap();
    let store = QueueStore::open(&config, QueueSettings::DEFAULT, ManualTime::new()).unwrap();
    own(&folder);
    let key = Key::new("s", "a").unwrap();
    block(async {
        let gate = Gate::default();
        let pool = pool(&config).await;
        let mut dropped = 0;
        loop {
            assert!(dropped < POLLS_MAX, "it ends");
            let mut tx = begin(&pool).await;
            gate.hold(&mut tx).await;
            let work = async {
                let effect =
                    inbox.accept_sqlx(&mut tx, &key, Fingerprint::NONE, Wall::MIN, async |tx| {
                        change(tx).await;
                        outbox
                            .append_sqlx(tx, &event(1, "k"), Wall::MIN)
                            .await
                            .unwrap();
                        let message = Message::new("m").dedup("d").header("n", "v");
                        store.send_sqlx(tx, &message).await.map(|_| Bytes::new())
                    });
                effect.await.unwrap()
            };
            let done = gate.polled(dropped, work).await;
            drop(tx);
            // The next one on the connection is behind the rollback.
            begin(&pool).await.rollback().await.unwrap();
            let connection = folder.connect();
            for table in [
                "own",
                "t_events",
                "t_states",
                "t_markers",
                "t_messages",
                "t_dedups",
            ] {
                let count = format!("SELECT count(*) FROM {table}");
                assert_eq!(
                    number_of(&connection, &count),
                    0,
                    "{table} after {dropped} polls"
                );
            }
            if done.is_some() {
                break;
            }
            dropped += 1;
        }
        // The change, the event, the message, the marker: each waits once at the least.
        assert!(dropped >= 4, "it waited for each of its statements");
    });
}
