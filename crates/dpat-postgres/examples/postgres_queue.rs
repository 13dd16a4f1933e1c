//! A message is sent with its change in one transaction, received, and settled.
//!
//! Needs a server: `DPAT_POSTGRES_URL=postgres://user@localhost/database`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use dpat_core::TokioTime;
use dpat_postgres::{Config, QueueSettings, QueueStore, commit, tokio_postgres};
use dpat_queue::{Message, Outcome, Requirements, Survives};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(url) = std::env::var("DPAT_POSTGRES_URL") else {
        println!("DPAT_POSTGRES_URL is not set; in a checkout of dpat, with PostgreSQL installed:");
        println!(
            "  cargo xtask services run --only postgres -- cargo run -p dpat-postgres --features queue --example \
             postgres_queue"
        );
        return Ok(());
    };
    let config = Config::new(&url, "example")?;
    let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
    let queue = store.queue();
    queue.require(&Requirements::new().survives(Survives::ProcessKill))?;
    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let tables = "CREATE TABLE IF NOT EXISTS example_charges (id text, state text)";
    client.batch_execute(tables).await?;

    // The change, and what is to be done for it: both, or neither.
    let mut tx = client.transaction().await?;
    let change = "INSERT INTO example_charges VALUES ('order-7', 'ordered')";
    tx.execute(change, &[]).await?;
    let message = Message::new("charge order 7").key("order-7").priority(3);
    store.send(&mut tx, &message).await?;
    commit(tx).await?;

    // The first try fails, and comes again after its delay.
    let delivery = queue.receive().await?;
    let retry = Outcome::Retry {
        delay: Duration::from_millis(50),
        reason: "the bank does not answer".to_owned(),
    };
    queue.settle(delivery.receipt, retry).await?;
    let delivery = queue.receive().await?;
    println!(
        "{}, delivery {}",
        String::from_utf8_lossy(delivery.payload()),
        delivery.count
    );
    queue.settle(delivery.receipt, Outcome::Done).await?;

    let stats = queue.stats().await?;
    println!("{} ready, {} done by this program", stats.ready, stats.done);
    Ok(())
}
