//! Tables, and random commands: the image and the records of a machine always lead to the same queue.

use std::time::Duration;

use dpat_core::{Entropy, SplitMix64, Wall};

use super::{Machine, Plan, Record, Why};
use crate::config::{Builder, Config, Order, WhenFull};
use crate::message::{Delivery, Message, MessageId, Outcome, Stats};
use crate::queue::Queue;

const SECOND: Duration = Duration::from_secs(1);

fn config(set: impl FnOnce(Builder) -> Builder) -> Config {
    set(Queue::builder().visibility(SECOND))
        .validated()
        .unwrap()
}

/// A machine that keeps its records.
struct Kept {
    machine: Machine,
    records: Vec<Record>,
    now: Wall,
}

impl Kept {
    fn new(config: Config) -> Self {
        Self {
            machine: Machine::new(config),
            records: Vec::new(),
            now: Wall::from_nanos(1),
        }
    }

    fn apply(&mut self, record: Record) {
        self.records.push(record.clone());
        self.machine.apply(record);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.machine.tick(self.now);
        while let Some(expired) = self.machine.expired() {
            self.apply(expired);
        }
    }

    fn send(&mut self, message: Message) -> Option<u64> {
        match self.machine.send(&message).ok()? {
            Plan::Duplicate(id) => Some(id),
            Plan::Take { victims, id } => {
                let why = Why::Dropped;
                for id in victims {
                    self.apply(Record::Removed { id, why });
                }
                let record = self.machine.sent(id, message);
                self.apply(record);
                Some(id)
            }
        }
    }

    fn receive(&mut self) -> Option<Delivery> {
        let record = self.machine.claim()?;
        let Record::Claimed { id, .. } = record else {
            return None;
        };
        self.apply(record);
        self.machine.delivery(id)
    }

    fn receive_all(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(delivery) = self.receive() {
            texts.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
        }
        texts
    }

    fn settle(&mut self, delivery: &Delivery, outcome: &Outcome) -> bool {
        let settled = self.machine.settle(delivery.receipt, outcome);
        settled.map(|record| self.apply(record)).is_ok()
    }
}

/// What can be seen of a queue that nobody holds anything of.
fn seen(machine: &Machine) -> (Vec<Record>, Stats) {
    (machine.image(), machine.stats())
}

fn recovered(config: Config, records: impl IntoIterator<Item = Record>, now: Wall) -> Machine {
    let mut machine = Machine::new(config);
    records.into_iter().for_each(|record| machine.apply(record));
    machine.recovered();
    machine.tick(now);
    machine
}

#[test]
fn an_aged_message_overtakes_a_higher_priority() {
    let mut kept = Kept::new(config(|builder| builder.order(Order::Aged(10 * SECOND))));
    kept.send(Message::new("low").priority(2));
    kept.pass(19 * SECOND);
    kept.send(Message::new("higher").priority(4));
    kept.pass(2 * SECOND);
    kept.send(Message::new("late").priority(4));
    // 2 + 21/10 against 4 + 2/10 and 4: waiting has made up for two priorities, not for more.
    assert_eq!(kept.receive_all(), ["higher", "low", "late"]);

    let mut strict = Kept::new(config(|builder| builder));
    strict.send(Message::new("low").priority(2));
    strict.pass(1_000 * SECOND);
    strict.send(Message::new("higher").priority(4));
    assert_eq!(strict.receive_all(), ["higher", "low"]);
}

#[test]
fn where_messages_make_room_the_oldest_of_the_lowest_priority_goes_and_nothing_that_is_out() {
    let policy = |builder: Builder| builder.messages_max(3).when_full(WhenFull::DropOldest);
    let mut kept = Kept::new(config(policy));
    kept.send(Message::new("out"));
    let out = kept.receive().unwrap();
    kept.send(Message::new("high").priority(9));
    kept.send(Message::new("old"));
    kept.send(Message::new("new"));
    assert!(kept.settle(&out, &Outcome::release()));
    assert_eq!(kept.receive_all(), ["high", "out", "new"]);
    assert!(kept.send(Message::new("no room")).is_none(), "all are out");
    assert_eq!(kept.machine.stats().dropped, 1);
}

#[test]
fn bytes_are_limited_and_a_large_message_takes_the_room_of_several() {
    let policy = |builder: Builder| builder.bytes_max(2_000).when_full(WhenFull::DropOldest);
    let mut kept = Kept::new(config(policy));
    for _ in 0..4 {
        kept.send(Message::new(vec![0; 200]));
    }
    assert_eq!(kept.machine.stats().bytes, 4 * 456);
    kept.send(Message::new(vec![0; 1_000])).unwrap();
    assert_eq!(kept.machine.stats().dropped, 3);
    assert!(kept.send(Message::new(vec![0; 2_000])).is_none());
    assert_eq!(
        kept.machine.stats().dropped,
        3,
        "what cannot fit drops nobody"
    );
}

#[test]
fn an_old_receipt_settles_until_the_message_is_handed_out_again() {
    let mut kept = Kept::new(config(|builder| builder));
    kept.send(Message::new("a"));
    let first = kept.receive().unwrap();
    kept.pass(2 * SECOND);
    assert_eq!(kept.machine.stats().lapsed, 1);
    assert!(
        kept.settle(&first, &Outcome::Done),
        "late, and nobody else has it"
    );
    kept.send(Message::new("b"));
    let first = kept.receive().unwrap();
    kept.pass(2 * SECOND);
    let second = kept.receive().unwrap();
    assert!(!kept.settle(&first, &Outcome::Done));
    assert!(kept.settle(&second, &Outcome::Done));
}

