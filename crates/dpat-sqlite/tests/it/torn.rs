//! A power cut, as the files show it: the log ends at any place, and what was committed before is there as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dpat_core::Wall;
use dpat_idempotency::{Fingerprint, Key};
use dpat_outbox::{Outcome, Settlement, Store};
use dpat_sqlite::rusqlite::Connection;
use dpat_sqlite::{Config, EngineError, Inbox, Outbox};

use crate::kit::{Folder, claim, event, number, number_of, run};

/// After a commit: how long the log was, and what was acknowledged by then.
#[derive(Clone, Default)]
struct Promise {
    log_bytes: u64,
    committed: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    handled: BTreeSet<u64>,
}

fn log(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Appends, claims, handles and settles, and notes after each commit what was promised.
///
/// The files go to `frozen` while they are open: the last connection would take the log into the file.
fn workload(folder: &Folder, frozen: &Path) -> Vec<Promise> {
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    let inbox = Inbox::open(&connection, &folder.config()).unwrap();
    let tables = "CREATE TABLE own (id INTEGER PRIMARY KEY); CREATE TABLE effects (id INTEGER PRIMARY KEY, count)";
    connection.execute_batch(tables).unwrap();
    // Everything before is in the file; everything from here on is in the log.
    let truncated = "PRAGMA wal_checkpoint(TRUNCATE)";
    assert_eq!(number_of(&connection, truncated), 0);
    let mut now = Promise::default();
    let mut promises = Vec::new();
    let mut note = |now: &mut Promise| {
        now.log_bytes = fs::metadata(log(&folder.file())).unwrap().len();
        promises.push(now.clone());
    };
    for round in 0..3_u64 {
        let numbers = [round * 3, round * 3 + 1, round * 3 + 2];
        for (number, key) in numbers.into_iter().zip(["a", "a", ""]) {
            let tx = connection.transaction().unwrap();
            tx.execute(
                "INSERT INTO own VALUES (?1)",
                [i64::try_from(number).unwrap()],
            )
            .unwrap();
            outbox
                .append(&tx, &event(number, key), Wall::from_nanos(round))
                .unwrap();
            outbox.commit(tx).unwrap();
            now.committed.insert(number);
            note(&mut now);
        }
        let asked = claim(u8::try_from(round).unwrap(), 1_000 * (round + 1));
        let rows = run(outbox.claim(&asked)).unwrap().rows;
        note(&mut now);
        let mut settlements = Vec::new();
        for row in &rows {
            handle(&mut connection, &inbox, number(&row.event));
            now.handled.insert(number(&row.event));
            note(&mut now);
            settlements.push(Settlement {
                position: row.position,
                token: asked.token,
                outcome: Outcome::Sent,
            });
        }
        run(outbox.settle(Wall::from_nanos(round), &settlements)).unwrap();
        now.sent.extend(rows.iter().map(|row| number(&row.event)));
        note(&mut now);
    }
    fs::copy(folder.file(), frozen).unwrap();
    fs::copy(log(&folder.file()), log(frozen)).unwrap();
    promises
}

/// Marker and effect in one transaction: the receiver's.
fn handle(connection: &mut Connection, inbox: &Inbox, number: u64) {
    let tx = connection.transaction().unwrap();
    let key = Key::new("receiver", &number.to_string()).unwrap();
    inbox
        .accept(&tx, &key, Fingerprint::NONE, Wall::from_nanos(number), |tx| {
            let add = "INSERT INTO effects VALUES (?1, 1) ON CONFLICT DO UPDATE SET count = count + 1";
            tx.execute(add, [i64::try_from(number).unwrap()])
                .map_err(|error| error.to_string())?;
            Ok::<_, String>("".into())
        })
        .unwrap();
    dpat_sqlite::commit(tx).unwrap();
}

fn numbers(connection: &Connection, sql: &str) -> BTreeSet<u64> {
    let mut found = connection.prepare(sql).unwrap();
    let found = found.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    found
        .map(|number| u64::try_from(number.unwrap()).unwrap())
        .collect()
}

/// Opens what is left, and compares it with what was promised; then the next relay does the rest.
fn check(config: &Config, promise: &Promise) -> Result<(), EngineError> {
    let mut connection = config.connect().unwrap();
    let sound: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    let outbox = Outbox::open(config, dpat_outbox::Limits::DEFAULT).unwrap();
    let inbox = Inbox::open(&connection, config).unwrap();
    let own = numbers(&connection, "SELECT id FROM own");
    assert!(promise.committed.is_subset(&own), "lost: {own:?}");
    let handled = numbers(&connection, "SELECT id FROM effects");
    assert!(promise.handled.is_subset(&handled), "lost: {handled:?}");
    let lag = outbox.lag_now()?;
    assert_eq!(lag.backlog_rows + lag.sent, own.len() as u64, "{own:?}");
    assert!(lag.sent >= promise.sent.len() as u64, "lost: {lag:?}");
    let mut came = BTreeSet::new();
    for round in 0..4 {
        let asked = claim(9, 1_000_000 + round * 1_000);
        let rows = run(outbox.claim(&asked)).unwrap().rows;
        let mut settlements = Vec::new();
        for row in &rows {
            let number = number(&row.event);
            assert!(!promise.sent.contains(&number), "{number} comes again");
            came.insert(number);
            handle(&mut connection, &inbox, number);
            settlements.push(Settlement {
                position: row.position,
                token: asked.token,
                outcome: Outcome::Sent,
            });
        }
        run(outbox.settle(Wall::from_nanos(1_000_000), &settlements)).unwrap();
    }
    assert!(came.is_subset(&own), "{came:?} without their change");
    assert_eq!(outbox.lag_now()?.sent, own.len() as u64);
    assert_eq!(numbers(&connection, "SELECT id FROM effects"), own);
    let twice = "SELECT count(*) FROM effects WHERE count <> 1";
    assert_eq!(number_of(&connection, twice), 0);
    Ok(())
}

/// How a log ends after so many bytes.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With the file.
    Short,
    /// With bytes that were never written so.
    Garbage,
}

#[test]
fn every_end_of_the_log_keeps_what_was_promised() {
    let (folder, frozen) = (Folder::new(), Folder::new());
    let promises = workload(&folder, &frozen.file());
    let whole = fs::read(log(&frozen.file())).unwrap();
    let mut images = 0;
    let mut before = Promise::default();
    for promise in promises {
        assert!(
            promise.log_bytes > before.log_bytes,
            "a commit is in the log"
        );
        let middle = before.log_bytes.midpoint(promise.log_bytes);
        for (cut, known) in [
            (middle, &before),
            (promise.log_bytes - 1, &before),
            (promise.log_bytes, &promise),
        ] {
            for end in [End::Short, End::Garbage] {
                let image = Folder::new();
                fs::copy(frozen.file(), image.file()).unwrap();
                let mut log_image = whole[..usize::try_from(cut).unwrap()].to_vec();
                if matches!(end, End::Garbage) {
                    log_image.extend([0xa5; 9_000]);
                }
                fs::write(log(&image.file()), log_image).unwrap();
                check(&image.config(), known).unwrap();
                images += 1;
            }
        }
        before = promise;
    }
    assert!(images > 100, "{images}");
}
