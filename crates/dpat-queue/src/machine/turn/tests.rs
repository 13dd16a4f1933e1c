//! What goes by turns goes as it would by records, and what is old or out of turn as the rest.

use std::time::Duration;

use dpat_core::{Entropy as _, SplitMix64, Wall};

use crate::config::{Builder, Order, WhenFull};
use crate::machine::{Machine, Plan, Record, State, Why};
use crate::message::{Delivery, Message, MessageId, Outcome, Receipt};
use crate::queue::Queue;

const SECOND: Duration = Duration::from_secs(1);

fn machine(set: impl FnOnce(Builder) -> Builder) -> Machine {
    let builder = Queue::builder().visibility(5 * SECOND);
    Machine::new(set(builder).validated().unwrap())
}

/// Does the same by records and without them.
struct Both {
    by_records: Machine,
    direct: Machine,
    now: Wall,
    out: Vec<Delivery>,
}

impl Both {
    fn new(set: impl Fn(Builder) -> Builder) -> Self {
        Self {
            by_records: machine(&set),
            direct: machine(&set),
            now: Wall::from_nanos(1),
            out: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for machine in [&mut self.by_records, &mut self.direct] {
            machine.tick(self.now);
            while let Some(expired) = machine.expired() {
                machine.apply(expired);
            }
        }
    }

    fn send(&mut self, message: &Message) {
        let machine = &mut self.by_records;
        let sent = send_by(machine, message.clone(), |machine, id, message| {
            let record = machine.sent(id, message);
            machine.apply(record);
        });
        let in_turn = message.plain_size(usize::MAX).and_then(|size| {
            let payload = || message.parts.payload.clone();
            self.direct.join_row(size, payload)
        });
        let direct =
            in_turn.or_else(|| send_by(&mut self.direct, message.clone(), Machine::take_in));
        assert_eq!(direct, sent);
    }

    fn receive(&mut self, max: usize) {
        let mut by_records = Vec::new();
        while by_records.len() < max {
            let Some(Record::Claimed { id, count, until }) = self.by_records.claim() else {
                break;
            };
            self.by_records.apply(Record::Claimed { id, count, until });
            by_records.extend(self.by_records.delivery(id));
        }
        let mut direct = Vec::new();
        match max {
            1 => direct.extend(self.direct.hand_out()),
            _ => self.direct.hand_out_many(max, &mut direct),
        }
        assert_eq!(direct, by_records);
        self.out.extend(direct);
    }

    fn settle(&mut self, receipt: Receipt, outcome: &Outcome) {
        let decided = self.by_records.settle(receipt, outcome);
        let direct = match outcome {
            Outcome::Done => self.direct.settle_done(receipt).map(drop),
            _ => self
                .direct
                .settle(receipt, outcome)
                .map(|record| self.direct.apply(record)),
        };
        assert_eq!(direct.is_ok(), decided.is_ok());
        decided
            .into_iter()
            .for_each(|record| self.by_records.apply(record));
    }

    fn extend(&mut self, receipt: Receipt, by: Duration) {
        let [one, other] = self.each(|machine| machine.extend(receipt, by).is_ok());
        assert_eq!(one, other);
    }

    fn give_back(&mut self, receipt: Receipt) {
        self.each(|machine| machine.give_back(receipt));
    }

    fn purge(&mut self, max: usize) {
        let [one, other] = self.each(|machine| {
            let records = machine.purge(max);
            records
                .clone()
                .into_iter()
                .for_each(|one| machine.apply(one));
            records
        });
        assert_eq!(one, other);
    }

    fn pause(&mut self, paused: bool) {
        self.each(|machine| machine.apply(Record::Paused { paused }));
    }

    fn peek(&mut self, after: u64, max: usize) {
        let after = Some(MessageId::new(after.into()));
        let [one, other] = self.each(|machine| machine.peek(after, max));
        assert_eq!(one, other);
    }

    fn each<R>(&mut self, run: impl FnMut(&mut Machine) -> R) -> [R; 2] {
        [&mut self.by_records, &mut self.direct].map(run)
    }

    fn compare(&mut self, what: &str) {
        let [one, other] =
            self.each(|machine| (machine.take_made_ready(), machine.take_made_room()));
        assert_eq!(one, other, "{what}");
        let [one, other] = [&self.by_records, &self.direct];
        assert_eq!(one.image(), other.image(), "{what}");
        assert_eq!(one.stats(), other.stats(), "{what}");
        assert_eq!(one.next_due(), other.next_due(), "{what}");
        assert_eq!(one.next_expiry(), other.next_expiry(), "{what}");
    }
}

fn send_by(
    machine: &mut Machine,
    message: Message,
    take_in: impl FnOnce(&mut Machine, u64, Message),
) -> Option<u64> {
    match machine.send(&message).ok()? {
        Plan::Duplicate(id) => Some(id),
        Plan::Take { victims, id } => {
            let why = Why::Dropped;
            for id in victims {
                machine.apply(Record::Removed { id, why });
            }
            take_in(machine, id, message);
            Some(id)
        }
    }
}

fn random_message(entropy: &SplitMix64) -> Message {
    let message = Message::new("m");
    match entropy.below(20) {
        0 => message.priority(u8::try_from(entropy.below(10)).unwrap()),
        1 => message.key("k"),
        2 => message.delay(Duration::from_millis(entropy.below(3_000))),
        3 => message.ttl(Duration::from_millis(1 + entropy.below(9_000))),
        4 => message.dedup(["a", "b"][usize::try_from(entropy.below(2)).unwrap()]),
        _ => message,
    }
}

#[test]
fn without_records_the_same_happens() {
    for seed in 0..150_u64 {
        let entropy = SplitMix64::stream(seed, "turns");
        let order = [Order::Strict, Order::Aged(SECOND)][usize::from(seed % 3 == 0)];
        let full = [WhenFull::Refuse, WhenFull::DropOldest][usize::from(seed % 5 == 0)];
        let mut both = Both::new(|builder| {
            let builder = builder.order(order).when_full(full);
            builder.messages_max(300).dedup_window(2 * SECOND)
        });
        let plain = seed % 2 == 0;
        for step in 0..600 {
            match entropy.below(10) {
                0..=3 => both.send(&match plain {
                    true => Message::new("m"),
                    false => random_message(&entropy),
                }),
                4 => both.receive(1),
                5 => both.receive(2 + usize::try_from(entropy.below(9)).unwrap()),
                // The newest first, mostly: the old ones stay behind.
                6..=8 if !both.out.is_empty() => {
                    let newest = both.out.len() as u64 - 1;
                    let at = newest - entropy.below(newest.min(3) + 1);
                    let delivery = both.out.remove(usize::try_from(at).unwrap());
                    // Nearly all are done in every other run, and the row goes on.
                    let others = [8, 200][usize::from(seed % 4 < 2)];
                    let outcome = match entropy.below(others) {
                        2 => Outcome::Reject {
                            reason: "no".to_owned(),
                        },
                        0 => Outcome::Retry {
                            delay: Duration::from_millis(entropy.below(2_000)),
                            reason: "later".to_owned(),
                        },
                        1 => Outcome::release(),
                        _ => Outcome::Done,
                    };
                    both.settle(delivery.receipt, &outcome);
                }
                9 if entropy.below(4) == 0 => {
                    let pick = |len: usize| usize::try_from(entropy.below(len as u64)).unwrap();
                    let out = both.out.get(pick(both.out.len() + 1));
                    let out = out.map(|delivery| delivery.receipt);
                    match (entropy.below(16), out) {
                        (0..5, Some(receipt)) => {
                            both.extend(receipt, Duration::from_millis(entropy.below(9_000)));
                        }
                        (5..9, Some(receipt)) => both.give_back(receipt),
                        (9, _) => both.purge(pick(4)),
                        (10..12, _) => both.pause(entropy.below(3) == 0),
                        _ => both.peek(entropy.below(300), pick(9)),
                    }
                }
                _ => {
                    let most = [100, 6_000][usize::from(entropy.below(40) == 0)];
                    both.pass(Duration::from_millis(entropy.below(most)));
                }
            }
            both.compare(&format!("seed {seed}, step {step}"));
        }
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<u128> {
    let ids = deliveries.iter().map(|delivery| delivery.id().get());
    ids.collect()
}

/// Sends so many; what is handed out of them is settled, but for the first.
fn one_stays_behind(machine: &mut Machine, count: u64) -> Receipt {
    let mut stays = None;
    for _ in 0..count {
        machine.take_in(machine.next, Message::new("m"));
        let delivery = machine.hand_out().unwrap();
        match stays {
            None => stays = Some(delivery.receipt),
            Some(_) => drop(machine.settle_done(delivery.receipt).unwrap()),
        }
    }
    stays.unwrap()
}

#[test]
fn a_lease_that_stays_behind_all_others_ends_in_time_and_its_receipt_holds() {
    let mut machine = machine(|builder| builder);
    machine.tick(Wall::from_nanos(1));
    let receipt = one_stays_behind(&mut machine, 1_000);
    let slot = machine.slot_of(1).unwrap();
    let state = machine.entry(slot).unwrap().state;
    assert_eq!(state, State::Leased, "it has become old");
    assert_eq!(machine.stats().leased, 1);
    machine.tick(Wall::from_nanos(1) + 5 * SECOND);
    assert_eq!((machine.stats().lapsed, machine.stats().ready), (1, 1));
    assert!(machine.settle_done(receipt).is_ok());
    assert_eq!(machine.stats().ready, 0);
}

#[test]
fn a_message_that_stays_behind_all_others_is_handed_out_first() {
    let mut machine = machine(|builder| builder);
    machine.tick(Wall::from_nanos(1));
    machine.take_in(machine.next, Message::new("m"));
    for _ in 0..1_000 {
        let id = machine.next;
        machine.take_in(id, Message::new("m").priority(9));
        let delivery = machine.hand_out().unwrap();
        assert_eq!(delivery.id().get(), u128::from(id));
        machine.settle_done(delivery.receipt).unwrap();
    }
    for _ in 0..3 {
        machine.take_in(machine.next, Message::new("m"));
    }
    let mut handed_out = Vec::new();
    machine.hand_out_many(9, &mut handed_out);
    assert_eq!(ids(&handed_out), [1, 1_002, 1_003, 1_004]);
}
