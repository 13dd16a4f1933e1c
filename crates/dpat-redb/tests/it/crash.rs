//! Every crash point of append, claim and settlement, on a simulated disk.

#![allow(
    clippy::disallowed_types,
    reason = "a lock of std around a file, in a test"
)]

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use dpat_core::{Classify, Effect, Wall};
use dpat_idempotency::inbox::Accepted;
use dpat_idempotency::{Fingerprint, Key};
use dpat_outbox::{Limits, Outcome, Settlement, Store};
use dpat_redb::redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError,
};
use dpat_redb::{Config, Inbox, Outbox, commit};
use dpat_sim::disk::{CrashFailure, CrashPoints, SimDisk, SimFile, Strike};
use dpat_storage::{File, ROOT, Storage};

use crate::kit::{claim, event, number};

const FILE: &str = "redb";
const OWN: TableDefinition<'_, u64, ()> = TableDefinition::new("own");
const EFFECTS: TableDefinition<'_, u64, u64> = TableDefinition::new("effects");

/// A file of a simulated disk, as redb sees files.
struct OnDisk(Mutex<SimFile>);

impl fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDisk")
    }
}

impl OnDisk {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut SimFile) -> Result<T, dpat_storage::StorageError>,
    ) -> io::Result<T> {
        work(&mut self.0.lock().unwrap()).map_err(io::Error::other)
    }
}

impl StorageBackend for OnDisk {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| file.read_exact_at(offset, out))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.truncate(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.with(SimFile::sync_data)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_at(offset, data))
    }
}

struct Db {
    database: Arc<Database>,
    outbox: Outbox,
    inbox: Inbox,
}

fn open(disk: &SimDisk) -> Result<Db, Box<dyn std::error::Error>> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(_) => {
            let file = disk.create(FILE)?;
            disk.sync_dir(ROOT)?;
            file
        }
    };
    let database = Database::builder()
        .set_cache_size(1 << 20)
        .create_with_backend(OnDisk(Mutex::new(file)))?;
    let database = Arc::new(database);
    Ok(Db {
        outbox: Outbox::open(
            Arc::clone(&database),
            Config::new("outbox")?,
            Limits::DEFAULT,
        )?,
        inbox: Inbox::open(&database, &Config::new("inbox")?)?,
        database,
    })
}

/// What was promised, and what may have happened all the same.
#[derive(Default)]
struct Ledger {
    opened: bool,
    committed: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    handled: BTreeSet<u64>,
    doubt: BTreeSet<u64>,
    doubt_sent: BTreeSet<u64>,
    doubt_handled: BTreeSet<u64>,
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("on the caller's thread nothing is pending"),
    }
}

/// Change and event in one transaction.
fn produce(db: &Db, ledger: &mut Ledger, numbers: &[(u64, &str)]) -> Option<()> {
    let tx = db.database.begin_write().ok()?;
    for (number, key) in numbers {
        let mut own = tx.open_table(OWN).ok()?;
        own.insert(number, ()).ok()?;
        drop(own);
        db.outbox
            .append(&tx, &event(*number, key), Wall::from_nanos(*number))
            .ok()?;
    }
    let numbers = numbers.iter().map(|(number, _)| *number);
    match db.outbox.commit(tx) {
        Ok(()) => ledger.committed.extend(numbers),
        Err(error) => {
            assert_eq!(error.effect(), Effect::Unknown);
            ledger.doubt.extend(numbers);
            return None;
        }
    }
    Some(())
}

/// Marker and effect in one transaction: the receiver's.
fn handle(db: &Db, ledger: &mut Ledger, number: u64) -> Option<()> {
    let tx = db.database.begin_write().ok()?;
    let key = Key::new("receiver", &number.to_string()).unwrap();
    let at = Wall::from_nanos(number);
    let accepted = db.inbox.accept(&tx, &key, Fingerprint::NONE, at, |tx| {
        let mut effects = tx.open_table(EFFECTS).map_err(io::Error::other)?;
        let before = effects.get(number).map_err(io::Error::other)?;
        let before = before.map_or(0, |before| before.value());
        effects
            .insert(number, before + 1)
            .map_err(io::Error::other)?;
        Ok::<_, io::Error>("".into())
    });
    if !matches!(accepted.ok()?, Accepted::First(_)) {
        return Some(());
    }
    match commit(tx) {
        Ok(()) => {
            ledger.handled.insert(number);
            Some(())
        }
        Err(_) => {
            ledger.doubt_handled.insert(number);
            None
        }
    }
}

/// Claims, handles and settles everything that can be claimed.
fn relay(db: &Db, ledger: &mut Ledger, token: u8, now: u64) -> Option<()> {
    let asked = claim(token, now);
    let batch = run(db.outbox.claim(&asked)).ok()?;
    let mut settlements = Vec::new();
    for row in &batch.rows {
        handle(db, ledger, number(&row.event))?;
        settlements.push(Settlement {
            position: row.position,
            token: asked.token,
            outcome: Outcome::Sent,
        });
    }
    let numbers = batch.rows.iter().map(|row| number(&row.event));
    match run(db.outbox.settle(Wall::from_nanos(now), &settlements)) {
        Ok(_) => ledger.sent.extend(numbers),
        Err(error) => {
            if error.effect() == Effect::Unknown {
                ledger.doubt_sent.extend(numbers);
            }
            return None;
        }
    }
    Some(())
}

