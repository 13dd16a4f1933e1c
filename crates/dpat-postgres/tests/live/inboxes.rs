//! The laws of an inbox, its limit, and deliveries at once.

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::{End, InboxHarness, Step, Told, inbox_laws};
use dpat_idempotency::inbox::{AcceptError, Undo};
use dpat_idempotency::{Fingerprint, Key};
use dpat_postgres::sqlx::{self, AssertSqlSafe, Connection as _, PgConnection, Postgres};
use dpat_postgres::tokio_postgres;
use dpat_postgres::{Arrived, Config, EngineError, Inbox, Transaction, commit, commit_sqlx};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// An inbox with its tables and the effects, which the laws reopen.
struct World {
    config: Config,
    inbox: Inbox,
}

impl World {
    fn open(config: Config) -> Self {
        run(async {
            let inbox = Inbox::open(&config).await.unwrap();
            let own = "CREATE TABLE IF NOT EXISTS {schema}.{prefix}_effects (key BYTEA PRIMARY KEY, count BIGINT)";
            let client = kit::client(&kit::url()).await;
            client.batch_execute(&config.sql(own)).await.unwrap();
            Self { config, inbox }
        })
    }

    async fn add(&self, tx: &mut impl Effects, key: &Key, by: i64) {
        let add = "INSERT INTO {schema}.{prefix}_effects AS e VALUES ($1, $2) \
                   ON CONFLICT (key) DO UPDATE SET count = e.count + $2";
        tx.add(self.config.sql(add), key, by).await;
    }

    async fn step(&self, tx: &mut impl Effects, now: Wall, step: &Step) -> Result<Told, String> {
        match step {
            Step::Accept {
                key,
                fingerprint,
                outcome,
            } => match self.inbox.accept(tx, key, *fingerprint).await {
                Ok(Arrived::First(accepting)) => {
                    self.add(tx, key, 1).await;
                    let Some(outcome) = outcome else {
                        return Ok(Told::Failed);
                    };
                    let done = accepting.done(tx, outcome.clone(), now).await;
                    done.map_err(|error| error.to_string())?;
                    Ok(Told::First(outcome.clone()))
                }
                Ok(Arrived::Again(outcome)) => Ok(Told::Again(outcome)),
                Ok(Arrived::Cancelled) => Ok(Told::Cancelled),
                Err(AcceptError::Reused) => Ok(Told::Reused),
                Err(error) => Err(error.to_string()),
            },
            Step::Cancel { key } => {
                let undone = self.inbox.cancel(tx, key, now).await;
                match undone.map_err(|error| error.to_string())? {
                    Undo::Effect(outcome) => {
                        self.add(tx, key, -1).await;
                        Ok(Told::Undone(outcome))
                    }
                    Undo::Nothing => Ok(Told::NothingToUndo),
                    Undo::Already => Ok(Told::AlreadyCancelled),
                }
            }
        }
    }
}

/// Changes of one's own, in the transaction of one's client.
#[async_trait::async_trait]
trait Effects: Transaction {
    async fn add(&mut self, text: String, key: &Key, by: i64);
}

#[async_trait::async_trait]
impl Effects for tokio_postgres::Transaction<'_> {
    async fn add(&mut self, text: String, key: &Key, by: i64) {
        self.execute(&text, &[&key.as_bytes(), &by]).await.unwrap();
    }
}

#[async_trait::async_trait]
impl Effects for sqlx::Transaction<'_, Postgres> {
    async fn add(&mut self, text: String, key: &Key, by: i64) {
        let query = sqlx::query(AssertSqlSafe(text));
        let query = query.bind(key.as_bytes().to_vec()).bind(by);
        query.execute(&mut **self).await.unwrap();
    }
}

struct OnServer;

impl InboxHarness for OnServer {
    type Db = World;

    fn fresh(&self) -> World {
        World::open(kit::config(&kit::url()))
    }

    fn reopen(&self, db: World) -> World {
        World::open(db.config)
    }

    fn in_tx(
        &self,
        db: &mut World,
        now: Wall,
        steps: &[Step],
        end: End,
    ) -> Result<Vec<Told>, String> {
        run(async {
            let mut client = kit::client(&kit::url()).await;
            let mut tx = client.transaction().await.unwrap();
            let mut told = Vec::new();
            for one in steps {
                told.push(db.step(&mut tx, now, one).await?);
                if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                    tx.rollback().await.unwrap();
                    return Ok(told);
                }
            }
            match end {
                End::Commit => commit(tx).await.map_err(|error| error.to_string())?,
                End::Rollback => tx.rollback().await.unwrap(),
                // The connection ends without a word.
                End::Crash => drop(tx),
            }
            Ok(told)
        })
    }

    fn effects(&self, db: &World, key: &Key) -> Result<i64, String> {
        let sql = "SELECT count FROM {schema}.{prefix}_effects WHERE key = $1";
        run(async {
            let client = kit::client(&kit::url()).await;
            let text = db.config.sql(sql);
            let row = client.query_opt(&text, &[&key.as_bytes()]).await;
            let row = row.map_err(|error| error.to_string())?;
            Ok(row.map_or(0, |row| row.get(0)))
        })
    }

    fn sweep(&self, db: &World, before: Wall, max: usize) -> Result<usize, String> {
        run(db.inbox.sweep(before, max)).map_err(|error| error.to_string())
    }
}

