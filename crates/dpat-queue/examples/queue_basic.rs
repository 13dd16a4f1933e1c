//! A queue of orders: a worker that retries, a dead letter that is repaired by hand, a restart that loses nothing.

#![allow(clippy::print_stdout, reason = "it is an example")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Backoff, ManualTime, SystemEntropy};
use dpat_queue::{
    Capability, Delivery, Failure, Message, Queue, Requirements, Survives, WalQueue, Worker,
};
use dpat_storage::MemStorage;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn open(storage: &MemStorage, time: &ManualTime) -> Outcome<WalQueue<MemStorage>> {
    let log = dpat_wal::Config::default();
    let settings = Queue::builder().dedup_window(Duration::from_secs(600));
    let (wal, recovered) = WalQueue::open(storage.clone(), log, settings, time.clone())?;
    println!(
        "opened: {} messages, {} dead letters",
        recovered.messages, recovered.dead
    );
    Ok(wal)
}

/// Charges orders; the gateway refuses some until it is repaired.
async fn charge(delivery: Delivery, repaired: Arc<AtomicBool>) -> Result<(), Failure> {
    let order = String::from_utf8_lossy(delivery.payload()).into_owned();
    println!("{order}, attempt {}", delivery.attempt);
    match order.as_str() {
        "order 2" if !repaired.load(Ordering::Relaxed) => Err(Failure::retry("gateway is down")),
        "order 3" => Err(Failure::reject("no such customer")),
        _ => Ok(()),
    }
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(run())
}

async fn run() -> Outcome<()> {
    // Virtual time, so that the example does not wait; a program takes `TokioTime` and `FsStorage`.
    let (time, storage) = (ManualTime::new(), MemStorage::new());
    let wal = open(&storage, &time)?;
    let queue = wal.queue();
    let needs = Requirements::new()
        .needs(Capability::OrderedKeys)
        .survives(Survives::PowerLoss);
    queue.require(&needs)?;

    for order in ["order 1", "order 2", "order 3"] {
        let message = || Message::new(order).key(order).dedup(order);
        let sent = queue.send(message()).await?;
        let again = queue.send(message()).await?;
        assert!(again.is_duplicate() && again.id == sent.id);
    }

    let repaired = Arc::new(AtomicBool::new(false));
    let gateway = Arc::clone(&repaired);
    let worker = Worker::builder(queue.clone())
        .concurrency(2)
        .attempts_max(3)
        .backoff(Backoff::constant(Duration::from_secs(1)))
        .build(time.clone(), SystemEntropy, move |delivery| {
            charge(delivery, Arc::clone(&gateway))
        })?;
    let settled = async {
        while worker.stats().done + worker.stats().rejected < 3 {
            tokio::task::yield_now().await;
            time.advance_to_next_wake();
        }
    };
    worker.run_until(settled).await?;
    for letter in queue.dead_letters(None, 10).await? {
        println!("dead letter {}: {}", letter.id, letter.reason);
    }

    // The process dies. What was not settled is there in the next one, dead letters too.
    drop(worker);
    drop(wal);
    let wal = open(&storage, &time)?;
    let queue = wal.queue();
    for letter in queue.dead_letters(None, 10).await? {
        if letter.reason.contains("gateway") {
            queue.replay(letter.id).await?;
        } else {
            queue.discard(letter.id).await?;
        }
    }
    let delivery = queue.receive().await?;
    println!(
        "replayed: {}, attempt {}",
        String::from_utf8_lossy(delivery.payload()),
        delivery.attempt
    );
    queue
        .settle(delivery.receipt, dpat_queue::Outcome::Done)
        .await?;
    wal.close()?;
    Ok(())
}
