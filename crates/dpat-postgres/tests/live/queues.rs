//! The laws of a queue, and sends in transactions.

use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Classify, Effect, ManualTime};
use dpat_postgres::sqlx::{Connection as _, PgConnection};
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::{Config, QueueClock, QueueSettings, QueueStore, commit, commit_sqlx};
use dpat_queue::conformance::{Harness, Setup, declared, laws};
use dpat_queue::{
    Backend, Capabilities, Capability, DeadLetter, Delivery, ManageError, Message, MessageId,
    Outcome, Peeked, Queue, Receipt, ReceiveError, Requirements, SendError, Sent, SettleError,
    Settlement, Stats, Survives,
};
use dpat_testkit::live::{Law, Live, conformance};
use libtest_mimic::{Failed, Trial};
use tokio::sync::Mutex;

use crate::kit::{self, run};

const NONE: Duration = Duration::ZERO;

/// A queue of its own for each world, by a clock that the law moves; its messages are sent in these transactions.
#[derive(Clone, Copy)]
enum OnServer {
    Own,
    TokioPostgres,
    Sqlx,
}

struct World {
    config: Config,
    store: QueueStore,
    queue: Queue,
    time: ManualTime,
}

impl OnServer {
    fn world(self, config: Config, time: ManualTime, setup: &Setup) -> World {
        let settings = QueueSettings {
            visibility: setup.visibility,
            dedup_window: setup.dedup_window,
            messages_max: setup.messages_max,
            dead_max: setup.dead_max,
            clock: QueueClock::Caller,
            ..QueueSettings::DEFAULT
        };
        let store = run(QueueStore::open(&config, settings, time.clone())).unwrap();
        let queue = match self {
            Self::Own => store.queue(),
            Self::TokioPostgres => {
                let client = run(kit::client(&kit::url()));
                Queue::on(Arc::new(Within {
                    store: store.clone(),
                    client: Yours::TokioPostgres(Mutex::new(client)),
                }))
            }
            Self::Sqlx => {
                let client = run(PgConnection::connect(&kit::url())).unwrap();
                Queue::on(Arc::new(Within {
                    store: store.clone(),
                    client: Yours::Sqlx(Mutex::new(client)),
                }))
            }
        };
        World {
            config,
            store,
            queue,
            time,
        }
    }
}

impl Harness for OnServer {
    type World = World;

    fn open(&self, setup: &Setup) -> World {
        self.world(kit::config(&kit::url()), ManualTime::new(), setup)
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        &world.queue
    }

    fn reopen(&self, world: World, setup: &Setup) -> World {
        let World { config, time, .. } = world;
        let world = self.world(config, time, setup);
        // The only process that receives.
        run(world.store.release_all()).unwrap();
        world
    }

    fn advance(&self, world: &World, by: Duration) {
        world.time.advance(by);
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(future)
    }
}

/// A queue whose messages are sent in transactions of the caller.
struct Within {
    store: QueueStore,
    client: Yours,
}

enum Yours {
    TokioPostgres(Mutex<Client>),
    Sqlx(Mutex<PgConnection>),
}

#[async_trait::async_trait]
impl Backend for Within {
    fn name(&self) -> &'static str {
        self.store.name()
    }
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let mut sent = Vec::new();
        match &self.client {
            Yours::TokioPostgres(client) => {
                let mut client = client.lock().await;
                let mut tx = client.transaction().await.unwrap();
                for message in &batch {
                    sent.push(self.store.send(&mut tx, message).await);
                }
                commit(tx).await.unwrap();
            }
            Yours::Sqlx(client) => {
                let mut client = client.lock().await;
                let mut tx = client.begin().await.unwrap();
                for message in &batch {
                    sent.push(self.store.send(&mut tx, message).await);
                }
                commit_sqlx(tx).await.unwrap();
            }
        }
        sent
    }
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        self.store.receive(max, wait).await
    }
    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        self.store.settle(batch).await
    }
    async fn drain(&self) {
        self.store.drain().await;
    }
    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        self.store.extend(batch, by).await
    }
    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.store.dead_letters(after, max).await
    }
    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.store.replay(id).await
    }
    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.store.discard(id).await
    }
    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        self.store.peek(after, max).await
    }
    async fn purge(&self) -> Result<u64, ManageError> {
        self.store.purge().await
    }
    async fn stats(&self) -> Result<Stats, ManageError> {
        self.store.stats().await
    }
    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        self.store.set_paused(paused).await
    }
}