/// As [`OnServer`]; the transactions are those of sqlx.
struct OnSqlx;

impl InboxHarness for OnSqlx {
    type Db = World;

    fn fresh(&self) -> World {
        OnServer.fresh()
    }

    fn reopen(&self, db: World) -> World {
        OnServer.reopen(db)
    }

    fn in_tx(
        &self,
        db: &mut World,
        now: Wall,
        steps: &[Step],
        end: End,
    ) -> Result<Vec<Told>, String> {
        run(async {
            let mut client = PgConnection::connect(&kit::url()).await.unwrap();
            let mut tx = client.begin().await.unwrap();
            let mut told = Vec::new();
            for one in steps {
                told.push(db.step(&mut tx, now, one).await?);
                if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                    tx.rollback().await.unwrap();
                    return Ok(told);
                }
            }
            match end {
                End::Commit => commit_sqlx(tx).await.map_err(|error| error.to_string())?,
                End::Rollback => tx.rollback().await.unwrap(),
                // The connection ends without a word.
                End::Crash => drop(tx),
            }
            Ok(told)
        })
    }

    fn effects(&self, db: &World, key: &Key) -> Result<i64, String> {
        OnServer.effects(db, key)
    }

    fn sweep(&self, db: &World, before: Wall, max: usize) -> Result<usize, String> {
        OnServer.sweep(db, before, max)
    }
}

fn postgres_keeps_the_laws_of_inbox(live: &Live) -> Trial {
    let mut laws = Law::plain(inbox_laws(), || OnServer);
    let sqlx = Law::plain(inbox_laws(), || OnSqlx);
    laws.extend(
        sqlx.into_iter()
            .map(|law| law.noted("in a transaction of sqlx")),
    );
    live.laws("inbox", laws)
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        postgres_keeps_the_laws_of_inbox(live),
        live.trial(
            "a_full_inbox_refuses_new_messages_and_knows_the_old_ones",
            a_full_inbox_refuses_new_messages_and_knows_the_old_ones,
        ),
        live.trial(
            "deliveries_at_once_take_effect_once",
            deliveries_at_once_take_effect_once,
        ),
    ]
}

fn a_full_inbox_refuses_new_messages_and_knows_the_old_ones(url: &str) -> Result<(), Failed> {
    run(async {
        let inbox = Inbox::with_limit(&kit::config(url), 1).await?;
        let mut client = kit::client(url).await;
        let accept = async |client: &mut tokio_postgres::Client, id: &str| {
            let key = Key::new("s", id).unwrap();
            let mut tx = client.transaction().await.unwrap();
            let arrived = inbox.accept(&mut tx, &key, Fingerprint::NONE).await?;
            let is_first = match arrived {
                Arrived::First(accepting) => {
                    accepting.done(&mut tx, Bytes::new(), Wall::MIN).await?;
                    true
                }
                Arrived::Again(_) | Arrived::Cancelled => false,
            };
            commit(tx).await.map_err(AcceptError::Store)?;
            Ok::<_, AcceptError<EngineError, EngineError>>(is_first)
        };
        assert!(accept(&mut client, "a").await?);
        let error = accept(&mut client, "b").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "transaction: markers: the limit of 1 is reached"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
        assert!(!accept(&mut client, "a").await?);
        Ok(())
    })
}

/// Eight transactions at once, each on a connection and a task of its own, of both clients.
fn deliveries_at_once_take_effect_once(_url: &str) -> Result<(), Failed> {
    let world = std::sync::Arc::new(World::open(kit::config(&kit::url())));
    let key = Key::new("s", "a")?;
    let firsts = run(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (world, key) = (std::sync::Arc::clone(&world), key.clone());
            all.spawn(async move {
                let step = Step::Accept {
                    key,
                    fingerprint: Fingerprint::NONE,
                    outcome: Some(Bytes::from_static(b"done")),
                };
                if number % 2 == 0 {
                    let mut client = PgConnection::connect(&kit::url()).await.unwrap();
                    let mut tx = client.begin().await.unwrap();
                    let told = world.step(&mut tx, Wall::MIN, &step).await.unwrap();
                    commit_sqlx(tx).await.unwrap();
                    return told;
                }
                let mut client = kit::client(&kit::url()).await;
                let mut tx = client.transaction().await.unwrap();
                let told = world.step(&mut tx, Wall::MIN, &step).await.unwrap();
                commit(tx).await.unwrap();
                told
            });
        }
        let told = all.join_all().await;
        told.iter()
            .filter(|told| matches!(told, Told::First(_)))
            .count()
    });
    assert_eq!(firsts, 1);
    assert_eq!(OnServer.effects(&world, &key)?, 1);
    Ok(())
}
