//! UUIDv7, ULID and Snowflake ids against uuid, ulid and ferroid.

use crate::harness::{Case, Contender};
use dpat_core::{
    AsRand, NodeId, SnowflakeGenerator, SnowflakeLayout, SystemEntropy, UlidGenerator,
    Uuid7Generator, Wall,
};
use ferroid::define_snowflake_id;
use ferroid::generator::{AtomicSnowflakeGenerator, BasicSnowflakeGenerator, Poll};
use ferroid::time::TimeSource;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::{ContextV7, Timestamp, Uuid};

pub(super) const NOTES: &str = "\
What each side promises:

- *dpat-core*: strictly increasing over all threads that share the generator, lock-free, an explicit policy for a \
clock that goes back, a mark for restarts. Random bits come from `Entropy`; the measured `SystemEntropy` is not for \
secrets.
- *uuid*: increasing for one context; its random bits are drawn from a cryptographic generator (feature `fast-rng`). \
That is more than ours gives, and most of its time.
- *ulid*: increasing for one generator, which has no lock; within a millisecond it adds one and draws nothing, so that \
the next id can be guessed; ours draws 59 new bits each time.
- *ferroid*: as ours for Snowflake, without a policy or a mark; a clock that is behind, or another thread that was \
first, is handed to the caller as *pending*. `@basic` is not for threads.

Where ours needs more: a ULID of ours costs a compare-and-swap and a draw, ulid's within a millisecond an addition; a \
Snowflake layout is a value of the program and not a type, and a reservation is looked at; texts are checked to be \
UTF-8, where the peers use `unsafe`.";

/// 2024-01-01.
const START_MS: u64 = 1_704_067_200_000;
const NANOS_PER_MS: u64 = 1_000_000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for threads in [1, 2] {
        cases.push(
            case(
                "UUIDv7, next",
                "The next id, with the time as an argument that moves on by 1 µs for each id. uuid's context stands \
                 behind a mutex where threads share it, and its random bits are cryptographic.",
                uuid7(threads),
                vec![uuid_peer(threads)],
            )
            .threads(threads),
        );
        cases.push(
            case(
                "ULID, next",
                "The next id, with the time as an argument that moves on by 1 µs for each id; the same entropy on both \
                 sides. ulid's generator stands behind a mutex where threads share it, and draws random bits once a \
                 millisecond; ours draws 59 bits for each id.",
                ulid(threads),
                vec![ulid_peer(threads)],
            )
            .threads(threads),
        );
    }
    for threads in [1, 2] {
        let mut peers = vec![ferroid_atomic(threads)];
        if threads == 1 {
            peers.push(ferroid_basic());
        }
        cases.push(
            case(
                "Snowflake, next",
                "The next id in a layout of 40 bits of time, 1 of node and 22 of sequence, wide enough that nobody \
                 waits; the time stands still for a million ids and is one atomic load of nanoseconds on each side, which both turn \
                 into milliseconds. A lost race is \
                 tried again by ours inside, for ferroid by the caller. `@basic` is ferroid's generator for one \
                 thread.",
                snowflake(threads),
                peers,
            )
            .threads(threads),
        );
    }
    cases.extend(texts());
    cases
}

fn case(
    operation: &'static str,
    work: &'static str,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case::new("ids", operation, work, ours, peers)
}

/// A time that moves on by 1 µs at each reading, for one thread.
///
/// Each round starts a second after the one before, whichever thread asks.
struct Steps {
    rounds: Arc<AtomicU64>,
}

impl Steps {
    fn new() -> Self {
        Self {
            rounds: Arc::new(AtomicU64::new(0)),
        }
    }

    fn start_ms(&self) -> u64 {
        START_MS + self.rounds.fetch_add(1, Ordering::Relaxed) * 1_000
    }
}

const STEP: Duration = Duration::from_micros(1);

