//! A real process that is killed at random moments: what it was told is so, is so in the next one.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dpat_core::{Entropy, ManualTime, SplitMix64, Wall};
use dpat_idempotency::{Fingerprint, Key};
use dpat_outbox::{Limits, Outcome, Settlement, Store, Token};
use dpat_queue::{Message, Outcome as Handled, Queue};
use dpat_sqlite::rusqlite::{Connection, TransactionBehavior};
use dpat_sqlite::{Config, Inbox, Outbox, QueueSettings, QueueStore, commit};

use crate::kit::{claim, event, number, run};

const FILE_VARIABLE: &str = "DPAT_SQLITE_TEST_FILE";
const FIRST_VARIABLE: &str = "DPAT_SQLITE_TEST_FIRST";
/// How many rounds to play; more by this variable.
const ROUNDS_VARIABLE: &str = "DPAT_SQLITE_TEST_ROUNDS";
const ROUNDS: u64 = 5;
const PRODUCERS: u64 = 2;

fn config(file: &Path) -> Config {
    Config::new(file, "t").unwrap()
}

/// One write for the whole line; its end tells that it was not cut.
#[allow(clippy::print_stdout, reason = "the child talks to its parent so")]
fn say(line: &str) {
    println!("\nsaid {line} .");
}

/// Change, event and message in one transaction, without an end.
fn produce(file: &Path, open: &Open, first: u64) {
    let mut connection = config(file).connect().unwrap();
    for number in (first..).step_by(usize::try_from(PRODUCERS).unwrap()) {
        say(&format!("begins {number}"));
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        tx.execute("INSERT INTO own VALUES (?1)", [number.cast_signed()])
            .unwrap();
        let key = ["a", "b", ""][usize::try_from(number % 3).unwrap()];
        let now = Wall::from_nanos(number);
        open.outbox.append(&tx, &event(number, key), now).unwrap();
        let message = Message::new(number.to_string());
        open.queue.within(&tx).send(&message).unwrap();
        open.outbox.commit(tx).unwrap();
        say(&format!("sent {number}"));
    }
}

/// Marker and effect in one transaction: the receiver's.
fn handle(connection: &mut Connection, inbox: &Inbox, number: u64) {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let key = Key::new("receiver", &number.to_string()).unwrap();
    let now = Wall::from_nanos(number);
    inbox
        .accept(&tx, &key, Fingerprint::NONE, now, |tx| {
            tx.execute("INSERT INTO effects VALUES (?1)", [number.cast_signed()])
                .map_err(|error| error.to_string())?;
            Ok::<_, String>("".into())
        })
        .unwrap();
    commit(tx).unwrap();
}

/// Claims, handles and settles what there is; `token` and `now` must be new.
fn relay(outbox: &Outbox, connection: &mut Connection, inbox: &Inbox, now: u64) -> u64 {
    let mut asked = claim(0, now);
    asked.token = Token::from_bytes(u128::from(now).to_be_bytes());
    asked.rows_max = 20;
    let rows = run(outbox.claim(&asked)).unwrap().rows;
    let mut settlements = Vec::new();
    for row in &rows {
        let number = number(&row.event);
        handle(connection, inbox, number);
        say(&format!("handled {number}"));
        settlements.push(Settlement {
            position: row.position,
            token: asked.token,
            outcome: Outcome::Sent,
        });
    }
    run(outbox.settle(Wall::from_nanos(now), &settlements)).unwrap();
    for row in &rows {
        say(&format!("settled {}", number(&row.event)));
    }
    rows.len() as u64
}

/// Receives and settles what there is.
fn consume(queue: &Queue) -> usize {
    let received = run(queue.receive_batch(10, Duration::ZERO)).unwrap();
    for delivery in &received {
        let number = std::str::from_utf8(delivery.payload()).unwrap();
        say(&format!("finishes {number}"));
        run(queue.settle(delivery.receipt, Handled::Done)).unwrap();
        say(&format!("finished {number}"));
    }
    received.len()
}

#[derive(Clone)]
struct Open {
    outbox: Outbox,
    inbox: Inbox,
    queue: QueueStore,
}

fn open(file: &Path) -> (Open, Connection) {
    let connection = config(file).connect().unwrap();
    let tables = "CREATE TABLE IF NOT EXISTS own (id INTEGER PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS effects (id INTEGER)";
    connection.execute_batch(tables).unwrap();
    let settings = QueueSettings::DEFAULT;
    let open = Open {
        outbox: Outbox::open(&config(file), Limits::DEFAULT).unwrap(),
        inbox: Inbox::open(&connection, &config(file)).unwrap(),
        queue: QueueStore::open(&config(file), settings, ManualTime::new()).unwrap(),
    };
    (open, connection)
}

