//! An order and its event in one transaction; a relay takes it to a receiver, which acts once though it comes twice.

#![allow(clippy::print_stdout)] // an example is there to be read

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpat_core::{Class, Clock, ManualTime, SystemEntropy, Uuid7Generator};
use dpat_sqlite::dpat_idempotency::inbox::Accepted;
use dpat_sqlite::dpat_idempotency::{Fingerprint, Key};
use dpat_sqlite::dpat_outbox::{
    Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink, Store,
};
use dpat_sqlite::rusqlite::Connection;
use dpat_sqlite::{Config, EngineError, Inbox, Outbox, commit};

static IDS: Uuid7Generator = Uuid7Generator::new();

/// Another service with a database of its own. Its first answer is lost.
struct Shipping {
    config: Config,
    inbox: Inbox,
    time: ManualTime,
    deliveries: AtomicU32,
}

impl Shipping {
    fn open(config: Config, time: ManualTime) -> Result<Self, Box<dyn Error>> {
        let connection = config.connect()?;
        connection.execute("CREATE TABLE parcels (of_order TEXT)", [])?;
        Ok(Self {
            inbox: Inbox::open(&connection, &config)?,
            config,
            time,
            deliveries: AtomicU32::new(0),
        })
    }

    fn ship(&self, event: &Event) -> Result<Accepted, Box<dyn Error>> {
        let mut connection = self.config.connect()?;
        let tx = connection.transaction()?;
        let order = std::str::from_utf8(event.payload())?;
        let key = Key::new("shipping", &event.id().to_string())?;
        let body = Fingerprint::of(&[event.payload()]);
        let accepted = self.inbox.accept(&tx, &key, body, self.time.wall(), |tx| {
            tx.execute("INSERT INTO parcels VALUES (?1)", [order])
                .map_err(EngineError::of)?;
            Ok::<_, EngineError>("label".into())
        })?;
        commit(tx)?;
        Ok(accepted)
    }

    fn parcels(&self) -> Result<i64, Box<dyn Error>> {
        let connection: Connection = self.config.connect()?;
        let count = "SELECT count(*) FROM parcels WHERE of_order = 'order-7'";
        Ok(connection.query_row(count, [], |row| row.get(0))?)
    }
}

#[async_trait::async_trait]
impl Sink for Shipping {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        let accepted = self
            .ship(delivery.event)
            .map_err(|error| PublishError::new(Class::Permanent, &error.to_string()))?;
        println!("delivered: {accepted:?}");
        match self.deliveries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(PublishError::new(Class::Timeout, "the answer is lost")),
            _ => Ok(()),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let time = ManualTime::new();

    let config = Config::new(folder.path().join("orders.db"), "orders")?;
    let outbox = Outbox::open(&config, Limits::DEFAULT)?;
    let mut connection = config.connect()?;
    connection.execute("CREATE TABLE own (id TEXT, state TEXT)", [])?;

    let event = Event::builder(IDS.next(time.wall(), &SystemEntropy)?, "orders.completed")
        .key("order-7")
        .payload("order-7")
        .build()?;
    let tx = connection.transaction()?;
    tx.execute("INSERT INTO own VALUES ('order-7', 'completed')", [])?;
    outbox.append(&tx, &event, time.wall())?;
    outbox.commit(tx)?;
    println!("committed: {:?}", outbox.lag().await?);

    let config = Config::new(folder.path().join("shipping.db"), "shipping")?;
    let shipping = Arc::new(Shipping::open(config, time.clone())?);
    let relay = Relay::new(
        RelayConfig::default(),
        Arc::new(outbox.clone()),
        Arc::clone(&shipping) as Arc<dyn Sink>,
        time.clone(),
        SystemEntropy,
    );
    let sent = async {
        while relay.stats().sent == 0 {
            tokio::task::yield_now().await;
            time.advance(std::time::Duration::from_millis(10));
        }
    };
    relay.run_until(sent).await?;
    println!("relayed: {:?}", outbox.lag().await?);

    let parcels = shipping.parcels()?;
    println!("parcels of order-7: {parcels}");
    assert_eq!(parcels, 1);
    assert_eq!(shipping.deliveries.load(Ordering::Relaxed), 2);
    Ok(())
}