fn suite() -> Vec<Law> {
    let world = OnServer::Own.open(&Setup::DEFAULT);
    let capabilities = world.queue.capabilities();
    let mut all = Vec::new();
    for (sends, note) in [
        (OnServer::Own, None),
        (
            OnServer::TokioPostgres,
            Some("in a transaction of tokio-postgres"),
        ),
        (OnServer::Sqlx, Some("in a transaction of sqlx")),
    ] {
        for (name, law) in laws::<OnServer>() {
            let declared = declared(name, &capabilities);
            let law = Law::new(name, declared.offered, declared.note, move || {
                law(&sends).map_err(|violation| violation.to_string())
            });
            all.push(match note {
                None => law,
                Some(note) => law.noted(note),
            });
        }
    }
    all
}

fn postgres_keeps_the_laws_of_queue(live: &Live) -> Trial {
    // The suite asks the server what it offers: when it runs, not when it is listed.
    live.trial("postgres_keeps_the_laws_of_queue", |_| {
        conformance("postgres", "queue", suite())
    })
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        postgres_keeps_the_laws_of_queue(live),
        live.trial(
            "a_message_is_sent_with_the_change_or_not_at_all",
            a_message_is_sent_with_the_change_or_not_at_all,
        ),
        live.trial(
            "what_a_message_survives_is_what_the_server_says",
            what_a_message_survives_is_what_the_server_says,
        ),
        live.trial(
            "what_is_refused_leaves_the_transaction_usable",
            what_is_refused_leaves_the_transaction_usable,
        ),
        live.trial(
            "of_transactions_at_once_one_remembers_the_deduplication_key",
            of_transactions_at_once_one_remembers_the_deduplication_key,
        ),
    ]
}

async fn texts(queue: &Queue) -> Result<Vec<String>, Failed> {
    let received = queue.receive_batch(100, NONE).await?;
    let texts = received
        .iter()
        .map(|one| String::from_utf8(one.payload().to_vec()));
    Ok(texts.collect::<Result<_, _>>()?)
}

fn a_message_is_sent_with_the_change_or_not_at_all(url: &str) -> Result<(), Failed> {
    let world = OnServer::Own.open(&Setup::DEFAULT);
    let needs = Requirements::new()
        .needs(Capability::TransactionalSend)
        .survives(Survives::PowerLoss);
    world.queue.require(&needs)?;
    let own = world.config.sql("{schema}.{prefix}_own");
    let change = format!("INSERT INTO {own} VALUES (1)");
    run(async {
        let mut client = kit::client(url).await;
        client
            .batch_execute(&format!("CREATE TABLE {own} (n bigint)"))
            .await?;
        let mut other = PgConnection::connect(url).await?;
        for (text, commits) in [("rolled back", false), ("committed", true)] {
            let mut tx = client.transaction().await?;
            tx.execute(&change, &[]).await?;
            world.store.send(&mut tx, &Message::new(text)).await?;
            assert_eq!(texts(&world.queue).await?, [""; 0], "before the commit");
            match commits {
                true => commit(tx).await?,
                false => tx.rollback().await?,
            }
            let expected: &[&str] = if commits { &[text] } else { &[] };
            assert_eq!(texts(&world.queue).await?, expected);

            let mut tx = other.begin().await?;
            dpat_postgres::sqlx::query(dpat_postgres::sqlx::AssertSqlSafe(change.clone()))
                .execute(&mut *tx)
                .await?;
            world.store.send(&mut tx, &Message::new(text)).await?;
            assert_eq!(texts(&world.queue).await?, [""; 0], "before the commit");
            match commits {
                true => commit_sqlx(tx).await?,
                false => tx.rollback().await?,
            }
            assert_eq!(texts(&world.queue).await?, expected);
        }
        let text = format!("SELECT count(*) FROM {own}");
        let changes: i64 = client.query_one(&text, &[]).await?.get(0);
        assert_eq!(changes, 2);
        Ok(())
    })
}

