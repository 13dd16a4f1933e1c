//! What is asked of the file.

use dpat_core::Wall;
use dpat_outbox::{Claimed, Limits, Outcome, Settlement, Store};
use dpat_redb::Outbox;
use dpat_redb::redb::Database;

use crate::kit::{Folder, claim, counted, event, outbox_on};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Some events through all states.
fn through(database: &Database, outbox: &Outbox, numbers: std::ops::Range<u64>, token: u8) {
    let tx = database.begin_write().unwrap();
    for number in numbers {
        outbox.append(&tx, &event(number, ""), Wall::MIN).unwrap();
    }
    outbox.commit(tx).unwrap();
    let batch = run(outbox.claim(&claim(token, 5))).unwrap();
    let sent = |row: &Claimed| Settlement {
        position: row.position,
        token: claim(token, 5).token,
        outcome: Outcome::Sent,
    };
    let settlements: Vec<Settlement> = batch.rows.iter().map(sent).collect();
    run(outbox.settle(Wall::from_nanos(6), &settlements)).unwrap();
}

#[test]
fn a_commit_syncs_once_and_looking_syncs_never() {
    let folder = Folder::new();
    let (database, counts) = counted(&folder, 1 << 20);
    let outbox = outbox_on(&database, Limits::DEFAULT);
    // The file grows, which is a sync of its own.
    through(&database, &outbox, 1_000..2_000, 1);
    let before = counts.syncs();
    through(&database, &outbox, 0..10, 2);
    assert_eq!(
        counts.syncs() - before,
        3,
        "an append, a claim, a settlement"
    );
    let before = counts.syncs();
    assert_eq!(run(outbox.claim(&claim(3, 5))).unwrap().rows.len(), 0);
    assert_eq!(run(outbox.purge(Wall::MIN, 99)).unwrap(), 0);
    assert_eq!(run(outbox.lag()).unwrap().sent, 1_010);
    assert_eq!(counts.syncs(), before, "nothing to claim, nothing to purge");
    assert_eq!(run(outbox.purge(Wall::MAX, 10)).unwrap(), 10);
    assert_eq!(counts.syncs() - before, 1, "a step of purging");
}

/// How often the file is read for a claim of one event, with so many sent ones and so many that wait for later.
fn reads_of_a_claim(rows: u64) -> u64 {
    let folder = Folder::new();
    {
        let (database, _) = counted(&folder, 64 << 20);
        let outbox = outbox_on(&database, Limits::DEFAULT);
        let tx = database.begin_write().unwrap();
        let mut within = outbox.within(&tx).unwrap();
        for number in 0..rows {
            within.append(&event(number, ""), Wall::MIN).unwrap();
        }
        let mut claimed = claim(1, 5);
        claimed.rows_max = usize::MAX;
        let claimed = within.claim(&claimed).unwrap();
        let settle = |row: &Claimed| Settlement {
            position: row.position,
            token: claim(1, 5).token,
            outcome: match row.position.0 % 2 {
                0 => Outcome::Sent,
                _ => Outcome::Retry {
                    not_before: Wall::from_nanos(1_000_000),
                },
            },
        };
        let settlements: Vec<Settlement> = claimed.iter().map(settle).collect();
        assert_eq!(settlements.len() as u64, rows);
        within.settle(Wall::from_nanos(6), &settlements).unwrap();
        let due = event(rows, "due");
        within.append(&due, Wall::from_nanos(7)).unwrap();
        drop(within);
        outbox.commit(tx).unwrap();
    }
    let (database, counts) = counted(&folder, 0);
    let outbox = outbox_on(&database, Limits::DEFAULT);
    let before = counts.reads();
    assert_eq!(run(outbox.claim(&claim(2, 50))).unwrap().rows.len(), 1);
    counts.reads() - before
}

#[test]
fn a_claim_reads_no_more_of_a_large_outbox_than_of_a_small_one() {
    let (small, large) = (reads_of_a_claim(100), reads_of_a_claim(20_000));
    // Trees of 20 000 rows are a level or two deeper than trees of 100: a few pages for each of ten tables.
    assert!(large <= small * 3, "{small} reads, then {large}");
}
