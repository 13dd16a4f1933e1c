//! An order and its event are committed together; the answer of the queue is lost, the queue is down, an event is refused.
//!
//! Runs in virtual time: `cargo run -p dpat-outbox --example outbox_basic`

#![allow(clippy::print_stdout)] // an example speaks to people

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dpat_core::{Class, Clock, ManualTime, SystemEntropy, Uuid7Generator};
use dpat_outbox::{
    Delivery, Event, MemoryOutbox, PublishError, Relay, RelayConfig, RelayStats, Repair, Sink,
    Store,
};

static IDS: Uuid7Generator = Uuid7Generator::new();

/// Loses its first answer, is down for three calls, and knows one topic.
#[derive(Default)]
struct Queue {
    calls: AtomicU32,
}

#[async_trait::async_trait]
impl Sink for Queue {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        let Delivery { event, attempt, .. } = delivery;
        let what = String::from_utf8_lossy(event.payload());
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => {
                println!("attempt {attempt}: {what} (the answer is lost)");
                Err(PublishError::new(Class::Timeout, "no answer"))
            }
            1..=3 => {
                println!("attempt {attempt}: the queue is down");
                Err(PublishError::new(Class::Unavailable, "down"))
            }
            _ if event.topic() != "orders" => {
                println!("attempt {attempt}: refused");
                Err(PublishError::new(Class::InvalidInput, "no such topic"))
            }
            _ => {
                println!("attempt {attempt}: {what}");
                Ok(())
            }
        }
    }
}

fn event(time: &ManualTime, topic: &str, what: &str) -> Result<Event, Box<dyn std::error::Error>> {
    let id = IDS.next(time.wall(), &SystemEntropy)?;
    let event = Event::builder(id, topic).key("order-7");
    Ok(event.payload(what.to_owned()).build()?)
}

/// Relays until the relay has done so much; the time passes as fast as it can.
async fn relay_until(
    relay: &Relay<ManualTime>,
    time: &ManualTime,
    done: impl Fn(RelayStats) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let enough = async {
        while !done(relay.stats()) {
            time.advance(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    };
    Ok(relay.run_until(enough).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (time, outbox) = (ManualTime::new(), MemoryOutbox::new());

    // Rolled back: neither the order nor the event.
    let mut tx = outbox.begin();
    tx.put(b"order-6", b"completed");
    tx.append(
        &event(&time, "orders", "order 6 is completed")?,
        time.wall(),
    )?;
    drop(tx);
    assert_eq!(outbox.get(b"order-6"), None);
    assert_eq!(outbox.lag().await?.backlog_rows, 0);

    // Committed: the order and three events, the second for a topic that does not exist.
    let mut tx = outbox.begin();
    tx.put(b"order-7", b"completed");
    for (topic, what) in [
        ("orders", "order 7 is paid"),
        ("order", "order 7 is packed"),
        ("orders", "order 7 is completed"),
    ] {
        tx.append(&event(&time, topic, what)?, time.wall())?;
    }
    tx.commit()?;

    let relay = Relay::new(
        RelayConfig::default(),
        Arc::new(outbox.clone()),
        Arc::new(Queue::default()),
        time.clone(),
        SystemEntropy,
    );
    relay_until(&relay, &time, |stats| stats.parked == 1).await?;
    let lag = outbox.lag().await?;
    println!(
        "{} sent, {} wait, {} parked",
        lag.sent, lag.backlog_rows, lag.parked
    );
    assert_eq!((lag.sent, lag.backlog_rows, lag.parked), (1, 1, 1));

    // Somebody corrects the topic, and the key goes on in its order.
    for parked in outbox.parked(None, 10).await? {
        println!("parked: {}", parked.reason);
        let corrected = Event::builder(parked.event.id(), "orders")
            .key("order-7")
            .payload(parked.event.payload().clone())
            .build()?;
        let repair = Repair::Replace(corrected);
        outbox.repair(time.wall(), parked.position, &repair).await?;
    }
    relay_until(&relay, &time, |stats| stats.sent == 3).await?;
    assert_eq!(outbox.lag().await?.sent, 3);
    println!("{:?}", relay.stats());
    Ok(())
}
