//! A queue on a server: one message is done at the second try, one is given up and replayed.

#![allow(clippy::print_stdout)] // an example is there to be read

use std::error::Error;
use std::time::Duration;

use dpat_core::TokioTime;
use dpat_redis::dpat_queue::{Message, Outcome};
use dpat_redis::{Config, QueueSettings, QueueStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Ok(url) = std::env::var("DPAT_REDIS_URL") else {
        println!("DPAT_REDIS_URL is not set. For a server of its own:");
        println!(
            "cargo xtask services run --only redis -- cargo run -p dpat-redis --example redis_basic"
        );
        return Ok(());
    };
    let config = Config::new(&url, format!("example-{}", std::process::id()))?;
    let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
    let server = store.server();
    println!(
        "Redis {}, {:?}",
        server.version.as_deref().unwrap_or("?"),
        server.durability
    );

    let queue = store.queue();
    let first = queue
        .send(Message::new("charge order 7").dedup("charge-7"))
        .await?;
    let again = queue
        .send(Message::new("charge order 7").dedup("charge-7"))
        .await?;
    println!(
        "sent as {}, and once more as {}: duplicate {}",
        first.id,
        again.id,
        again.is_duplicate()
    );
    queue
        .send(Message::new("charge order 8").priority(1))
        .await?;

    for outcome in [
        Outcome::release(),
        Outcome::Done,
        Outcome::Reject {
            reason: "no such order".to_owned(),
        },
    ] {
        let delivery = queue.receive().await?;
        let text = String::from_utf8_lossy(delivery.payload()).into_owned();
        println!("{text}, delivery {}: {outcome:?}", delivery.count);
        queue.settle(delivery.receipt, outcome).await?;
    }
    for letter in queue.dead_letters(None, 10).await? {
        println!("dead letter {}: {}", letter.id, letter.reason);
        queue.replay(letter.id).await?;
    }
    let delivery = queue.receive().await?;
    println!(
        "replayed: attempt {} of delivery {}",
        delivery.attempt, delivery.count
    );
    queue.settle(delivery.receipt, Outcome::Done).await?;

    // Somebody waits; somebody else sends.
    let (waits, sends) = (queue.clone(), queue.clone());
    let receiver =
        tokio::spawn(async move { waits.receive_batch(1, Duration::from_secs(10)).await });
    sends.send(Message::new("charge order 9")).await?;
    for delivery in receiver.await?? {
        println!("received while waiting: {}", delivery.id());
        queue.settle(delivery.receipt, Outcome::Done).await?;
    }
    let stats = queue.stats().await?;
    println!(
        "{} sent, {} delivered, {} done, {} left",
        stats.sent, stats.delivered, stats.done, stats.ready
    );
    Ok(())
}