fn what_a_message_survives_is_what_the_server_says(url: &str) -> Result<(), Failed> {
    let setup = Setup::DEFAULT;
    let world = |url: &str| OnServer::Own.world(kit::config(url), ManualTime::new(), &setup);
    let synced = world(url).queue.capabilities().survives;
    assert_eq!(synced, Survives::PowerLoss);
    let off = format!("{url}?options=-c%20synchronous_commit%3Doff");
    let queue = world(&off).queue;
    assert_eq!(queue.capabilities().survives, Survives::Nothing);
    let needs = Requirements::new().survives(Survives::ProcessKill);
    assert!(queue.require(&needs).is_err());
    Ok(())
}

fn what_is_refused_leaves_the_transaction_usable(url: &str) -> Result<(), Failed> {
    let mut setup = Setup::DEFAULT;
    setup.messages_max = 2;
    let world = OnServer::Own.open(&setup);
    let (store, second) = (&world.store, Duration::from_secs(1));
    run(async {
        let mut client = kit::client(url).await;
        let mut tx = client.transaction().await?;
        let ends = Message::new("ends").ttl(second);
        store.send(&mut tx, &ends).await?;
        let error = store
            .send(&mut tx, &Message::new("").key(""))
            .await
            .unwrap_err();
        assert!(matches!(error, SendError::Invalid(_)), "{error}");
        let first = store.send(&mut tx, &Message::new("one").dedup("d")).await?;
        let again = store.send(&mut tx, &Message::new("two").dedup("d")).await?;
        assert_eq!((again.id, again.is_duplicate()), (first.id, true));
        let error = store
            .send(&mut tx, &Message::new("three"))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                SendError::Full {
                    field: "messages_max",
                    limit: 2
                }
            ),
            "{error}"
        );
        assert_eq!(error.effect(), Effect::NotDone);
        commit(tx).await?;
        // What has ended makes room, in a transaction of yours as well.
        world.time.advance(second);
        let mut tx = client.transaction().await?;
        store.send(&mut tx, &Message::new("four")).await?;
        commit(tx).await?;
        assert_eq!(texts(&world.queue).await?, ["one", "four"]);
        Ok(())
    })
}

fn of_transactions_at_once_one_remembers_the_deduplication_key(url: &str) -> Result<(), Failed> {
    let world = OnServer::Own.open(&Setup::DEFAULT);
    run(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (store, url) = (world.store.clone(), url.to_owned());
            all.spawn(async move {
                let mut client = kit::client(&url).await;
                let mut tx = client.transaction().await.unwrap();
                let message = Message::new(number.to_string()).dedup("d");
                let sent = store.send(&mut tx, &message).await.unwrap();
                commit(tx).await.unwrap();
                sent
            });
        }
        let sent = all.join_all().await;
        assert_eq!(sent.iter().filter(|one| !one.is_duplicate()).count(), 1);
        assert!(sent.iter().all(|one| one.id == sent[0].id), "{sent:?}");
        let received = world.queue.receive_batch(9, NONE).await?;
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].id(), sent[0].id);
        // One that is rolled back is not remembered.
        let mut client = kit::client(url).await;
        let again = Message::new("again").dedup("e");
        let mut tx = client.transaction().await?;
        world.store.send(&mut tx, &again).await?;
        tx.rollback().await?;
        assert!(!world.queue.send(again).await?.is_duplicate());
        world
            .queue
            .settle(received[0].receipt, Outcome::Done)
            .await?;
        Ok(())
    })
}
