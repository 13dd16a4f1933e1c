//! The queues that need no server.

use std::sync::Arc;
use std::thread;

use async_nats::jetstream::stream::Stream;
use dpat_core::TokioTime;
use dpat_queue::{Message, Outcome, Queue, WalQueue};
use dpat_storage::FsStorage;
use dpat_wal::Durability;
use tempfile::TempDir;

use super::payload;
use crate::harness::Contender;

/// A queue, and what must live as long.
pub(super) struct Kept {
    pub(super) queue: Queue,
    _folder: Option<TempDir>,
    _wal: Option<WalQueue<FsStorage>>,
    stream: Option<Stream>,
}

impl Kept {
    /// Of a server, which keeps everything itself.
    pub(super) fn of(queue: Queue) -> Self {
        Self {
            queue,
            _folder: None,
            _wal: None,
            stream: None,
        }
    }

    /// Of a server whose queues cannot be emptied by the port: by its stream.
    pub(super) fn in_stream(queue: Queue, stream: Stream) -> Self {
        Self {
            stream: Some(stream),
            ..Self::of(queue)
        }
    }

    async fn empty(&self) {
        match &self.stream {
            Some(stream) => drop(stream.purge().await.expect("purged")),
            None => drop(self.queue.purge().await.expect("purged")),
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory on disk")
}

/// On a log of its own, synced, with a thread that commits for everybody.
fn on_log() -> Kept {
    let folder = folder();
    let log = dpat_wal::Config::builder().durability(Durability::PowerLoss);
    let log = log.build().expect("a valid configuration");
    let storage = FsStorage::open(folder.path()).expect("a directory");
    let queue = Queue::builder().messages_max(1_000_000);
    let (wal, _) = WalQueue::open(storage, log, queue, TokioTime).expect("a queue");
    if let Some(keeper) = wal.committer() {
        thread::spawn(move || keeper.run_blocking());
    }
    Kept {
        queue: wal.queue().clone(),
        _folder: Some(folder),
        _wal: Some(wal),
        stream: None,
    }
}

/// In a SQLite database, synced.
fn on_sqlite() -> Kept {
    use dpat_sqlite::{Config, QueueSettings, QueueStore, Threads};
    let folder = folder();
    let config = Config::new(folder.path().join("queue.db"), "bench").expect("a name");
    let config = config.threads(Threads::TokioBlocking);
    let settings = QueueSettings {
        messages_max: 1_000_000,
        ..QueueSettings::DEFAULT
    };
    let store = QueueStore::open(&config, settings, TokioTime).expect("a queue");
    Kept {
        queue: store.queue(),
        _folder: Some(folder),
        _wal: None,
        stream: None,
    }
}

/// The embedded queues, that send.
pub(super) fn senders(in_flight: usize) -> Vec<Contender> {
    vec![
        sender("dpat-queue", on_log(), in_flight),
        sender("dpat-sqlite", on_sqlite(), in_flight),
    ]
}

/// The embedded queues, in full cycles.
pub(super) fn cyclers(in_flight: usize) -> Vec<Contender> {
    vec![
        cycler("dpat-queue", on_log(), in_flight),
        cycler("dpat-sqlite", on_sqlite(), in_flight),
    ]
}

/// One of our queues, that sends; emptied after each round.
pub(super) fn sender(name: &str, kept: Kept, in_flight: usize) -> Contender {
    let kept = Arc::new(kept);
    let purged = Arc::clone(&kept);
    Contender::tasks(
        name,
        in_flight,
        move || {
            let kept = Arc::clone(&kept);
            async move {
                kept.queue
                    .send(Message::new(payload()))
                    .await
                    .expect("sent");
            }
        },
        move || {
            let kept = Arc::clone(&purged);
            async move { kept.empty().await }
        },
    )
}

/// One of our queues, in full cycles.
pub(super) fn cycler(name: &str, kept: Kept, in_flight: usize) -> Contender {
    let kept = Arc::new(kept);
    Contender::tasks(
        name,
        in_flight,
        move || {
            let kept = Arc::clone(&kept);
            async move {
                let queue = &kept.queue;
                queue.send(Message::new(payload())).await.expect("sent");
                let delivery = queue.receive().await.expect("received");
                let settled = queue.settle(delivery.receipt, Outcome::Done).await;
                settled.expect("settled");
            }
        },
        crate::harness::nothing,
    )
}
