//! A change and its event in one transaction, and what a relay does.
//!
//! Needs a server: `DPAT_POSTGRES_URL=postgres://user@localhost/database`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
use dpat_outbox::{Claim, Event, Limits, Outcome, Settlement, Store, Token};
use dpat_postgres::{Config, Outbox, commit, tokio_postgres};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(url) = std::env::var("DPAT_POSTGRES_URL") else {
        println!("DPAT_POSTGRES_URL is not set; in a checkout of dpat, with PostgreSQL installed:");
        println!(
            "  cargo xtask services run --only postgres -- cargo run -p dpat-postgres --example postgres_basic"
        );
        return Ok(());
    };
    let config = Config::new(&url, "example")?;
    let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let tables = "CREATE TABLE IF NOT EXISTS example_orders (id text, state text)";
    client.batch_execute(tables).await?;

    // The change, and what is told of it: both, or neither.
    let now = SystemClock.wall();
    let id = Uuid7Generator::new().next(now, &SystemEntropy)?;
    let event = Event::builder(id, "orders.completed")
        .key("order-7")
        .build()?;
    let mut tx = client.transaction().await?;
    tx.execute(
        "INSERT INTO example_orders VALUES ('order-7', 'completed')",
        &[],
    )
    .await?;
    outbox.append(&mut tx, &event, now).await?;
    commit(tx).await?;

    // What `dpat_outbox::Relay` does again and again.
    let claim = Claim {
        token: Token::draw(&SystemEntropy),
        now: SystemClock.wall(),
        lease: Duration::from_secs(30),
        rows_max: 10,
        bytes_max: 1 << 20,
        lane_rows_max: 10,
    };
    let batch = outbox.claim(&claim).await?;
    for claimed in &batch.rows {
        println!(
            "{}: {}",
            claimed.event.topic(),
            claimed.event.key().unwrap_or_default()
        );
    }
    let sent = |position| Settlement {
        position,
        token: claim.token,
        outcome: Outcome::Sent,
    };
    let settlements: Vec<_> = batch.rows.iter().map(|row| sent(row.position)).collect();
    outbox.settle(SystemClock.wall(), &settlements).await?;
    println!("{} sent", settlements.len());
    Ok(())
}
