//! Hybrid logical clocks against uhlc, version vectors against crdts.

use crate::harness::{Case, Contender};
use crdts::{CmRDT as _, Dot, VClock};
use dpat_core::{AtomicHlc, Hlc, HlcTimestamp, NodeId, VersionVector, Wall};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uhlc::{HLC, HLCBuilder, ID, NTP64, Timestamp};

pub(super) const NOTES: &str = "\
What each side promises:

- *dpat-core*: a timestamp is 8 bytes without the node, 16 bits of it the logical counter; the time is an argument; \
local (`&mut`) or lock-free; a mark for restarts. Receiving returns the new timestamp.
- *uhlc*: a timestamp is 24 bytes with the node's id, 4 bits of counter that flow over into the time; the time comes \
from a function, here one that reads a thread-local; behind a mutex always. Receiving returns nothing.
- *dpat-core* keeps a version vector as a sorted array of at most 4096 nodes, *crdts* as a `BTreeMap`. `merge` of \
crdts consumes the other vector; it is given what it does inside, on borrowed entries, so that it need not clone.";

/// 2024-01-01.
const START_SECONDS: u64 = 1_704_067_200;
const NANOS: u64 = 1_000_000_000;
const STEP: Duration = Duration::from_micros(1);
/// 1 µs in units of 2⁻³² s.
const NTP_STEP: u64 = 4_295;
/// Of the peer's clock; far below the offset that both accept.
const AHEAD: Duration = Duration::from_micros(100);
const NTP_AHEAD: u64 = 429_497;
const MAX_OFFSET: Duration = Duration::from_millis(500);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = hybrid();
    for size in [3, 16, 128] {
        cases.extend(vectors(size));
    }
    cases.push(
        case(
            "version vector, clone",
            "Heap bytes of a clone.",
            Contender::bytes("dpat-core", {
                let vector = our_vector(128, 1);
                move || vector.clone()
            }),
            vec![Contender::bytes("crdts", {
                let vector = their_vector(128, 1);
                move || vector.clone()
            })],
        )
        .param("nodes", 128)
        .bytes(),
    );
    cases
}

fn case(
    operation: &'static str,
    work: &'static str,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case::new("clocks", operation, work, ours, peers)
}

fn hybrid() -> Vec<Case> {
    const TICK: &str = "The timestamp of a local event; the time moves on at each by the step.";
    const RECEIVE: &str = "Takes over a timestamp that is 100 µs ahead, after checking that it is not more than 500 ms \
        ahead; the time moves on at each by the step.";
    let mut cases = Vec::new();
    for step in STEPS {
        cases.push(
            case(
                "HLC local, tick",
                TICK,
                local(step),
                vec![uhlc_tick(1, step)],
            )
            .param("step_us", step),
        );
    }
    cases.push(
        case(
            "HLC local, receive",
            RECEIVE,
            local_receive(),
            vec![uhlc_receive(1)],
        )
        .param("step_us", 1),
    );
    for threads in [1, 2] {
        for step in STEPS {
            cases.push(
                case(
                    "HLC atomic, tick",
                    TICK,
                    atomic(threads, step),
                    vec![uhlc_tick(threads, step)],
                )
                .param("step_us", step)
                .threads(threads),
            );
        }
        cases.push(
            case(
                "HLC atomic, receive",
                RECEIVE,
                atomic_receive(threads),
                vec![uhlc_receive(threads)],
            )
            .param("step_us", 1)
            .threads(threads),
        );
    }
    cases
}

/// Microseconds between two events: a clock that stands, a busy node, and a quiet one.
const STEPS: [u64; 3] = [0, 1, 100];

/// Where the next round starts, in seconds: an hour after the one before.
#[derive(Default)]
struct Rounds(AtomicU64);

impl Rounds {
    fn next(&self) -> u64 {
        START_SECONDS + self.0.fetch_add(1, Ordering::Relaxed) * 3_600
    }

    fn wall(&self) -> Wall {
        Wall::from_nanos(self.next() * NANOS)
    }
}

fn local(step_us: u64) -> Contender {
    let mut clock = Hlc::new(MAX_OFFSET);
    let mut wall = Rounds::default().wall();
    let step = Duration::from_micros(step_us);
    Contender::single("dpat-core", move || {
        wall = wall + step;
        clock.tick(wall)
    })
}

fn local_receive() -> Contender {
    let mut clock = Hlc::new(MAX_OFFSET);
    let mut wall = Rounds::default().wall();
    Contender::single("dpat-core", move || {
        wall = wall + STEP;
        clock.receive(wall, HlcTimestamp::from_u64((wall + AHEAD).as_nanos()))
    })
}

fn atomic(threads: usize, step_us: u64) -> Contender {
    let clock = Arc::new(AtomicHlc::new(MAX_OFFSET));
    let rounds = Rounds::default();
    let step = Duration::from_micros(step_us);
    Contender::shared("dpat-core", threads, move || {
        let clock = Arc::clone(&clock);
        let mut wall = rounds.wall();
        move || {
            wall = wall + step;
            clock.tick(wall)
        }
    })
}

