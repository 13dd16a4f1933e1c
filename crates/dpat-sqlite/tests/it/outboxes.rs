//! The laws of an outbox, on the caller's thread and on blocking threads.

use dpat_core::Wall;
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{
    AppendError, Appended, Batch, Claim, Event, Lag, Limits, Outcome, Parked, Position, Repair,
    Repaired, Replay, Replayed, Settled, Settlement, Store, StoreError, Ticket,
};
use dpat_sqlite::{Outbox, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, claim, event};

/// An outbox with its file, which the laws reopen.
pub(crate) struct OnSqlite {
    pub(crate) outbox: Outbox,
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
    threads: Threads,
}

impl OnSqlite {
    pub(crate) fn new(folder: Folder, limits: Limits, threads: Threads) -> Self {
        Self {
            outbox: Outbox::open(&folder.config().threads(threads), limits).unwrap(),
            folder,
            limits,
            threads,
        }
    }

    fn in_tx(&self, now: Wall, events: &[Event], end: End) -> Result<Vec<Appended>, AppendError> {
        let mut connection = self.folder.connect();
        let tx = connection.transaction().unwrap();
        let mut appended = Vec::new();
        for event in events {
            appended.push(self.outbox.append(&tx, event, now)?);
        }
        match end {
            End::Commit => self.outbox.commit(tx).unwrap(),
            End::Rollback => tx.rollback().unwrap(),
            // A crash as the file sees it: nobody writes a commit. Killed processes are in `process.rs`.
            End::Crash => drop(tx),
        }
        Ok(appended)
    }
}

#[async_trait::async_trait]
impl Store for OnSqlite {
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
    ($name:ident, $threads:expr $(, $run:item)?) => {
        struct $name;

        impl Harness for $name {
            type Outbox = OnSqlite;
            fn fresh(&self, limits: Limits) -> OnSqlite {
                OnSqlite::new(Folder::new(), limits, $threads)
            }
            fn reopen(&self, outbox: OnSqlite) -> OnSqlite {
                let OnSqlite {
                    outbox,
                    folder,
                    limits,
                    threads,
                } = outbox;
                drop(outbox);
                OnSqlite::new(folder, limits, threads)
            }
            fn in_tx(
                &self,
                outbox: &OnSqlite,
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

harness!(OnFile, Threads::Caller);

harness!(
    OnThreads,
    Threads::TokioBlocking,
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
);

mod on_file {
    dpat_outbox::outbox_laws!(super::OnFile);
}

mod on_threads {
    dpat_outbox::outbox_laws!(super::OnThreads);
}

#[test]
fn a_transaction_may_hold_the_work_of_several_callers() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    let tx = connection.transaction().unwrap();
    let mut within = outbox.within(&tx);
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
    assert_eq!(outbox.lag_now().unwrap(), Lag::default(), "not committed");
    outbox.commit(tx).unwrap();
    let lag = outbox.lag_now().unwrap();
    assert_eq!((lag.backlog_rows, lag.sent), (1, 1));
    assert_eq!(outbox.next_due().unwrap(), Some(Wall::MIN));
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_outbox::conformance::outbox_laws(), || OnFile);
    conformance("sqlite", "outbox", laws).unwrap();
}
