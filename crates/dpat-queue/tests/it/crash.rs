//! The queue on a log, crashed at every operation of its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_core::{Classify, Effect, ManualTime, SplitMix64};
use dpat_queue::testing::Mutant;
use dpat_queue::{Delivery, Message, MessageId, Outcome, Queue, WalQueue};
use dpat_sim::disk::{CrashFailure, CrashPoints, CrashReport, SimDisk, Strike};
use dpat_wal::Durability;

use crate::world::{SECOND, now};

const PAYLOAD_BYTES: usize = 9_000;

/// How the queue is opened: as it should be, without syncs, or without a rule.
#[derive(Clone, Copy)]
struct Shape {
    durability: Durability,
    mutant: Option<Mutant>,
}

const SOUND: Shape = Shape {
    durability: Durability::PowerLoss,
    mutant: None,
};

const UNSYNCED: Shape = Shape {
    durability: Durability::ProcessKill,
    mutant: None,
};

fn open(disk: &SimDisk, time: &ManualTime, shape: Shape) -> Result<WalQueue<SimDisk>, ()> {
    let log = dpat_wal::Config::builder()
        .segment_bytes(48 << 10)
        .frame_bytes_max(41 << 10)
        .preallocate_bytes(4 << 10)
        .durability(shape.durability)
        .entropy(SplitMix64::new(1));
    let settings = Queue::builder()
        .message_bytes_max(16 << 10)
        .visibility(SECOND)
        .mutant(shape.mutant);
    let log = log.build().unwrap();
    let opened = WalQueue::open(disk.clone(), log, settings, time.clone());
    opened.map(|(wal, _)| wal).map_err(drop)
}

/// What was promised, which is not on the disk.
#[derive(Debug, Default)]
struct Promised {
    /// Acknowledged sends.
    sent: BTreeMap<u32, MessageId>,
    done: BTreeSet<u32>,
    dead: BTreeSet<u32>,
    /// The highest count that was handed out.
    counts: BTreeMap<u32, u32>,
    /// Messages of which something was under way when it ended.
    doubts: BTreeSet<u32>,
    /// Those of them that must be somewhere: what was under way could not remove them.
    kept: BTreeSet<u32>,
}

fn message(number: u32) -> Message {
    let text = format!("{number} {}", "x".repeat(PAYLOAD_BYTES));
    Message::new(text).dedup(number.to_string())
}

fn number(payload: &[u8]) -> u32 {
    let text = std::str::from_utf8(payload).unwrap();
    let (number, padding) = text.split_once(' ').unwrap();
    assert_eq!(padding.len(), PAYLOAD_BYTES, "the payload is whole");
    number.parse().unwrap()
}

/// One life of a program: it ends at the first error.
struct Life<'a> {
    wal: WalQueue<SimDisk>,
    time: ManualTime,
    promised: &'a mut Promised,
    held: Vec<Delivery>,
}

impl Life<'_> {
    fn queue(&self) -> &Queue {
        self.wal.queue()
    }

    /// Notes what an error leaves open.
    fn end<T>(&mut self, number: u32, result: Result<T, impl Classify>) -> Result<T, ()> {
        result.map_err(|error| {
            if error.effect() == Effect::Unknown {
                self.promised.doubts.insert(number);
            }
        })
    }

    fn send(&mut self, number: u32) -> Result<(), ()> {
        let sent = now(self.queue().send(message(number)));
        let sent = self.end(number, sent)?;
        let known = *self.promised.sent.entry(number).or_insert(sent.id);
        assert_eq!(known, sent.id, "a duplicate has the first id");
        Ok(())
    }

    fn receive(&mut self, max: usize) -> Result<(), ()> {
        let received = now(self.queue().receive_batch(max, Duration::ZERO));
        for delivery in received.map_err(drop)? {
            let number = number(delivery.payload());
            let known = self.promised.counts.insert(number, delivery.count);
            assert!(known < Some(delivery.count), "the count rises");
            assert!(!self.promised.done.contains(&number), "{number} is done");
            self.held.push(delivery);
        }
        Ok(())
    }

    fn settle(&mut self, outcome: &Outcome) -> Result<(), ()> {
        let delivery = self.held.remove(0);
        let number = number(delivery.payload());
        let settled = now(self.queue().settle(delivery.receipt, outcome.clone()));
        if settled.is_err() && *outcome != Outcome::Done {
            self.promised.kept.insert(number);
        }
        self.end(number, settled)?;
        match outcome {
            Outcome::Done => drop(self.promised.done.insert(number)),
            Outcome::Reject { .. } => drop(self.promised.dead.insert(number)),
            Outcome::Retry { .. } => {}
        }
        Ok(())
    }

    fn replay(&mut self) -> Result<(), ()> {
        let letters = now(self.queue().dead_letters(None, 1)).map_err(drop)?;
        let number = number(letters[0].message.payload());
        let replayed = now(self.queue().replay(letters[0].id));
        if replayed.is_err() {
            self.promised.kept.insert(number);
        }
        assert!(self.end(number, replayed)?);
        self.promised.dead.remove(&number);
        Ok(())
    }

    fn script(&mut self, first: u32) -> Result<(), ()> {
        let retry = Outcome::Retry {
            delay: SECOND,
            reason: "later".to_owned(),
        };
        let reject = Outcome::Reject {
            reason: "no".to_owned(),
        };
        for number in first..first + 5 {
            self.send(number)?;
        }
        self.send(first)?; // a duplicate
        self.receive(3)?;
        self.settle(&Outcome::Done)?;
        self.settle(&retry)?;
        self.settle(&reject)?;
        self.wal.snapshot().map_err(drop)?;
        self.receive(1)?;
        self.settle(&reject)?;
        self.replay()?;
        for number in first + 5..first + 8 {
            self.send(number)?;
        }
        self.time.advance(3 * SECOND);
        self.receive(10)?;
        self.settle(&Outcome::Done)?;
        self.settle(&Outcome::Done)?;
        self.wal.snapshot().map_err(drop)?;
        self.settle(&Outcome::Done)
    }
}

