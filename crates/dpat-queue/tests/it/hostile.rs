//! Logs that were not written by us, or not like this: an error that says where, or a queue; never a panic.

use dpat_core::{Class, Classify, Effect, Entropy, ManualTime, SplitMix64};
use dpat_queue::{Message, OpenError, Outcome, Queue, Recovered, WalQueue};
use dpat_storage::MemStorage;
use dpat_wal::{Position, Wal};

use crate::wal::config;
use crate::world::{SECOND, now, receive, send, texts};

fn open(storage: &MemStorage) -> Result<(WalQueue<MemStorage>, Recovered), OpenError> {
    let settings = Queue::builder().visibility(SECOND);
    WalQueue::open(storage.clone(), config(), settings, ManualTime::new())
}

/// The records of a queue that has seen everything.
fn records() -> Vec<Vec<u8>> {
    let storage = MemStorage::new();
    let (wal, _) = open(&storage).unwrap();
    let queue = wal.queue();
    let message = Message::new("a")
        .key("k")
        .dedup("d")
        .header("h", "v")
        .ttl(SECOND);
    now(queue.send(message.delay(SECOND))).unwrap();
    send(queue, &["b", "c", "d"]);
    let received = receive(queue, 3);
    let outcomes = [
        Outcome::Done,
        Outcome::Retry {
            delay: SECOND,
            reason: "later".to_owned(),
        },
        Outcome::Reject {
            reason: "no".to_owned(),
        },
    ];
    for (delivery, outcome) in received.iter().zip(outcomes) {
        now(queue.settle(delivery.receipt, outcome)).unwrap();
    }
    now(queue.replay(received[2].id())).unwrap();
    now(queue.set_paused(true)).unwrap();
    now(queue.purge()).unwrap();
    drop(wal);
    let (log, _) = Wal::open(storage, config()).unwrap();
    let mut reader = log.reader(Position::ZERO).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_ready().unwrap() {
        records.push(record.bytes.to_vec());
    }
    assert!(records.len() > 12, "{}", records.len());
    records
}

fn log_of(records: &[Vec<u8>]) -> MemStorage {
    let storage = MemStorage::new();
    let (log, _) = Wal::open(storage.clone(), config()).unwrap();
    for record in records {
        log.append(record).wait().unwrap();
    }
    log.close().unwrap();
    storage
}

#[test]
fn a_record_of_somebody_else_is_refused_with_its_place() {
    let mut records = records();
    records.insert(2, b"\xff nonsense".to_vec());
    let error = open(&log_of(&records)).err().unwrap();
    assert!(
        matches!(&error, OpenError::Record { position, .. } if position.0 == 2),
        "{error}"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
}

#[test]
fn flipped_bits_and_missing_and_shuffled_records_never_panic() {
    let records = records();
    let entropy = SplitMix64::new(1);
    let pick = |len: usize| usize::try_from(entropy.below(len as u64)).unwrap();
    let mut opened = 0;
    for _ in 0..2_000 {
        let mut records = records.clone();
        for _ in 0..=pick(3) {
            match pick(4) {
                0 => drop(records.remove(pick(records.len()))),
                1 => {
                    let len = records.len();
                    records.swap(pick(len), pick(len));
                }
                _ => {
                    let at = pick(records.len());
                    let record = &mut records[at];
                    let byte = pick(record.len());
                    record[byte] ^= 1 << pick(8);
                }
            }
        }
        let Ok((wal, _)) = open(&log_of(&records)) else {
            continue;
        };
        opened += 1;
        // Whatever it is, it is a queue.
        let queue = wal.queue();
        now(queue.set_paused(false)).unwrap();
        let sent = now(queue.send(Message::new("after")));
        let received = texts(queue);
        if sent.is_ok() {
            assert!(received.contains(&"after".to_owned()));
        }
        now(queue.purge()).unwrap();
        now(queue.stats()).unwrap();
    }
    assert!(opened > 200, "{opened}");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let storage = MemStorage::new();
    let (log, _) = Wal::open(storage.clone(), config()).unwrap();
    let at = log.append(&records()[0]).wait().unwrap();
    let mut snapshot = log.snapshot(at.after(1)).unwrap();
    snapshot.write(&[200, 0, 0, 0, 1]).unwrap();
    snapshot.finish().unwrap();
    log.close().unwrap();
    let error = open(&storage).err().unwrap();
    assert!(
        matches!(&error, OpenError::Snapshot { byte: 0, .. }),
        "{error}"
    );
}

#[test]
fn stored_bytes_stay_the_same() {
    let stored = records();
    // V0, Sent, id 2 at 2020-01-01, at once and for ever, payload "b", no headers, key, deduplication key; priority 4.
    let mut sent = vec![0, 0, 2];
    let numbers = [1_577_836_800_000_000_000_u64, 0, u64::MAX];
    for mut number in numbers {
        while number >= 128 {
            sent.push(u8::try_from(number & 127).unwrap() | 128);
            number >>= 7;
        }
        sent.push(u8::try_from(number).unwrap());
    }
    sent.extend([1, b'b', 0, 0, 0, 4]);
    assert_eq!(stored[1], sent);
    // Claimed: id 2, the first time, until a second later.
    assert_eq!(stored[4][..4], [0, 1, 2, 1]);
    let done = stored.iter().find(|record| record[1] == 2).unwrap();
    assert_eq!(*done, [0, 2, 2]);
}

#[test]
fn a_log_whose_frames_are_too_small_is_refused_at_the_start() {
    let log = dpat_wal::Config::builder()
        .frame_bytes_max(64 << 10)
        .build()
        .unwrap();
    let opened = WalQueue::open(MemStorage::new(), log, Queue::builder(), ManualTime::new());
    let error = opened.err().unwrap();
    let text = error.to_string();
    assert!(
        text.starts_with("frame_bytes_max: 65536 is not between 1069056"),
        "{text}"
    );
}