fn uuid7(threads: usize) -> Contender {
    let generator = Arc::new(Uuid7Generator::new());
    let steps = Steps::new();
    Contender::shared("dpat-core", threads, move || {
        let generator = Arc::clone(&generator);
        let mut wall = Wall::from_nanos(steps.start_ms() * NANOS_PER_MS);
        move || {
            wall = wall + STEP;
            generator.next(wall, &SystemEntropy)
        }
    })
}

fn uuid_peer(threads: usize) -> Contender {
    let steps = Steps::new();
    let unix = move || {
        let mut micros = steps.start_ms() * 1_000;
        move || {
            micros += 1;
            let nanos = u32::try_from(micros % 1_000_000).expect("below a million") * 1_000;
            (micros / 1_000_000, nanos)
        }
    };
    if threads == 1 {
        let context = ContextV7::new();
        let mut next = unix();
        return Contender::single("uuid", move || {
            let (seconds, nanos) = next();
            Uuid::new_v7(Timestamp::from_unix(&context, seconds, nanos))
        });
    }
    let context = Arc::new(Mutex::new(ContextV7::new()));
    Contender::shared("uuid", threads, move || {
        let context = Arc::clone(&context);
        let mut next = unix();
        move || {
            let (seconds, nanos) = next();
            Uuid::new_v7(Timestamp::from_unix(&*context, seconds, nanos))
        }
    })
}

fn ulid(threads: usize) -> Contender {
    let generator = Arc::new(UlidGenerator::new());
    let steps = Steps::new();
    Contender::shared("dpat-core", threads, move || {
        let generator = Arc::clone(&generator);
        let mut wall = Wall::from_nanos(steps.start_ms() * NANOS_PER_MS);
        move || {
            wall = wall + STEP;
            generator.next(wall, &SystemEntropy)
        }
    })
}

fn ulid_peer(threads: usize) -> Contender {
    let steps = Steps::new();
    let times = move || {
        let mut time: SystemTime = UNIX_EPOCH + Duration::from_millis(steps.start_ms());
        move || {
            time += STEP;
            time
        }
    };
    let next = |generator: &mut ulid::Generator, time| {
        let mut entropy = AsRand::new(SystemEntropy);
        match generator.generate_from_datetime_with_source(time, &mut entropy) {
            Ok(id) => id,
            Err(overflow) => overflow.commit_overflow_increment(),
        }
    };
    if threads == 1 {
        let mut generator = ulid::Generator::new();
        let mut time = times();
        return Contender::single("ulid", move || next(&mut generator, time()));
    }
    let generator = Arc::new(Mutex::new(ulid::Generator::new()));
    Contender::shared("ulid", threads, move || {
        let generator = Arc::clone(&generator);
        let mut time = times();
        move || {
            let time = time();
            let mut generator = generator.lock().expect("nobody panics under it");
            next(&mut generator, time)
        }
    })
}

/// A time in nanoseconds that all threads share; moves on by a millisecond after each million ids of a thread.
#[derive(Clone)]
struct Standing {
    nanos: Arc<AtomicU64>,
}

const IDS_PER_STEP: u64 = 1 << 20;

impl Standing {
    fn new() -> Self {
        Self {
            nanos: Arc::new(AtomicU64::new(START_MS * NANOS_PER_MS)),
        }
    }

