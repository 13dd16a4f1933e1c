//! Publishes, asks, and works off a queue on a NATS server. Without one it says how to get one.

#![allow(clippy::print_stdout)] // an example is there to be read

use std::error::Error;

use dpat_core::TokioTime;
use dpat_nats::dpat_queue::{Message, Outcome};
use dpat_nats::{Config, Connection, CorePubSub, QueueSettings, StreamQueue};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Ok(url) = std::env::var("DPAT_NATS_URL") else {
        println!("DPAT_NATS_URL is not set. Start a server and say where it is:");
        println!("  nats-server -js -sd /var/tmp/nats &");
        println!(
            "  DPAT_NATS_URL=nats://127.0.0.1:4222 cargo run -p dpat-nats --example nats_basic --features queue"
        );
        return Ok(());
    };
    let config = Config::new(&url)?.name("nats_basic")?;
    let connection = Connection::open(&config).await?;
    println!("connected: NATS {}", connection.server_version());
    let subject = format!("nats_basic.{}", std::process::id());

    let hub = CorePubSub::new(&connection).hub();
    let mut orders = hub.subscribe(format!("{subject}.*")).capacity(100).await?;
    hub.publish(format!("{subject}.created"), "order 7").await?;
    println!("delivered: {:?}", orders.recv().await?);

    let requester = hub.requester(TokioTime);
    let nobody = requester
        .request(format!("{subject}.stock.check"), "socks")
        .await;
    println!("asked: {nobody:?}");

    let name = format!("nats_basic-{}", std::process::id());
    let settings = QueueSettings::new(&name)?
        .bytes_max(1 << 20)
        .dead_bytes_max(1 << 20);
    let store = StreamQueue::open(&connection, settings).await?;
    let queue = store.queue();
    for _ in 0..2 {
        let sent = queue
            .send(Message::new("charge order 7").dedup("order-7"))
            .await?;
        println!("sent: {sent:?}");
    }
    let delivery = queue.receive().await?;
    println!("received: {delivery:?}");
    queue.settle(delivery.receipt, Outcome::Done).await?;
    println!("settled: {:?}", store.status().await?);
    store.delete().await?;

    connection.close().await;
    Ok(())
}
