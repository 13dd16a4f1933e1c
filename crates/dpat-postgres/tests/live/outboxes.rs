//! The laws of an outbox.

use dpat_core::Wall;
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{
    AppendError, Appended, Batch, Claim, Event, Lag, Limits, Parked, Position, Repair, Repaired,
    Replay, Replayed, Settled, Settlement, Store, StoreError, Ticket,
};
use dpat_postgres::sqlx::{Connection as _, PgConnection};
use dpat_postgres::{Config, Outbox, Prepared, commit, commit_sqlx};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::Trial;

use crate::kit;

/// Appends are in transactions of tokio-postgres, of connections that keep their statements or do not.
struct OnServer {
    keeps: bool,
}

const PLAIN: OnServer = OnServer { keeps: false };

/// An outbox with its tables, which the laws reopen.
struct World {
    config: Config,
    limits: Limits,
    outbox: Outbox,
    /// Whether connections that append keep their statements.
    keeps: bool,
}

impl World {
    fn open(config: Config, limits: Limits) -> Self {
        Self {
            keeps: false,
            outbox: kit::run(Outbox::open(&config, limits)).unwrap(),
            config,
            limits,
        }
    }

    async fn in_tx(
        &self,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        let mut client = kit::client(&kit::url()).await;
        let mut prepared = self.keeps.then(Prepared::new);
        let mut tx = client.transaction().await.unwrap();
        let mut appended = Vec::new();
        for event in events {
            appended.push(match &mut prepared {
                None => self.outbox.append(&mut tx, event, now).await?,
                Some(prepared) => {
                    let mut tx = prepared.on(&mut tx);
                    self.outbox.append(&mut tx, event, now).await?
                }
            });
        }
        match end {
            End::Commit => commit(tx).await.unwrap(),
            End::Rollback => tx.rollback().await.unwrap(),
            // The connection ends without a word.
            End::Crash => {
                drop(tx);
                drop(client);
            }
        }
        Ok(appended)
    }
}

#[async_trait::async_trait]
impl Store for World {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        self.outbox.claim(claim).await
    }
    async fn settle(&self, now: Wall, all: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.outbox.settle(now, all).await
    }
    async fn wait(&self, seen: Ticket) {
        self.outbox.wait(seen).await;
    }
    async fn lag(&self) -> Result<Lag, StoreError> {
        self.outbox.lag().await
    }
    async fn purge(&self, sent_before: Wall, max: usize) -> Result<usize, StoreError> {
        self.outbox.purge(sent_before, max).await
    }
    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        self.outbox.parked(after, max).await
    }
    async fn repair(
        &self,
        now: Wall,
        position: Position,
        repair: &Repair,
    ) -> Result<Repaired, StoreError> {
        self.outbox.repair(now, position, repair).await
    }
    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        self.outbox.replay(now, replay).await
    }
}

impl Harness for OnServer {
    type Outbox = World;

    fn fresh(&self, limits: Limits) -> World {
        World {
            keeps: self.keeps,
            ..World::open(kit::config(&kit::url()), limits)
        }
    }

    fn reopen(&self, outbox: World) -> World {
        let World {
            config,
            limits,
            keeps,
            ..
        } = outbox;
        World {
            keeps,
            ..World::open(config, limits)
        }
    }

    fn in_tx(
        &self,
        outbox: &World,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        kit::run(outbox.in_tx(now, events, end))
    }

    /// Two transactions on two connections; the first one waits with its commit.
    fn overlap(
        &self,
        outbox: &World,
        now: Wall,
        early: &Event,
        late: &Event,
        between: &mut dyn FnMut(),
    ) -> bool {
        let mut first = kit::run(kit::client(&kit::url()));
        let mut second = kit::run(kit::client(&kit::url()));
        let tx = kit::run(async {
            let mut tx = first.transaction().await.unwrap();
            outbox.outbox.append(&mut tx, early, now).await.unwrap();
            let mut other = second.transaction().await.unwrap();
            outbox.outbox.append(&mut other, late, now).await.unwrap();
            commit(other).await.unwrap();
            tx
        });
        between();
        kit::run(commit(tx)).unwrap();
        true
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        kit::run(future)
    }
}

/// As [`OnServer`]; the transactions are those of sqlx.
struct OnSqlx;

impl Harness for OnSqlx {
    type Outbox = World;

    fn fresh(&self, limits: Limits) -> World {
        PLAIN.fresh(limits)
    }

    fn reopen(&self, outbox: World) -> World {
        PLAIN.reopen(outbox)
    }

    fn in_tx(
        &self,
        outbox: &World,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        kit::run(async {
            let mut connection = PgConnection::connect(&kit::url()).await.unwrap();
            let mut tx = connection.begin().await.unwrap();
            let mut appended = Vec::new();
            for event in events {
                appended.push(outbox.outbox.append(&mut tx, event, now).await?);
            }
            match end {
                End::Commit => commit_sqlx(tx).await.unwrap(),
                End::Rollback => tx.rollback().await.unwrap(),
                End::Crash => {
                    drop(tx);
                    drop(connection);
                }
            }
            Ok(appended)
        })
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        kit::run(future)
    }
}

pub(crate) fn postgres_keeps_the_laws_of_outbox(live: &Live) -> Trial {
    let laws = dpat_outbox::conformance::outbox_laws::<OnServer>();
    let mut laws = Law::plain(laws, || PLAIN);
    let keeping = Law::plain(dpat_outbox::conformance::outbox_laws(), || OnServer {
        keeps: true,
    });
    let keeping = keeping.into_iter();
    laws.extend(keeping.map(|law| law.noted("by statements that are kept")));
    let sqlx = Law::plain(dpat_outbox::conformance::outbox_laws(), || OnSqlx);
    laws.extend(
        sqlx.into_iter()
            .map(|law| law.noted("in a transaction of sqlx")),
    );
    live.laws("outbox", laws)
}
