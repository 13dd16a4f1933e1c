use super::*;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

fn key(name: u8) -> Key {
    Key::Bytes(Bytes::from(vec![name]))
}

/// What a reader gets until there is nothing: messages, and minus the number of lost ones.
fn drain(buffer: &mut Buffer<i64>) -> Vec<i64> {
    let mut got = Vec::new();
    loop {
        match buffer.take() {
            Take::Message(message) => got.push(message),
            Take::Lagged(lost) => got.push(-i64::try_from(lost).unwrap()),
            Take::Beyond | Take::Empty => return got,
        }
    }
}

fn filled(mode: Mode, capacity: usize, count: i64) -> Buffer<i64> {
    let mut buffer = Buffer::new(mode, capacity);
    for message in 1..=count {
        let _ = buffer.offer(message, None);
    }
    buffer
}

#[test]
fn the_capacity_is_exact() {
    for mode in [Mode::Await, Mode::DropNewest, Mode::Disconnect, Mode::Spill] {
        let mut buffer = filled(mode, 3, 3);
        assert_eq!((buffer.len(), buffer.lags()), (3, false), "{mode:?}");
        let fourth = buffer.offer(4, None);
        let wanted = match mode {
            Mode::DropNewest => Offer::Lost(4),
            Mode::Disconnect => Offer::Overflow(4),
            _ => Offer::NoRoom(4),
        };
        assert_eq!(fourth, wanted);
    }
}

#[test]
fn lag_stands_where_messages_are_missing() {
    let mut buffer = filled(Mode::DropOldest, 2, 5);
    assert_eq!(drain(&mut buffer), [-3, 4, 5]);
    let mut buffer = filled(Mode::DropNewest, 2, 5);
    assert_eq!(buffer.take(), Take::Message(1));
    assert_eq!(buffer.offer(6, None), Offer::Stored { gone: None });
    assert_eq!(drain(&mut buffer), [2, -3, 6]);
    let mut buffer = filled(Mode::Disconnect, 1, 3);
    assert_eq!(drain(&mut buffer), [1, -2]);
    assert!(!buffer.lags());
}

#[test]
fn a_conflated_message_stands_where_the_first_with_its_key_stood() {
    let mut buffer = Buffer::new(Mode::Conflate, 2);
    let mut offer = |message, name| match buffer.offer(message, Some(key(name))) {
        Offer::Stored { gone } => gone,
        other => panic!("{other:?}"),
    };
    assert_eq!(offer(1, b'a'), None);
    assert_eq!(offer(2, b'b'), None);
    assert_eq!(
        offer(3, b'a'),
        Some(1),
        "replaced though the buffer is full"
    );
    assert_eq!(
        offer(4, b'c'),
        Some(3),
        "a new key takes the place of the oldest"
    );
    assert_eq!(offer(5, b'b'), Some(2));
    assert_eq!(drain(&mut buffer), [-1, 5, 4]);
    let counts = buffer.counts();
    assert_eq!(
        (counts.accepted, counts.conflated, counts.lost, counts.taken),
        (5, 2, 1, 2)
    );
    // A key whose message was read is new again.
    assert_eq!(
        buffer.offer(6, Some(key(b'b'))),
        Offer::Stored { gone: None }
    );
    assert_eq!(drain(&mut buffer), [6]);
}

#[test]
fn what_is_beyond_comes_in_its_order() {
    let mut buffer = filled(Mode::Spill, 2, 2);
    for (message, arrives) in [(3, true), (4, false), (5, true)] {
        assert_eq!(buffer.offer(message, None), Offer::NoRoom(message));
        let lost_before = buffer.begin_beyond();
        assert_eq!(lost_before, u64::from(message == 5));
        buffer.end_beyond(arrives, lost_before);
    }
    assert_eq!(buffer.len(), 4);
    assert_eq!(drain(&mut buffer), [1, 2]);
    assert_eq!(buffer.take(), Take::Beyond);
    assert_eq!(
        buffer.offer(6, None),
        Offer::NoRoom(6),
        "not before those beyond"
    );
    buffer.bring_back([(0, Some(3))]);
    assert_eq!(drain(&mut buffer), [3]);
    // The last one did not survive there.
    buffer.bring_back([(1, None)]);
    assert_eq!(drain(&mut buffer), [-2]);
    assert_eq!(buffer.offer(7, None), Offer::Stored { gone: None });
}