fn atomic_receive(threads: usize) -> Contender {
    let clock = Arc::new(AtomicHlc::new(MAX_OFFSET));
    let rounds = Rounds::default();
    Contender::shared("dpat-core", threads, move || {
        let clock = Arc::clone(&clock);
        let mut wall = rounds.wall();
        move || {
            wall = wall + STEP;
            clock.receive(wall, HlcTimestamp::from_u64((wall + AHEAD).as_nanos()))
        }
    })
}

thread_local! {
    /// The time that uhlc's clock function reads: the nearest to an argument that it takes.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn read_now() -> NTP64 {
    NTP64(NOW.get())
}

fn make_uhlc() -> HLC {
    HLCBuilder::new()
        .with_clock(read_now)
        .with_max_delta(MAX_OFFSET)
        .build()
}

fn uhlc_tick(threads: usize, step_us: u64) -> Contender {
    let clock = Arc::new(make_uhlc());
    let rounds = Rounds::default();
    let step = step_us * NTP_STEP;
    Contender::shared("uhlc", threads, move || {
        let clock = Arc::clone(&clock);
        let mut now = rounds.next() << 32;
        move || {
            now += step;
            NOW.set(now);
            clock.new_timestamp()
        }
    })
}

fn uhlc_receive(threads: usize) -> Contender {
    let clock = Arc::new(make_uhlc());
    let rounds = Rounds::default();
    let sender = ID::rand();
    Contender::shared("uhlc", threads, move || {
        let clock = Arc::clone(&clock);
        let mut now = rounds.next() << 32;
        move || {
            now += NTP_STEP;
            NOW.set(now);
            clock.update_with_timestamp(&Timestamp::new(NTP64(now + NTP_AHEAD), sender))
        }
    })
}

/// Nodes are spread, as ids of real nodes are.
fn node(index: u64) -> u64 {
    index * 7_919 + 13
}

fn our_vector(size: u64, count: u64) -> VersionVector {
    let entries = (0..size).map(|index| (NodeId::new(node(index)), count));
    VersionVector::from_sorted(entries).expect("sorted and short")
}

fn their_vector(size: u64, count: u64) -> VClock<u64> {
    (0..size)
        .map(|index| Dot::new(node(index), count))
        .collect()
}

/// Does what `merge` of crdts does, without consuming the other.
fn their_merge(mine: &mut VClock<u64>, other: &VClock<u64>) {
    for (actor, counter) in &other.dots {
        mine.apply(Dot::new(*actor, *counter));
    }
}

fn vectors(size: u64) -> Vec<Case> {
    let middle = node(size / 2);
    let increment = case(
        "version vector, increment",
        "One more event of a node that is known.",
        Contender::single("dpat-core", {
            let mut vector = our_vector(size, 1);
            move || vector.increment(NodeId::new(black_box(middle)))
        }),
        vec![Contender::single("crdts", {
            let mut vector = their_vector(size, 1);
            move || {
                let event = vector.inc(black_box(middle));
                vector.apply(event);
            }
        })],
    );
    let merge = case(
        "version vector, event and merge",
        "One more event in the other vector, then a merge of it; both know the same nodes.",
        Contender::single("dpat-core", {
            let (mut mine, mut other) = (our_vector(size, 1), our_vector(size, 1));
            move || {
                let count = other.increment(NodeId::new(middle));
                (count, mine.merge(black_box(&other)))
            }
        }),
        vec![Contender::single("crdts", {
            let (mut mine, mut other) = (their_vector(size, 1), their_vector(size, 1));
            move || {
                let event = other.inc(middle);
                other.apply(event);
                their_merge(&mut mine, black_box(&other));
            }
        })],
    );
    let mut cases = vec![increment, merge];
    for (operation, left, right) in [
        ("version vector, compare, equal", 0, 0),
        ("version vector, compare, after", 1, 0),
        ("version vector, compare, concurrent", 1, 1),
    ] {
        // The left knows more of the first node, the right more of the last: the whole length has to be seen.
        let (mut our_left, mut our_right) = (our_vector(size, 1), our_vector(size, 1));
        let (mut their_left, mut their_right) = (their_vector(size, 1), their_vector(size, 1));
        if left > 0 {
            our_left
                .increment(NodeId::new(node(0)))
                .expect("far from the end");
            their_left.apply(their_left.inc(node(0)));
        }
        if right > 0 {
            our_right
                .increment(NodeId::new(node(size - 1)))
                .expect("far from the end");
            their_right.apply(their_right.inc(node(size - 1)));
        }
        cases.push(case(
            operation,
            "The order of two vectors of the same nodes; they differ in the first node, concurrent ones in the last \
             node as well.",
            Contender::single("dpat-core", move || {
                black_box(&our_left).compare(black_box(&our_right))
            }),
            vec![Contender::single("crdts", move || {
                black_box(&their_left).partial_cmp(black_box(&their_right))
            })],
        ));
    }
    cases
        .into_iter()
        .map(|case| case.param("nodes", size))
        .collect()
}
