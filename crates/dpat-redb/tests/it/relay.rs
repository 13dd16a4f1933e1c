//! A relay on redb, to the end.

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
use dpat_redb::redb::{Database, TableDefinition};
use dpat_redb::{Config, Outbox, Threads};

use crate::kit::{event, memory, number, outbox_on};

fn append(database: &Database, outbox: &Outbox, time: &ManualTime, events: &[Event]) {
    let tx = database.begin_write().unwrap();
    for event in events {
        outbox.append(&tx, event, time.wall()).unwrap();
    }
    outbox.commit(tx).unwrap();
}

/// Writes to the same database while it is asked to publish, which waits for ever if a transaction is open.
struct Writes {
    database: Arc<Database>,
    writes: AtomicU64,
}

#[async_trait::async_trait]
impl Sink for Writes {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        const OWN: TableDefinition<'_, u64, ()> = TableDefinition::new("own");
        tokio::task::yield_now().await;
        let tx = self.database.begin_write().unwrap();
        tx.open_table(OWN)
            .unwrap()
            .insert(delivery.position.0, ())
            .unwrap();
        tx.commit().unwrap();
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn no_transaction_is_open_while_the_broker_is_waited_for() {
    let database = memory();
    let outbox = outbox_on(&database, Limits::DEFAULT);
    let time = ManualTime::new();
    let events: Vec<Event> = (0..20).map(|number| event(number, "")).collect();
    append(&database, &outbox, &time, &events);
    let sink = Arc::new(Writes {
        database,
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
    let database = memory();
    let config = Config::new("outbox")
        .unwrap()
        .threads(Threads::TokioBlocking);
    let outbox = Outbox::open(Arc::clone(&database), config, Limits::DEFAULT).unwrap();
    let time = ManualTime::new();
    let sink = Arc::new(Notes::default());
    let relay = |seed| {
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
    let (one, two) = (relay(1), relay(2));
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
        let (database, outbox, time) = (Arc::clone(&database), outbox.clone(), time.clone());
        tokio::task::spawn_blocking(move || append(&database, &outbox, &time, &events))
            .await
            .unwrap();
    }
    while one.stats().sent + two.stats().sent < 200 {
        time.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
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
