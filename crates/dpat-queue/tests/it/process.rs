//! A real process that is killed at random moments: what it was told is so, is so in the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use dpat_core::{Entropy, ManualTime, SplitMix64};
use dpat_queue::{Message, Outcome, Queue, WalQueue, WhenFull};
use dpat_storage::FsStorage;

use crate::world::now;

const ROOT_VARIABLE: &str = "DPAT_QUEUE_TEST_ROOT";
/// How many rounds to play; more by this variable.
const ROUNDS_VARIABLE: &str = "DPAT_QUEUE_TEST_ROUNDS";
const ROUNDS: u64 = 5;
const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;
const BACKLOG: u64 = 50;

fn open(root: &Path) -> WalQueue<FsStorage> {
    let log = dpat_wal::Config::builder()
        .segment_bytes(128 << 10)
        .frame_bytes_max(64 << 10)
        .preallocate_bytes(16 << 10)
        .build()
        .unwrap();
    // A backlog that producers fill, so that something is always unacknowledged.
    let settings = Queue::builder()
        .message_bytes_max(16 << 10)
        .messages_max(BACKLOG)
        .when_full(WhenFull::Wait);
    let storage = FsStorage::open(root).unwrap();
    WalQueue::open(storage, log, settings, ManualTime::new())
        .unwrap()
        .0
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// One write for the whole line; its end tells that it was not cut.
#[allow(clippy::print_stdout, reason = "the child talks to its parent so")]
fn say(line: &str) {
    println!("\nsaid {line} .");
}

fn produce(wal: &WalQueue<FsStorage>, producer: u64) {
    for n in 0..u64::MAX {
        let payload = "x".repeat(usize::try_from(n % 97).unwrap());
        let sent = block_on(wal.queue().send(Message::new(payload))).unwrap();
        say(&format!("sent {} 0", sent.id));
        if producer == 0 && n % 40 == 39 {
            wal.snapshot().unwrap();
        }
    }
}

fn consume(queue: &Queue) {
    loop {
        let delivery = block_on(queue.receive()).unwrap();
        let (id, count) = (delivery.id().get(), delivery.count);
        say(&format!("got {id} {count}"));
        let (word, outcome) = match id % 8 {
            0 => (
                "dead",
                Outcome::Reject {
                    reason: "no".to_owned(),
                },
            ),
            1 | 2 if count == 1 => ("back", Outcome::release()),
            _ => ("done", Outcome::Done),
        };
        say(&format!("settles {id} {count}"));
        block_on(queue.settle(delivery.receipt, outcome)).unwrap();
        say(&format!("{word} {id} {count}"));
    }
}

#[test]
#[ignore = "the child process of the test below"]
fn child() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else {
        return;
    };
    let wal = Arc::new(open(Path::new(&root)));
    let mut threads: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let wal = Arc::clone(&wal);
            thread::spawn(move || produce(&wal, producer))
        })
        .collect();
    threads.extend((0..CONSUMERS).map(|_| {
        let queue = wal.queue().clone();
        thread::spawn(move || consume(&queue))
    }));
    for thread in threads {
        thread.join().unwrap();
    }
}

/// What is known about the queue from outside.
#[derive(Debug, Default)]
struct Known {
    /// Messages that are there, and the highest count that was seen.
    live: BTreeMap<u128, u32>,
    dead: BTreeSet<u128>,
    done: BTreeSet<u128>,
    /// Deliveries, by message and count, that were settled, or not: nobody was told. That a delivery was given back may be told
    /// after the next one is about to be settled.
    doubts: BTreeSet<(u128, u32)>,
}

impl Known {
    fn hear(&mut self, what: &str, id: u128, count: u32) {
        match what {
            // It may have been received before its sender was told.
            "sent" => {
                if !self.dead.contains(&id) && !self.done.contains(&id) {
                    self.live.entry(id).or_insert(0);
                }
            }
            "got" => {
                assert!(!self.done.contains(&id), "{id} was done");
                let known = self.live.insert(id, count);
                assert!(known.is_none_or(|known| known < count), "the count of {id}");
            }
            "settles" => drop(self.doubts.insert((id, count))),
            "back" => drop(self.doubts.remove(&(id, count))),
            "done" | "dead" => {
                self.doubts.remove(&(id, count));
                self.live.remove(&id);
                let set = if what == "done" {
                    &mut self.done
                } else {
                    &mut self.dead
                };
                set.insert(id);
            }
            _ => panic!("{what}"),
        }
    }
}

/// Runs a child until it has said so many lines, kills it, and returns how many messages it was told were settled.
fn killed_after(root: &Path, lines: u64, known: &mut Known) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["process::child", "--exact", "--ignored", "--nocapture"])
        .env(ROOT_VARIABLE, root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let (mut heard, mut settled, mut killed) = (0, 0, false);
    // What it says up to its end counts, killed or not.
    for line in said.lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["said", what, id, count, "."] = words[..] else {
            continue;
        };
        known.hear(what, id.parse().unwrap(), count.parse().unwrap());
        settled += u64::from(what == "done");
        heard += 1;
        if heard >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    settled
}

/// Opens what is left; what was told has to be so. Returns how many messages there are.
fn check(root: &Path, known: &mut Known, snapshot: bool) -> u64 {
    let wal = open(root);
    let queue = wal.queue();
    let peeked = now(queue.peek(None, 10_000)).unwrap();
    let letters = now(queue.dead_letters(None, 10_000)).unwrap();
    let live: BTreeMap<u128, u32> = peeked.iter().map(|one| (one.id.get(), one.count)).collect();
    let dead: BTreeSet<u128> = letters.iter().map(|one| one.id.get()).collect();
    for (id, count) in &known.live {
        let found = live.get(id);
        let open = known.doubts.range((*id, 0)..=(*id, u32::MAX)).count() > 0;
        assert!(found.is_some() || open, "{id} is lost");
        assert!(
            found.is_none_or(|found| found >= count),
            "the count of {id} fell"
        );
    }
    for id in &known.dead {
        assert!(dead.contains(id), "{id} is no dead letter");
    }
    for id in known.done.iter().chain(&known.dead) {
        assert!(!live.contains_key(id), "{id} was settled");
    }
    for letter in &letters {
        now(queue.discard(letter.id)).unwrap();
    }
    if snapshot {
        wal.snapshot().unwrap();
    }
    known.dead.clear();
    known.doubts.clear();
    known.live = live;
    known.live.len() as u64
}

#[test]
fn a_killed_process_loses_no_acknowledged_message() {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let entropy = SplitMix64::new(1);
    let folder = tempfile::tempdir().unwrap();
    let mut known = Known::default();
    let (mut counted, mut played, mut acknowledged) = (0, 0, 0);
    while counted < rounds {
        let settled = killed_after(folder.path(), 20 + entropy.below(400), &mut known);
        let left = check(folder.path(), &mut known, played % 3 == 2);
        // It says something only if there was something to lose, and something that must not come back.
        counted += u64::from(settled > 0 && left > 0);
        acknowledged += settled;
        played += 1;
        assert!(
            played <= 3 * rounds + 3,
            "{counted} of {played} rounds count"
        );
    }
    println!(
        "{counted} rounds count of {played}; {acknowledged} messages were done, none was lost or came back"
    );
}