fn work(disk: &SimDisk, promised: &mut Promised, shape: Shape) {
    let time = ManualTime::new();
    for first in [0, 100] {
        let Ok(wal) = open(disk, &time, shape) else {
            return;
        };
        let mut life = Life {
            wal,
            time: time.clone(),
            promised,
            held: Vec::new(),
        };
        if life.script(first).is_err() || life.wal.close().is_err() {
            return;
        }
    }
}

/// Opens what is left and compares it with what was promised.
fn check(disk: &SimDisk, promised: &Promised, shape: Shape) -> Result<(), String> {
    let time = ManualTime::new();
    let wal = open(disk, &time, shape).map_err(|()| "not opened")?;
    let queue = wal.queue();
    let letters = now(queue.dead_letters(None, 100)).map_err(|error| error.to_string())?;
    let dead: BTreeSet<u32> = letters
        .iter()
        .map(|one| number(one.message.payload()))
        .collect();
    let peeked = now(queue.peek(None, 100)).map_err(|error| error.to_string())?;
    let live: BTreeMap<u32, (MessageId, u32)> = peeked
        .iter()
        .map(|one| (number(one.message.payload()), (one.id, one.count)))
        .collect();
    let fails = |number: &u32, what: &str| Err(format!("{number} {what}; {promised:?}"));
    if live.len() != peeked.len() || peeked.iter().any(|one| one.leased) {
        return Err(format!("a message is there twice, or leased: {peeked:?}"));
    }
    for (number, id) in &promised.sent {
        if live.get(number).is_some_and(|(found, _)| found != id) {
            return fails(number, "has another id");
        }
        if promised.doubts.contains(number) {
            continue;
        }
        let expected = (
            !promised.done.contains(number) && !promised.dead.contains(number),
            promised.dead.contains(number),
        );
        if (live.contains_key(number), dead.contains(number)) != expected {
            return fails(number, "is not where it was promised to be");
        }
    }
    for number in &promised.kept {
        if !live.contains_key(number) && !dead.contains(number) {
            return fails(number, "was promised to be somewhere");
        }
    }
    for number in live.keys().chain(&dead) {
        if !promised.sent.contains_key(number) && !promised.doubts.contains(number) {
            return fails(number, "was never sent");
        }
    }
    for (number, count) in &promised.counts {
        if live.get(number).is_some_and(|(_, found)| found < count) {
            return fails(number, "has forgotten that it was handed out");
        }
    }
    time.advance(10 * SECOND);
    let received =
        now(queue.receive_batch(100, Duration::ZERO)).map_err(|error| error.to_string())?;
    if received.len() != live.len() {
        return Err(format!("{} of {} are received", received.len(), live.len()));
    }
    Ok(())
}

fn enumerate(points: &CrashPoints, shape: Shape) -> Result<CrashReport, CrashFailure> {
    points.run(
        |disk, promised: &mut Promised| work(disk, promised, shape),
        |disk, promised, _| check(disk, promised, shape),
    )
}

#[test]
fn every_crash_point_keeps_what_was_promised() {
    let points = CrashPoints::new(1).crash_recovery(false).images(3);
    let report = enumerate(&points, SOUND).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.operations > 100, "{report:?}");
}

#[test]
fn every_crash_point_of_every_recovery_keeps_what_was_promised() {
    let points = CrashPoints::new(2).strikes(&[Strike::Crash]).images(1);
    let report = enumerate(&points, SOUND).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.recoveries > 100, "{report:?}");
}

#[test]
fn every_failing_call_is_answered_with_the_truth() {
    let points = CrashPoints::new(3)
        .strikes(&[Strike::Fail, Strike::Full])
        .crash_recovery(false)
        .images(2);
    enumerate(&points, SOUND).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_killed_process_loses_nothing_without_syncs() {
    let points = CrashPoints::new(4)
        .strikes(&[Strike::Kill])
        .crash_recovery(false);
    enumerate(&points, UNSYNCED).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn each_rule_of_durability_that_is_left_out_is_found() {
    for mutant in [
        Mutant::AckBeforeDurable,
        Mutant::HandOutBeforeDurable,
        Mutant::RejectInTwoSteps,
    ] {
        let shape = Shape {
            mutant: Some(mutant),
            ..SOUND
        };
        let points = CrashPoints::new(6)
            .strikes(&[Strike::Crash])
            .crash_recovery(false);
        let found = enumerate(&points.images(6), shape).is_err();
        assert!(found, "{mutant:?} is not found");
    }
}

#[test]
fn an_answer_before_its_record_is_durable_is_found() {
    // The mutant: nothing is synced, and power is lost.
    let points = CrashPoints::new(5)
        .strikes(&[Strike::Crash])
        .crash_recovery(false);
    let failure = enumerate(&points, UNSYNCED).unwrap_err();
    assert!(
        failure.message.contains("promised") || failure.message.contains("forgotten"),
        "{failure}"
    );
}
