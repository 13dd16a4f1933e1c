//! How SQLite finds the rows: by indexes, with many rows as with few.

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{Claim, Event, Limits, Outcome, Settlement, Token};
use rusqlite::{Connection, StatementStatus, params_from_iter, types::Value};

use super::Outbox;
use super::statements::Statements;
use crate::config::Config;
use crate::sql::{self, Part};

const ROWS: u64 = 2_000;

fn event(number: u64, key: Option<&str>) -> Event {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    let id = Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap();
    let event = Event::builder(id, "topic").dedup(number.to_string());
    match key {
        Some(key) => event.key(key).build().unwrap(),
        None => event.build().unwrap(),
    }
}

/// Many sent, many that wait for later, a long lane behind one of them, and many parked.
fn filled(config: &Config) -> (Outbox, Connection) {
    let outbox = Outbox::open(config, Limits::DEFAULT).unwrap();
    let mut connection = config.connect().unwrap();
    let tx = connection.transaction().unwrap();
    let mut within = outbox.within(&tx);
    for number in 0..ROWS {
        within.append(&event(number, None), Wall::MIN).unwrap();
    }
    for number in 0..ROWS {
        let event = event(ROWS + number, Some("long"));
        within.append(&event, Wall::MIN).unwrap();
    }
    let claim = Claim {
        token: Token::from_bytes([1; 16]),
        now: Wall::from_nanos(1),
        lease: std::time::Duration::from_secs(1),
        rows_max: usize::MAX,
        bytes_max: usize::MAX,
        lane_rows_max: 1,
    };
    let claimed = within.claim(&claim).unwrap();
    assert_eq!(claimed.len() as u64, ROWS + 1);
    let settlements: Vec<Settlement> = claimed
        .iter()
        .map(|row| Settlement {
            position: row.position,
            token: claim.token,
            outcome: match (row.event.key(), row.position.0 % 3) {
                (None, 0) => Outcome::Sent,
                (None, 1) => Outcome::Park {
                    blocks: true,
                    reason: "no".to_owned(),
                },
                _ => Outcome::Retry {
                    not_before: Wall::from_nanos(u64::MAX / 4),
                },
            },
        })
        .collect();
    within.settle(Wall::from_nanos(2), &settlements).unwrap();
    outbox.commit(tx).unwrap();
    (outbox, connection)
}

fn statements(config: &Config) -> Vec<(String, String)> {
    let outbox = Statements::of(config);
    let mut all: Vec<(String, String)> = outbox
        .all()
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    for (name, text) in [
        ("marker", sql::MARKER),
        ("set_marker", sql::SET_MARKER),
        ("sweep", sql::SWEEP),
    ] {
        all.push((name.to_owned(), config.sql(text)));
    }
    all
}

#[test]
fn every_statement_searches_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("test.db"), "t").unwrap();
    let (_outbox, connection) = filled(&config);
    crate::migrate(&connection, &config, Part::Inbox).unwrap();
    for (name, text) in statements(&config) {
        let explained = format!("EXPLAIN QUERY PLAN {text}");
        let mut explain = connection.prepare(&explained).unwrap();
        let nothing = vec![Value::Null; explain.parameter_count()];
        let plan: Vec<String> = explain
            .query_map(params_from_iter(nothing), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for step in &plan {
            // An index that holds nothing else may be walked, in its order, for as many rows as are asked for.
            let walked = step.contains("USING COVERING INDEX t_states_heads");
            assert!(!step.starts_with("SCAN") || walked, "{name}: {plan:?}");
            assert!(!step.contains("TEMP B-TREE"), "{name} sorts: {plan:?}");
        }
    }
}

/// Runs a statement, and returns the steps of its program and of the triggers that it fires.
fn steps(connection: &Connection, text: &str, params: &[Value]) -> (i32, i32) {
    let mut statement = connection.prepare(text).unwrap();
    let mut rows = statement.query(params_from_iter(params)).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    (
        statement.get_status(StatementStatus::VmStep),
        statement.get_status(StatementStatus::FullscanStep),
    )
}

#[test]
fn triggers_do_no_more_in_a_large_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("test.db"), "t").unwrap();
    let (_outbox, mut connection) = filled(&config);
    let own = Statements::of(&config);
    let tx = connection.transaction().unwrap();
    let first = i64::try_from(ROWS).unwrap() + 1;
    let blob = |bytes: &[u8]| Value::Blob(bytes.to_vec());
    let appended = event(3 * ROWS, Some("long"));
    let id = appended.id().to_bytes();
    let append = [
        blob(&id),
        Value::Text("topic".into()),
        Value::Text("long".into()),
        Value::Null,
        Value::Integer(1),
        blob(&appended.encode()),
        Value::Integer(i64::MAX),
        Value::Integer(i64::MAX),
    ];
    // The head of the long lane is sent: the next one takes its place.
    let sent = [
        Value::Integer(first),
        Value::Text("sent".into()),
        Value::Integer(0),
        Value::Integer(0),
        Value::Null,
        Value::Integer(3),
        Value::Null,
        Value::Null,
    ];
    for (text, params) in [
        (&own.append, &append[..]),
        (&own.set_state, &sent[..]),
        (&own.forget, &[Value::Integer(first)][..]),
        (&own.heads, &[Value::Integer(1), Value::Integer(9)][..]),
        (
            &own.lane,
            &[Value::Text("long".into()), Value::Integer(9)][..],
        ),
        (&own.next_due, &[][..]),
    ] {
        let (all, scanned) = steps(&tx, text, params);
        assert!(all < 600, "{all} steps for {text}");
        assert!(scanned <= 1, "{scanned} rows scanned for {text}");
    }
}
