//! A real process that is killed at random moments: what it said was durable is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use dpat_core::{Entropy, SplitMix64};
use dpat_storage::FsStorage;
use dpat_wal::{Config, ConfigBuilder, Position, Wal};

const ROOT_VARIABLE: &str = "DPAT_WAL_TEST_ROOT";
/// How many rounds to play; more by this variable.
const ROUNDS_VARIABLE: &str = "DPAT_WAL_TEST_ROUNDS";
const ROUNDS: u64 = 12;
const WRITERS: usize = 4;

fn config() -> ConfigBuilder {
    Config::builder()
        .segment_bytes(16 << 10)
        .frame_bytes_max(1 << 10)
        .preallocate_bytes(4 << 10)
}

/// The number that a writer gives to its n-th record, and what is in it.
fn record(writer: usize, n: u64) -> Vec<u8> {
    format!(
        "{writer} {n} {}",
        "x".repeat(usize::try_from(n % 97).unwrap())
    )
    .into_bytes()
}

fn parse(record: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(record).unwrap();
    let mut parts = text.split(' ').map(|part| part.parse().unwrap_or(0));
    let writer = usize::try_from(parts.next().unwrap()).unwrap();
    let found = (writer, parts.next().unwrap());
    assert_eq!(record, self::record(found.0, found.1));
    found
}

#[test]
#[ignore = "the child process of the test below"]
fn child() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else {
        return;
    };
    let storage = FsStorage::open(root).unwrap();
    let (wal, recovery) = Wal::open(storage, config().build().unwrap()).unwrap();
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let wal = wal.clone();
            let mut n = recovery.end.0 * WRITERS as u64;
            thread::spawn(move || {
                while n < u64::MAX {
                    let at = wal.append(&record(writer, n)).wait().unwrap();
                    // One write for the whole line.
                    println!("\nacked {at} {writer} {n}");
                    n += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Runs a child until it has said so many lines, kills it, and returns what it was told was durable.
fn killed_after(root: &Path, lines: u64) -> Vec<(u64, usize, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["process::child", "--exact", "--ignored", "--nocapture"])
        .env(ROOT_VARIABLE, root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let mut acked = Vec::new();
    let mut killed = false;
    // What it says up to its end counts, killed or not.
    for line in said.lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        if words.next() != Some("acked") {
            continue;
        }
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        // The last line may be cut.
        if let [at, writer, n] = numbers[..] {
            acked.push((at, usize::try_from(writer).unwrap(), n));
        }
        if acked.len() as u64 >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    acked
}

#[test]
fn a_killed_process_loses_no_acknowledged_record() {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let entropy = SplitMix64::new(1);
    let folder = tempfile::tempdir().unwrap();
    let mut unacked = 0;
    for round in 0..rounds {
        let mut acked = killed_after(folder.path(), 1 + entropy.below(60));
        // A line that was cut in its last number names another record; the end of the log tells.
        acked.pop();
        let storage = FsStorage::open(folder.path()).unwrap();
        let (wal, recovery) = Wal::open(storage, config().build().unwrap()).unwrap();
        for (at, writer, n) in &acked {
            let found = wal.read(Position(*at)).unwrap();
            let found = found.unwrap_or_else(|| panic!("round {round}: {at} is lost"));
            assert_eq!(parse(&found), (*writer, *n), "round {round}, position {at}");
        }
        let mut reader = wal.reader(wal.first()).unwrap();
        let mut last = [None; WRITERS];
        while let Some(found) = reader.next_ready().unwrap() {
            let (writer, n) = parse(found.bytes);
            let last = &mut last[writer];
            assert!(
                Some(n) > *last,
                "a writer's records are in order, each once"
            );
            *last = Some(n);
        }
        assert_eq!(reader.position(), recovery.end);
        let highest = acked.iter().map(|(at, ..)| at + 1).max().unwrap_or(0);
        unacked += recovery.end.0.saturating_sub(highest);
        if round % 3 == 2 {
            wal.compact(Position(recovery.end.0 / 2)).unwrap();
        }
    }
    println!("{rounds} rounds, {unacked} records were found that nobody had been told of");
}