#[test]
fn the_window_of_deduplication_is_bounded_in_keys_and_in_time() {
    let mut kept = Kept::new(config(|builder| {
        builder.dedup_max(2).dedup_window(10 * SECOND)
    }));
    let first = kept.send(Message::new("").dedup("a"));
    assert!(kept.send(Message::new("").dedup("b")).is_some());
    assert!(
        kept.send(Message::new("").dedup("c")).is_none(),
        "one key more"
    );
    assert_eq!(kept.send(Message::new("").dedup("a")), first);
    kept.pass(10 * SECOND);
    let later = kept.send(Message::new("").dedup("a"));
    assert!(later.is_some() && later != first);
}

/// A random command; ids and receipts are those of earlier ones.
fn step(kept: &mut Kept, entropy: &SplitMix64, out: &mut Vec<Delivery>) {
    let pick = |len: usize| usize::try_from(entropy.below(len as u64)).unwrap();
    match entropy.below(12) {
        0..=3 => {
            let mut message = Message::new(vec![7; pick(50)]);
            if entropy.below(2) == 0 {
                message = message.key(["a", "b"][pick(2)]);
            }
            if entropy.below(4) == 0 {
                message = message.delay(Duration::from_millis(entropy.below(3_000)));
            }
            if entropy.below(4) == 0 {
                message = message.ttl(Duration::from_millis(1 + entropy.below(3_000)));
            }
            if entropy.below(4) == 0 {
                message = message.dedup(["x", "y", "z"][pick(3)]);
            }
            let priority = u8::try_from(entropy.below(10)).unwrap();
            kept.send(message.priority(priority));
        }
        4..=6 => out.extend(kept.receive()),
        7..=9 if !out.is_empty() => {
            let delivery = out.swap_remove(pick(out.len()));
            let outcome = match entropy.below(4) {
                0 => Outcome::Reject {
                    reason: "no".to_owned(),
                },
                1 => Outcome::Retry {
                    delay: Duration::from_millis(entropy.below(2_000)),
                    reason: "later".to_owned(),
                },
                _ => Outcome::Done,
            };
            kept.settle(&delivery, &outcome);
        }
        10 => {
            let letters = kept.machine.dead(None, 10);
            if let Some(letter) = letters.get(pick(10)) {
                let replay = kept.machine.replay(letter.id).ok().flatten();
                let discard = kept.machine.discard(letter.id);
                let record = if entropy.below(2) == 0 {
                    replay
                } else {
                    discard
                };
                record.into_iter().for_each(|record| kept.apply(record));
            }
        }
        _ => kept.pass(Duration::from_millis(entropy.below(1_500))),
    }
}

#[test]
fn records_and_images_lead_to_the_same_queue() {
    for seed in 0..200 {
        let entropy = SplitMix64::stream(seed, "machine");
        let policy = [WhenFull::Refuse, WhenFull::DropOldest][usize::try_from(seed % 2).unwrap()];
        let settings = config(|builder| {
            let builder = builder
                .messages_max(12)
                .dead_max(5)
                .dedup_window(2 * SECOND);
            builder.when_full(policy)
        });
        let mut kept = Kept::new(settings);
        let mut out = Vec::new();
        for _ in 0..120 {
            step(&mut kept, &entropy, &mut out);
        }
        kept.machine.recovered();
        kept.machine.tick(kept.now);
        let image = kept.machine.image();
        let replayed = recovered(settings, kept.records.clone(), kept.now);
        assert_eq!(seen(&replayed), seen(&kept.machine), "seed {seed}: records");
        let loaded = recovered(settings, image, kept.now);
        assert_eq!(seen(&loaded), seen(&kept.machine), "seed {seed}: image");
        // A snapshot in the middle, and the records behind it.
        let half = kept.records.len() / 2;
        let middle = recovered(settings, kept.records[..half].to_vec(), Wall::MIN).image();
        let rest = kept.records[half..].to_vec();
        let both = recovered(settings, middle.into_iter().chain(rest), kept.now);
        assert_eq!(seen(&both), seen(&kept.machine), "seed {seed}: both");
    }
}

#[test]
fn records_about_nothing_do_nothing() {
    let mut machine = Machine::new(config(|builder| builder));
    let reason: std::sync::Arc<str> = "no".into();
    let (id, at, place) = (u64::MAX - 1, 0, 7);
    for record in [
        Record::Claimed {
            id,
            count: 1,
            until: 5,
        },
        Record::Done { id },
        Record::Retried {
            id,
            not_before: 0,
            reason: None,
        },
        Record::Rejected { id, at, reason },
        Record::Removed {
            id,
            why: Why::Purged,
        },
        Record::Replayed { id, place },
        Record::Discarded { id },
        Record::Noted,
    ] {
        machine.apply(record);
    }
    assert_eq!(machine.stats(), Stats::default());
    assert!(machine.replay(MessageId::new(u128::MAX)).unwrap().is_none());
}

#[test]
fn what_is_stored_of_a_message_keeps_its_form() {
    use crate::message::Parts;
    use dpat_codec::{Codec as _, Postcard};

    let codec = Postcard::with_bytes_max(100);
    let all = Message::new("ab").header("h", "v").key("k").priority(7);
    let forms: [(Parts, &[u8]); 2] = [
        (Message::new("ab").parts, b"\x02ab\0\0\0\x04"),
        (all.parts, b"\x02ab\x01\x01\x01h\x01v\x01\x01k\0\x07"),
    ];
    for (parts, bytes) in forms {
        let mut stored = Vec::new();
        codec.encode(&parts, &mut stored).unwrap();
        assert_eq!(stored, bytes);
        assert_eq!(codec.decode::<Parts>(bytes).unwrap(), parts);
    }
}