    fn now(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    fn count(&self, n: &mut u64) {
        *n += 1;
        if n.is_multiple_of(IDS_PER_STEP) {
            self.step();
        }
    }

    fn step(&self) {
        self.nanos.fetch_add(NANOS_PER_MS, Ordering::Relaxed);
    }
}

impl TimeSource<u64> for Standing {
    fn current_millis(&self) -> u64 {
        self.now() / NANOS_PER_MS - START_MS
    }
}

fn snowflake(threads: usize) -> Contender {
    let epoch = Wall::from_nanos(START_MS * NANOS_PER_MS);
    let layout = SnowflakeLayout::new(epoch, 40, 1, 22).expect("63 bits");
    let generator = SnowflakeGenerator::builder(NodeId::new(1))
        .layout(layout)
        .build()
        .expect("node 1 fits into a bit");
    let generator = Arc::new(generator);
    let time = Standing::new();
    Contender::shared("dpat-core", threads, move || {
        let (generator, time) = (Arc::clone(&generator), time.clone());
        time.step();
        let mut n = 0;
        move || {
            time.count(&mut n);
            generator.next(Wall::from_nanos(time.now()))
        }
    })
}

define_snowflake_id!(
    Wide, u64,
    reserved: 1,
    timestamp: 40,
    machine_id: 1,
    sequence: 22
);

fn ferroid_atomic(threads: usize) -> Contender {
    let time = Standing::new();
    let generator = AtomicSnowflakeGenerator::<Wide, _>::new(1, time.clone());
    let generator = Arc::new(generator);
    Contender::shared("ferroid", threads, move || {
        let (generator, time) = (Arc::clone(&generator), time.clone());
        time.step();
        let mut n = 0;
        move || {
            time.count(&mut n);
            loop {
                match generator.poll_id() {
                    Poll::Ready { id } => return Some(id),
                    // Another thread was first.
                    Poll::Pending { yield_for: 0 } => {}
                    Poll::Pending { .. } => return None,
                }
            }
        }
    })
}

fn ferroid_basic() -> Contender {
    let time = Standing::new();
    let generator = BasicSnowflakeGenerator::<Wide, _>::new(1, time.clone());
    let mut n = 0;
    Contender::single("ferroid@basic", move || {
        time.count(&mut n);
        match generator.poll_id() {
            Poll::Ready { id } => Some(id),
            Poll::Pending { .. } => None,
        }
    })
}

fn texts() -> Vec<Case> {
    let bytes = 0x018c_c251_f400_7abc_8def_0123_4567_89ab_u128.to_be_bytes();
    let ours = dpat_core::Uuid7::from_bytes(bytes).expect("version 7");
    let theirs = Uuid::from_bytes(bytes);
    let uuid_text: &'static str = "018cc251-f400-7abc-8def-0123456789ab";
    let our_ulid = dpat_core::Ulid::from_bytes(bytes);
    let their_ulid = ulid::Ulid::from_bytes(bytes);
    let ulid_text: &'static str = "01HK153X007AYRVVR14D2PF2DB";
    vec![
        case(
            "UUIDv7, to text",
            "36 characters into a buffer of the caller.",
            Contender::single("dpat-core", move || {
                let mut buffer = [0; 36];
                black_box(black_box(ours).encode(&mut buffer)).len()
            }),
            vec![Contender::single("uuid", move || {
                let mut buffer = [0; 36];
                let text = black_box(theirs).hyphenated().encode_lower(&mut buffer);
                black_box(&*text).len()
            })],
        ),
        case(
            "UUIDv7, from text",
            "36 characters; ours also refuses other versions.",
            Contender::single("dpat-core", move || {
                black_box(uuid_text).parse::<dpat_core::Uuid7>()
            }),
            vec![Contender::single("uuid", move || {
                black_box(uuid_text).parse::<Uuid>()
            })],
        ),
        case(
            "ULID, to text",
            "26 characters into a buffer of the caller.",
            Contender::single("dpat-core", move || {
                let mut buffer = [0; 26];
                black_box(black_box(our_ulid).encode(&mut buffer)).len()
            }),
            vec![Contender::single("ulid", move || {
                let mut buffer = [0; 26];
                let text = black_box(their_ulid).array_to_str(&mut buffer);
                black_box(&*text).len()
            })],
        ),
        case(
            "ULID, from text",
            "26 characters; ours refuses lower case and overflow, ulid reads both.",
            Contender::single("dpat-core", move || {
                black_box(ulid_text).parse::<dpat_core::Ulid>()
            }),
            vec![Contender::single("ulid", move || {
                ulid::Ulid::from_string(black_box(ulid_text))
            })],
        ),
    ]
}