#[test]
#[ignore = "the child process of the test below"]
fn child() {
    let Some(file) = std::env::var_os(FILE_VARIABLE) else {
        return;
    };
    let first: u64 = std::env::var(FIRST_VARIABLE).unwrap().parse().unwrap();
    let file = Path::new(&file);
    let (open, mut connection) = open(file);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let open = &open;
            scope.spawn(move || produce(file, open, first + producer));
        }
        let queue = open.queue.queue();
        for turn in 0.. {
            let now = first + 1_000_000 + turn * 1_000;
            relay(&open.outbox, &mut connection, &open.inbox, now);
            consume(&queue);
        }
    });
}

/// What is known from outside.
#[derive(Debug, Default)]
struct Known {
    begun: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    handled: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    finishing: BTreeSet<u64>,
    finished: BTreeSet<u64>,
}

/// Runs a child until it has said so many lines, and kills it.
fn killed_after(file: &Path, first: u64, lines: u64) -> Known {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["process::child", "--exact", "--ignored", "--nocapture"])
        .env(FILE_VARIABLE, file)
        .env(FIRST_VARIABLE, first.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let mut known = Known::default();
    let (mut heard, mut killed) = (0, false);
    // What it says up to its end counts, killed or not.
    for line in said.lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["said", what, number, "."] = words[..] else {
            continue;
        };
        let set = match what {
            "begins" => &mut known.begun,
            "sent" => &mut known.sent,
            "handled" => &mut known.handled,
            "settled" => &mut known.settled,
            "finishes" => &mut known.finishing,
            "finished" => &mut known.finished,
            _ => panic!("{what}"),
        };
        set.insert(number.parse().unwrap());
        heard += 1;
        if heard >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    known
}

fn numbers(connection: &Connection, sql: &str) -> Vec<u64> {
    let mut found = connection.prepare(sql).unwrap();
    let found = found.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    found
        .map(|number| number.unwrap().cast_unsigned())
        .collect()
}

/// Opens what is left: what was told has to be so. Then relays the rest, and every change has taken effect once.
fn check(file: &Path, known: &Known, first: u64) {
    let (open, mut connection) = open(file);
    let Open {
        outbox,
        inbox,
        queue,
    } = &open;
    let sound: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    let own: BTreeSet<u64> = numbers(&connection, "SELECT id FROM own")
        .into_iter()
        .collect();
    assert!(known.sent.is_subset(&own), "an acknowledged change is lost");
    let effects = numbers(&connection, "SELECT id FROM effects");
    let handled: BTreeSet<u64> = effects.iter().copied().collect();
    assert!(known.handled.is_subset(&handled), "an effect is lost");
    let lag = outbox.lag_now().unwrap();
    assert_eq!(
        lag.backlog_rows + lag.sent,
        own.len() as u64,
        "a change without its event, or an event without its change"
    );
    let settled = "SELECT count(*) FROM t_states WHERE phase = 'sent'";
    let settled = numbers(&connection, settled)[0];
    assert!(
        settled >= known.settled.len() as u64,
        "a settlement is lost"
    );
    let messages = "SELECT CAST(CAST(payload AS TEXT) AS INTEGER) FROM t_messages";
    let messages: BTreeSet<u64> = numbers(&connection, messages).into_iter().collect();
    let (doubts, done) = (&known.finishing, &known.finished);
    assert!(
        messages.is_disjoint(done),
        "a message that was done is back"
    );
    assert!(messages.is_subset(&own), "a message without its change");
    let lost = |number: &&u64| !messages.contains(number) && !doubts.contains(number);
    assert_eq!(known.sent.iter().find(lost), None, "a message is lost");
    // The dead hold nothing any more.
    queue.release_all().unwrap();
    while consume(&queue.queue()) > 0 {}
    assert_eq!(numbers(&connection, "SELECT live FROM t_queue"), [0]);
    // Leases of the dead are over by then.
    let mut now = first + 1_000_000_000;
    while outbox.lag_now().unwrap().backlog_rows > 0 {
        relay(outbox, &mut connection, inbox, now);
        now += 1_000;
    }
    let mut effects = numbers(&connection, "SELECT id FROM effects");
    effects.sort_unstable();
    assert_eq!(effects, own.into_iter().collect::<Vec<_>>(), "once each");
}

#[test]
fn a_killed_process_loses_nothing_and_does_nothing_twice() {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let entropy = SplitMix64::new(1);
    let folder = tempfile::tempdir().unwrap();
    let (mut counted, mut played, mut acknowledged) = (0, 0, 0);
    while counted < rounds {
        let first = played * 10_000_000_000;
        let file = folder.path().join("test.db");
        let known = killed_after(&file, first, 20 + entropy.below(200));
        check(&file, &known, first);
        // A round says something only if there was something to lose, and something under way.
        let under_way = known.begun.difference(&known.sent).count();
        counted += u64::from(!known.sent.is_empty() && under_way > 0);
        acknowledged += known.sent.len();
        played += 1;
        assert!(
            played <= 3 * rounds + 3,
            "{counted} of {played} rounds count"
        );
    }
    println!("{counted} rounds count of {played}; {acknowledged} changes were acknowledged");
}