#[test]
fn a_loss_beyond_stands_before_what_is_still_there() {
    let mut buffer = filled(Mode::Spill, 1, 1);
    buffer.end_beyond(true, 0);
    buffer.end_beyond(true, 0);
    buffer.lose(2);
    let lost_before = buffer.begin_beyond();
    buffer.end_beyond(true, lost_before);
    buffer.lose(1);
    assert_eq!(buffer.take(), Take::Message(1));
    buffer.bring_back([(0, None)]);
    assert_eq!(buffer.take(), Take::Lagged(1));
    assert_eq!(buffer.take(), Take::Beyond);
    buffer.bring_back([(0, Some(3)), (lost_before, Some(4))]);
    assert_eq!(drain(&mut buffer), [3, -2, 4, -1]);
}

#[test]
fn a_store_that_fails_loses_what_it_had_and_says_so() {
    let mut buffer = filled(Mode::Spill, 1, 1);
    buffer.end_beyond(true, 0);
    buffer.end_beyond(true, 0);
    buffer.lose_beyond();
    assert_eq!(drain(&mut buffer), [1, -2]);
}

/// A step of a run against the reference.
#[derive(Clone, Debug)]
enum Step {
    Offer,
    Lose,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => any::<bool>().prop_map(|_| Step::Offer),
        1 => any::<bool>().prop_map(|_| Step::Lose),
        4 => any::<bool>().prop_map(|_| Step::Take),
    ];
    vec(step, 0..200)
}

/// The reference: numbers in a list; a gap in the numbers is a lag.
struct Reference {
    mode: Mode,
    capacity: usize,
    list: Vec<i64>,
    offered: i64,
    expected: i64,
}

impl Reference {
    fn offer(&mut self) {
        let room = self.list.len() < self.capacity;
        match self.mode {
            // The test counts what does not get in as lost, as if its publisher had given up.
            _ if room => self.list.push(self.offered),
            Mode::DropOldest => {
                self.list.remove(0);
                self.list.push(self.offered);
            }
            _ => {}
        }
        self.offered += 1;
    }

    fn take(&mut self) -> Take<i64> {
        let next = self.list.first().copied().unwrap_or(self.offered);
        if next > self.expected {
            let lost = u64::try_from(next - self.expected).unwrap();
            self.expected = next;
            return Take::Lagged(lost);
        }
        if self.list.is_empty() {
            return Take::Empty;
        }
        self.expected += 1;
        Take::Message(self.list.remove(0))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_missing_in_silence(
        mode in select(vec![Mode::Await, Mode::DropOldest, Mode::DropNewest, Mode::Disconnect]),
        capacity in 1_usize..6,
        steps in steps(),
    ) {
        let mut buffer = Buffer::new(mode, capacity);
        let mut reference =
            Reference { mode, capacity, list: Vec::new(), offered: 0, expected: 0 };
        for step in steps {
            match step {
                Step::Offer => {
                    if let Offer::NoRoom(_) = buffer.offer(reference.offered, None) {
                        buffer.lose(1);
                    }
                    reference.offer();
                }
                Step::Lose => {
                    buffer.lose(1);
                    reference.offered += 1;
                }
                Step::Take => assert_eq!(buffer.take(), reference.take()),
            }
            assert_eq!(buffer.len(), reference.list.len() as u64);
            let counts = buffer.counts();
            assert_eq!(
                counts.taken + buffer.len() + counts.lost,
                u64::try_from(reference.offered).unwrap(),
            );
            assert_eq!(buffer.has_any(), !matches!(
                (reference.list.is_empty(), reference.expected == reference.offered),
                (true, true)
            ));
        }
    }

    #[test]
    fn conflation_keeps_the_latest_of_each_key(
        capacity in 1_usize..6,
        offers in vec((0_u8..8, any::<bool>()), 0..200),
    ) {
        let mut buffer = Buffer::new(Mode::Conflate, capacity);
        let mut list: Vec<(u8, i64)> = Vec::new();
        let (mut lost, mut told, mut conflated) = (0, 0, 0);
        for (number, (name, takes)) in (0_i64..).zip(offers) {
            let offered = buffer.offer(number, Some(key(name)));
            assert!(matches!(offered, Offer::Stored { .. }));
            match list.iter_mut().find(|(own, _)| *own == name) {
                Some((_, message)) => {
                    *message = number;
                    conflated += 1;
                }
                None => {
                    if list.len() == capacity {
                        list.remove(0);
                        lost += 1;
                    }
                    list.push((name, number));
                }
            }
            if takes {
                let mut taken = buffer.take();
                if let Take::Lagged(count) = taken {
                    told += count;
                    taken = buffer.take();
                }
                assert_eq!(taken, Take::Message(list.remove(0).1));
            }
            assert_eq!(buffer.len(), list.len() as u64);
        }
        let rest = drain(&mut buffer);
        told += rest.iter().filter(|got| **got < 0).map(|got| got.unsigned_abs()).sum::<u64>();
        assert_eq!((told, buffer.counts().conflated), (lost, conflated));
    }
}