fn workload(disk: &SimDisk, ledger: &mut Ledger) -> Option<()> {
    let db = open(disk).ok()?;
    ledger.opened = true;
    produce(&db, ledger, &[(1, "a"), (2, "b")])?;
    produce(&db, ledger, &[(3, "a")])?;
    relay(&db, ledger, 1, 1_000)?;
    produce(&db, ledger, &[(4, "a"), (5, "")])?;
    relay(&db, ledger, 2, 2_000)?;
    run(db.outbox.purge(Wall::from_nanos(1_500), 2)).ok()?;
    Some(())
}

fn own(database: &Database) -> Result<BTreeSet<u64>, AnyError> {
    let tx = database.begin_read()?;
    let table = match tx.open_table(OWN) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let mut own = BTreeSet::new();
    for entry in table.iter()? {
        own.insert(entry?.0.value());
    }
    Ok(own)
}

type AnyError = Box<dyn std::error::Error>;

fn effects(database: &Database) -> Result<Vec<(u64, u64)>, AnyError> {
    let tx = database.begin_read()?;
    let table = match tx.open_table(EFFECTS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut effects = Vec::new();
    for entry in table.iter()? {
        let (number, count) = entry?;
        effects.push((number.value(), count.value()));
    }
    Ok(effects)
}

/// Opens what is left, and compares it with what was promised.
fn judge(disk: &SimDisk, ledger: &Ledger) -> Result<Db, String> {
    let db = open(disk).map_err(|error| format!("does not open: {error}"))?;
    let own = own(&db.database).map_err(|error| error.to_string())?;
    if !ledger.committed.is_subset(&own) {
        return Err(format!("lost: {:?} is left of {:?}", own, ledger.committed));
    }
    let known: BTreeSet<u64> = ledger.committed.union(&ledger.doubt).copied().collect();
    if !own.is_subset(&known) {
        return Err(format!("{own:?} is more than {known:?}"));
    }
    let lag = db.outbox.lag_now().map_err(|error| error.to_string())?;
    if lag.sent + lag.backlog_rows + 2 < own.len() as u64 {
        return Err(format!("{lag:?} of {own:?}"));
    }
    Ok(db)
}

fn check(disk: &SimDisk, ledger: &Ledger) -> Result<(), String> {
    if !ledger.opened {
        return Ok(());
    }
    let db = judge(disk, ledger)?;
    let own = own(&db.database).map_err(|error| error.to_string())?;
    // The next relay finds the rest, and each effect is there once.
    let mut rest = Ledger::default();
    for round in 0..4 {
        let now = 1_000_000 + round * 1_000;
        relay(&db, &mut rest, 9, now).ok_or("the next relay fails")?;
    }
    for number in &own {
        let before = ledger.sent.contains(number) || ledger.doubt_sent.contains(number);
        if !rest.sent.contains(number) && !before {
            return Err(format!("{number} is committed and was never relayed"));
        }
        if rest.sent.contains(number) && ledger.sent.contains(number) {
            return Err(format!("{number} is settled and comes again"));
        }
    }
    if !rest.sent.is_subset(&own) {
        return Err(format!("{:?} came without their change", rest.sent));
    }
    for (number, count) in effects(&db.database).map_err(|error| error.to_string())? {
        if count != 1 || !own.contains(&number) {
            return Err(format!("{number} took effect {count} times"));
        }
    }
    let lag = db.outbox.lag_now().map_err(|error| error.to_string())?;
    let found = effects(&db.database).map_err(|error| error.to_string())?;
    if lag.backlog_rows != 0 || found.len() != own.len() {
        return Err(format!("{lag:?}, {found:?} of {own:?}"));
    }
    Ok(())
}

#[track_caller]
fn passes(result: Result<dpat_sim::disk::CrashReport, CrashFailure>) -> u64 {
    match result {
        Ok(report) => report.images,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn every_crash_point_of_append_claim_and_settle_keeps_what_was_promised() {
    let points = CrashPoints::new(1)
        .strikes(&[Strike::Crash, Strike::Kill])
        .images(2)
        .crash_recovery(false);
    let images = passes(points.run(
        |disk, ledger: &mut Ledger| {
            let _ = workload(disk, ledger);
        },
        |disk, ledger, _| check(disk, ledger),
    ));
    assert!(images > 100, "{images}");
}

#[test]
fn every_call_that_fails_is_answered_with_the_truth() {
    let points = CrashPoints::new(2)
        .strikes(&[Strike::Fail, Strike::Full])
        .images(1)
        .crash_recovery(false);
    let images = passes(points.run(
        |disk, ledger: &mut Ledger| {
            let _ = workload(disk, ledger);
        },
        |disk, ledger, _| check(disk, ledger),
    ));
    assert!(images > 100, "{images}");
}
