//! An order and its event in one transaction; a relay takes it to a receiver, which acts once though it comes twice.

#![allow(clippy::print_stdout)] // an example is there to be read

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpat_core::{Class, Clock, ManualTime, SystemEntropy, Uuid7Generator};
use dpat_redb::dpat_idempotency::inbox::Accepted;
use dpat_redb::dpat_idempotency::{Fingerprint, Key};
use dpat_redb::dpat_outbox::{
    Delivery, Event, Limits, PublishError, Relay, RelayConfig, Sink, Store,
};
use dpat_redb::redb::{self, Database, ReadableTable, TableDefinition, backends::InMemoryBackend};
use dpat_redb::{Config, Inbox, Outbox, commit};

const ORDERS: TableDefinition<'_, &str, &str> = TableDefinition::new("orders");
const PARCELS: TableDefinition<'_, &str, u32> = TableDefinition::new("parcels");

static IDS: Uuid7Generator = Uuid7Generator::new();

/// Another service with a database of its own. Its first answer is lost.
struct Shipping {
    database: Database,
    inbox: Inbox,
    time: ManualTime,
    deliveries: AtomicU32,
}

impl Shipping {
    fn ship(&self, event: &Event) -> Result<Accepted, Box<dyn Error>> {
        let tx = self.database.begin_write()?;
        let order = std::str::from_utf8(event.payload())?;
        let key = Key::new("shipping", &event.id().to_string())?;
        let body = Fingerprint::of(&[event.payload()]);
        let accepted = self.inbox.accept(&tx, &key, body, self.time.wall(), |tx| {
            let mut parcels = tx.open_table(PARCELS)?;
            let number = parcels.get(order)?.map_or(0, |number| number.value()) + 1;
            parcels.insert(order, number)?;
            Ok::<_, redb::Error>("label".into())
        })?;
        commit(tx)?;
        Ok(accepted)
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
    let memory = || Database::builder().create_with_backend(InMemoryBackend::new());
    let time = ManualTime::new();

    let orders = Arc::new(memory()?); // or `Database::create("orders.redb")`
    let outbox = Outbox::open(Arc::clone(&orders), Config::new("outbox")?, Limits::DEFAULT)?;
    let event = Event::builder(IDS.next(time.wall(), &SystemEntropy)?, "orders.completed")
        .key("order-7")
        .payload("order-7")
        .build()?;
    let tx = orders.begin_write()?;
    tx.open_table(ORDERS)?.insert("order-7", "completed")?;
    outbox.append(&tx, &event, time.wall())?;
    outbox.commit(tx)?;
    println!("committed: {:?}", outbox.lag().await?);

    let database = memory()?;
    let shipping = Arc::new(Shipping {
        inbox: Inbox::open(&database, &Config::new("inbox")?)?,
        database,
        time: time.clone(),
        deliveries: AtomicU32::new(0),
    });
    let store = Arc::new(outbox.clone());
    let relay = Relay::new(
        RelayConfig::default(),
        store,
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

    let tx = shipping.database.begin_write()?;
    let parcels = tx.open_table(PARCELS)?;
    let number = parcels.get("order-7")?.map(|number| number.value());
    println!("parcels of order-7: {number:?}");
    assert_eq!(number, Some(1));
    assert_eq!(shipping.deliveries.load(Ordering::Relaxed), 2);
    Ok(())
}
