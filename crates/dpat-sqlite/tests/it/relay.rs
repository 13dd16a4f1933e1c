//! A relay on SQLite, to the end.

#![allow(
    clippy::disallowed_types,
    reason = "a lock of std around notes, in a test"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dpat_core::{Clock, ManualTime, SplitMix64};
use dpat_outbox::{Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink, Store};
use dpat_sqlite::{Outbox, Threads};

use crate::kit::{Folder, append, event, number};

/// Writes to the same database while it is asked to publish, which is refused at once if a transaction is open.
struct Writes {
    folder: Folder,
    writes: AtomicU64,
}

#[async_trait::async_trait]
impl Sink for Writes {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        tokio::task::yield_now().await;
        let config = self.folder.config().busy_timeout(Duration::ZERO).unwrap();
        let connection = config.connect().unwrap();
        let position = i64::try_from(delivery.position.0).unwrap();
        connection
            .execute("INSERT INTO own VALUES (?1)", [position])
            .unwrap();
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn no_transaction_is_open_while_the_broker_is_waited_for() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    connection.execute("CREATE TABLE own (id)", []).unwrap();
    let time = ManualTime::new();
    let events: Vec<Event> = (0..20).map(|number| event(number, "")).collect();
    append(&mut connection, &outbox, time.wall(), &events);
    let sink = Arc::new(Writes {
        folder,
        writes: AtomicU64::new(0),
    });
    let relay = Relay::new(
        RelayConfig::default(),
        Arc::new(outbox.clone()),
        Arc::clone(&sink) as Arc<dyn Sink>,
        time,
        SplitMix64::new(1),
    );
    let done = async {
        while relay.stats().sent < 20 {
            tokio::task::yield_now().await;
        }
    };
    relay.run_until(done).await.unwrap();
    assert_eq!(sink.writes.load(Ordering::Relaxed), 20);
    assert_eq!(outbox.lag_now().unwrap().backlog_rows, 0);
}

/// Notes what comes, in order.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<u64>>,
}

#[async_trait::async_trait]
impl Sink for Notes {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        tokio::task::yield_now().await;
        self.seen.lock().unwrap().push(number(delivery.event));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_share_the_work_and_send_nothing_twice() {
    let folder = Folder::new();
    let config = folder.config().threads(Threads::TokioBlocking);
    // Two processes have two connections.
    let open = || Outbox::open(&config, Limits::DEFAULT).unwrap();
    let (outbox, other) = (open(), open());
    let time = ManualTime::new();
    let sink = Arc::new(Notes::default());
    let relay = |seed, outbox: &Outbox| {
        let config = RelayConfig::builder()
            .in_flight_max(4)
            .held_rows_max(8)
            .lane_rows_max(4)
            // The clock below runs ahead of the threads, by far.
            .lease(Duration::from_secs(24 * 60 * 60))
            .build()
            .unwrap();
        Relay::new(
            config,
            Arc::new(outbox.clone()),
            Arc::clone(&sink) as Arc<dyn Sink>,
            time.clone(),
            SplitMix64::new(seed),
        )
    };
    let (one, two) = (relay(1, &outbox), relay(2, &other));
    let stop = Arc::new(AtomicBool::new(false));
    let running: Vec<_> = [one.clone(), two.clone()]
        .into_iter()
        .map(|relay| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let stopped = async {
                    while !stop.load(Ordering::Acquire) {
                        tokio::task::yield_now().await;
                    }
                };
                relay.run_until(stopped).await.unwrap();
            })
        })
        .collect();
    // Appended while they run.
    for chunk in 0..20 {
        let key = match chunk % 3 {
            0 => "a",
            1 => "b",
            _ => "",
        };
        let events: Vec<Event> = (0..10)
            .map(|number| event(chunk * 10 + number, key))
            .collect();
        let (folder, outbox, now) = (folder.clone(), outbox.clone(), time.wall());
        tokio::task::spawn_blocking(move || append(&mut folder.connect(), &outbox, now, &events))
            .await
            .unwrap();
    }
    while one.stats().sent + two.stats().sent < 200 {
        time.advance(Duration::from_millis(10));
        // By way of another thread: else the clock is days ahead before these two are done.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
    stop.store(true, Ordering::Release);
    for relay in running {
        relay.await.unwrap();
    }
    let seen = sink.seen.lock().unwrap().clone();
    let once: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!((seen.len(), once.len()), (200, 200));
    for residue in [0, 1] {
        let of_key = seen.iter().filter(|number| (**number / 10) % 3 == residue);
        assert!(of_key.is_sorted(), "order of a key: {seen:?}");
    }
    assert_eq!(outbox.lag().await.unwrap().sent, 200);
}
