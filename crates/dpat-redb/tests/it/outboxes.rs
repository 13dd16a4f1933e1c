//! The laws of an outbox, in memory and on a file.

use std::sync::Arc;

use dpat_core::Wall;
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{
    AppendError, Appended, Batch, Claim, Event, Lag, Limits, Outcome, Parked, Position, Repair,
    Repaired, Replay, Replayed, Settled, Settlement, Store, StoreError, Ticket,
};
use dpat_redb::redb::Database;
use dpat_redb::{Config, Outbox, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, claim, event, memory, outbox_on};

/// An outbox with its database, which the laws reopen.
struct OnRedb {
    database: Arc<Database>,
    outbox: Outbox,
    folder: Option<Folder>,
    limits: Limits,
    threads: Threads,
}

impl OnRedb {
    fn new(
        database: Arc<Database>,
        folder: Option<Folder>,
        limits: Limits,
        threads: Threads,
    ) -> Self {
        let config = Config::new("outbox").unwrap().threads(threads);
        Self {
            outbox: Outbox::open(Arc::clone(&database), config, limits).unwrap(),
            database,
            folder,
            limits,
            threads,
        }
    }

    fn reopen(self) -> Self {
        let Self {
            database,
            outbox,
            folder,
            limits,
            threads,
        } = self;
        drop(outbox);
        let database = match &folder {
            // What is in memory is gone when it is closed: only the handles are made anew.
            None => database,
            Some(folder) => {
                drop(Arc::try_unwrap(database).expect("nobody else has it"));
                folder.open()
            }
        };
        Self::new(database, folder, limits, threads)
    }

    fn in_tx(&self, now: Wall, events: &[Event], end: End) -> Result<Vec<Appended>, AppendError> {
        let tx = self.database.begin_write().unwrap();
        let mut appended = Vec::new();
        for event in events {
            appended.push(self.outbox.append(&tx, event, now)?);
        }
        match end {
            End::Commit => self.outbox.commit(tx).unwrap(),
            End::Rollback => tx.abort().unwrap(),
            // A crash of the process: nobody tells the database. Crashes of the machine are in `crash.rs`.
            End::Crash => drop(tx),
        }
        Ok(appended)
    }
}

#[async_trait::async_trait]
impl Store for OnRedb {
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

macro_rules! harness {
    ($name:ident, |$limits:ident| $fresh:expr $(, $run:item)?) => {
        struct $name;

        impl Harness for $name {
            type Outbox = OnRedb;
            fn fresh(&self, $limits: Limits) -> OnRedb {
                $fresh
            }
            fn reopen(&self, outbox: OnRedb) -> OnRedb {
                outbox.reopen()
            }
            fn in_tx(
                &self,
                outbox: &OnRedb,
                now: Wall,
                events: &[Event],
                end: End,
            ) -> Result<Vec<Appended>, AppendError> {
                outbox.in_tx(now, events, end)
            }
            $($run)?
        }
    };
}

harness!(InMemory, |limits| OnRedb::new(
    memory(),
    None,
    limits,
    Threads::Caller
));

harness!(OnFile, |limits| {
    let folder = Folder::new();
    OnRedb::new(folder.open(), Some(folder), limits, Threads::Caller)
});

harness!(
    OnThreads,
    |limits| OnRedb::new(memory(), None, limits, Threads::TokioBlocking),
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
);

mod in_memory {
    dpat_outbox::outbox_laws!(super::InMemory);
}

mod on_file {
    dpat_outbox::outbox_laws!(super::OnFile);
}

mod on_threads {
    dpat_outbox::outbox_laws!(super::OnThreads);
}

#[test]
fn a_transaction_may_hold_the_work_of_several_callers() {
    let database = memory();
    let outbox = outbox_on(&database, Limits::DEFAULT);
    let tx = database.begin_write().unwrap();
    let mut within = outbox.within(&tx).unwrap();
    within.append(&event(1, "a"), Wall::MIN).unwrap();
    let claimed = within.claim(&claim(1, 5)).unwrap();
    within.append(&event(2, "a"), Wall::MIN).unwrap();
    let settlement = Settlement {
        position: claimed[0].position,
        token: claim(1, 5).token,
        outcome: Outcome::Sent,
    };
    let settled = within.settle(Wall::from_nanos(6), &[settlement]).unwrap();
    assert_eq!(settled, [Settled::Done]);
    drop(within);
    assert_eq!(outbox.lag_now().unwrap(), Lag::default(), "not committed");
    outbox.commit(tx).unwrap();
    let lag = outbox.lag_now().unwrap();
    assert_eq!((lag.backlog_rows, lag.sent), (1, 1));
    assert_eq!(outbox.next_due().unwrap(), Some(Wall::MIN));
    let listed = outbox.rows_now(None, 9).unwrap();
    let sent = |row: &(Position, Event, dpat_outbox::RowState)| row.2.sent_at().is_some();
    assert_eq!(listed.iter().map(sent).collect::<Vec<_>>(), [true, false]);
    assert_eq!(outbox.rows_now(Some(listed[0].0), 9).unwrap(), listed[1..]);
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_outbox::conformance::outbox_laws(), || OnFile);
    conformance("redb", "outbox", laws).unwrap();
}
