//! What is stored: files, versions, names, rows that do not decode.

use std::collections::BTreeSet;

use dpat_core::{Class, Classify, Effect, ManualTime, Wall};
use dpat_idempotency::inbox::AcceptError;
use dpat_idempotency::{Fingerprint, Key, Store as _};
use dpat_outbox::{Limits, Outcome, Position, Settlement, Store, Token};
use dpat_sqlite::rusqlite::{self, Connection};
use dpat_sqlite::sql::Part;
use dpat_sqlite::{
    Config, ConfigError, EngineError, Inbox, OpenError, Outbox, QueueSettings, QueueStore,
    ResponseLimits, ResponseStore, Tables, Threads, migrate,
};

use crate::kit::{Folder, append, claim, event, number_of, run};

fn open_all(config: &Config) -> [Result<(), OpenError>; 4] {
    let limits = ResponseLimits::DEFAULT;
    [
        Outbox::open(config, Limits::DEFAULT).map(drop),
        config
            .connect()
            .and_then(|connection| Inbox::open(&connection, config).map(drop)),
        ResponseStore::open(config, limits).map(drop),
        QueueStore::open(config, QueueSettings::DEFAULT, ManualTime::new()).map(drop),
    ]
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = Folder::new();
    let config = folder.config();
    for opened in open_all(&config) {
        opened.unwrap();
    }
    let connection = folder.connect();
    connection
        .execute("UPDATE t_schema SET version = 2", [])
        .unwrap();
    for (opened, part) in open_all(&config).into_iter().zip(Part::ALL) {
        let error = opened.unwrap_err();
        let part = part.name();
        assert_eq!(
            error.to_string(),
            format!(
                "t_schema: {part} 2 is newer than 1, the newest that this version knows: update the crate"
            )
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
    }
}

#[test]
fn migrating_again_changes_nothing() {
    let folder = Folder::new();
    let config = folder.config();
    let mut connection = folder.connect();
    let version = |connection: &Connection| number_of(connection, "PRAGMA schema_version");
    // In the caller's transaction, which decides.
    let tx = connection.transaction().unwrap();
    migrate(&tx, &config, Part::Outbox).unwrap();
    tx.rollback().unwrap();
    assert_eq!(
        number_of(&connection, "SELECT count(*) FROM sqlite_schema"),
        0
    );
    for part in Part::ALL {
        migrate(&connection, &config, part).unwrap();
        let before = version(&connection);
        migrate(&connection, &config, part).unwrap();
        let tx = connection.transaction().unwrap();
        migrate(&tx, &config, part).unwrap();
        tx.commit().unwrap();
        assert_eq!(version(&connection), before);
    }
    let noted = "SELECT count(*) FROM t_schema WHERE version = 1";
    assert_eq!(number_of(&connection, noted), 4);
}

#[test]
fn own_migrations_make_the_same_tables() {
    let (ours, own) = (Folder::new(), Folder::new());
    let connection = own.connect();
    let config = own.config().tables(Tables::Expect);
    for opened in open_all(&config) {
        let error = opened.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("of prefix `t` is at version 0 of 1"),
            "{error}"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
    }
    for part in Part::ALL {
        for step in part.steps() {
            connection.execute_batch(&config.sql(step.sql)).unwrap();
        }
    }
    for opened in open_all(&config)
        .into_iter()
        .chain(open_all(&ours.config()))
    {
        opened.unwrap();
    }
    let objects = |connection: &Connection| {
        let mut found = connection
            .prepare("SELECT name || coalesce(sql, '') FROM sqlite_schema")
            .unwrap();
        let found = found.query_map([], |row| row.get::<_, String>(0)).unwrap();
        found.collect::<Result<BTreeSet<String>, _>>().unwrap()
    };
    assert_eq!(objects(&connection), objects(&ours.connect()));
}

#[test]
fn missing_tables_are_a_typed_error_that_says_what_to_do() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let other = Folder::new();
    let mut elsewhere = other.connect();
    let tx = elsewhere.transaction().unwrap();
    let error = outbox.append(&tx, &event(1, ""), Wall::MIN).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no such table: t_"), "{text}");
    assert!(text.contains("check `path` and `prefix`"), "{text}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone)
    );
}

#[test]
fn a_wrong_path_is_a_typed_error_that_names_it() {
    let folder = Folder::new();
    let text = folder.file().with_extension("txt");
    std::fs::write(
        &text,
        "this is a text of some length, and no database at all".repeat(9),
    )
    .unwrap();
    let missing = folder.file().join("missing").join("test.db");
    let directory = folder.file().parent().unwrap().to_owned();
    let memory = std::path::PathBuf::from(":memory:");
    for (path, class, says) in [
        (
            missing,
            Class::Unavailable,
            "check that the folder of `path` is there",
        ),
        (
            directory,
            Class::Unavailable,
            "check that the folder of `path` is there",
        ),
        (
            text,
            Class::Corrupt,
            "names a file that is no SQLite database",
        ),
        (memory, Class::InvalidInput, "name a file on a local disk"),
    ] {
        let config = Config::new(&path, "t").unwrap();
        for opened in open_all(&config) {
            let error = opened.unwrap_err();
            let text = error.to_string();
            let start = format!("path: `{}`: ", path.display());
            assert!(text.starts_with(&start) && text.contains(says), "{text}");
            assert_eq!((error.class(), error.effect()), (class, Effect::NotDone));
        }
    }
}

#[test]
fn connections_have_a_log_and_full_synchronisation() {
    let folder = Folder::new();
    let connection = folder.connect();
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    assert_eq!(number_of(&connection, "PRAGMA synchronous"), 2, "full");
    assert_eq!(number_of(&connection, "PRAGMA busy_timeout"), 5_000);
}

#[test]
fn settings_are_bounded_and_prefixes_kept_apart() {
    for prefix in ["", "1a", "a-b", "A", "a b", "a\"", &"x".repeat(49)] {
        let error = Config::new("x.db", prefix).unwrap_err();
        assert!(matches!(error, ConfigError::Prefix { .. }), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
    let config = Config::new("x.db", "x".repeat(48)).unwrap();
    let error = config
        .busy_timeout(std::time::Duration::from_secs(61))
        .unwrap_err();
    assert_eq!(error.to_string(), "busy_timeout: 61s is more than 60s");
    let folder = Folder::new();
    let open = |prefix: &str| {
        let config = Config::new(folder.file(), prefix).unwrap();
        Outbox::open(&config, Limits::DEFAULT).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    append(&mut folder.connect(), &one, Wall::MIN, &[event(1, "a")]);
    assert_eq!(one.lag_now().unwrap().backlog_rows, 1);
    assert_eq!(two.lag_now().unwrap().backlog_rows, 0);
}

#[test]
fn a_row_of_the_outbox_that_does_not_decode_is_a_typed_error() {
    for (spoil, table) in [
        ("UPDATE t_events SET event = x'ffffff'", "t_events"),
        ("UPDATE t_states SET state = x'ff01'", "t_states"),
    ] {
        let folder = Folder::new();
        let outbox = folder.outbox();
        let mut connection = folder.connect();
        append(&mut connection, &outbox, Wall::MIN, &[event(1, "a")]);
        connection.execute(spoil, []).unwrap();
        let error = run(outbox.claim(&claim(1, 5))).unwrap_err();
        let start = format!("table {table}: row 1 does not decode: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Corrupt, Effect::NotDone)
        );
        if table == "t_states" {
            let settlement = Settlement {
                position: Position(1),
                token: Token::from_bytes([1; 16]),
                outcome: Outcome::Sent,
            };
            let settled = run(outbox.settle(Wall::MIN, &[settlement]));
            assert_eq!(settled.unwrap_err().class(), Class::Corrupt);
        }
        // Nothing was changed.
        assert_eq!(outbox.lag_now().unwrap().backlog_rows, 1);
    }
}

#[test]
fn tables_that_do_not_fit_together_are_a_typed_error() {
    for (spoil, says) in [
        (
            "DROP TRIGGER t_events_delete; DELETE FROM t_events",
            "table t_events: row 1: its state is there, and the event is gone",
        ),
        (
            "UPDATE t_states SET phase = 'parked'",
            "table t_states: row 1: listed as parked, and it is not",
        ),
        (
            "DELETE FROM t_outbox",
            "table t_outbox: row 1: the row of counts is gone",
        ),
    ] {
        let folder = Folder::new();
        let outbox = folder.outbox();
        let mut connection = folder.connect();
        append(&mut connection, &outbox, Wall::MIN, &[event(1, "a")]);
        connection.execute_batch(spoil).unwrap();
        let parked = run(outbox.parked(None, 9)).map(drop);
        let claimed = run(outbox.claim(&claim(1, 5))).map(drop);
        let lag = run(outbox.lag()).map(drop);
        let errors: Vec<_> = [claimed, parked, lag]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert_eq!(errors.len(), 1, "{says}");
        assert_eq!(errors[0].to_string(), says);
        assert_eq!(errors[0].class(), Class::Corrupt);
    }
}

#[test]
fn a_marker_or_key_that_does_not_decode_is_a_typed_error() {
    let folder = Folder::new();
    let config = folder.config();
    let mut connection = folder.connect();
    let inbox = Inbox::open(&connection, &config).unwrap();
    let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).unwrap();
    let spoiled = "INSERT INTO t_markers VALUES ('s', 'a', 1, x'ff');
        INSERT INTO t_records VALUES (x'0909', 1, NULL, x'')";
    connection.execute_batch(spoiled).unwrap();
    let key = Key::new("s", "a").unwrap();
    let tx = connection.transaction().unwrap();
    let error = inbox
        .accept(&tx, &key, Fingerprint::NONE, Wall::MIN, |_| {
            Ok::<_, EngineError>("".into())
        })
        .unwrap_err();
    assert!(matches!(error, AcceptError::Corrupt(_)), "{error}");
    assert_eq!(error.class(), Class::Corrupt);
    let error = run(store.scan(None, 9)).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
}

#[test]
fn large_payloads_come_back_whole_and_larger_ones_are_refused() {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let largest = dpat_outbox::Event::builder(crate::kit::id(1), "topic")
        .payload(vec![7; dpat_outbox::PAYLOAD_BYTES_MAX])
        .build()
        .unwrap();
    append(
        &mut folder.connect(),
        &outbox,
        Wall::MIN,
        std::slice::from_ref(&largest),
    );
    let batch = run(outbox.claim(&claim(1, 5))).unwrap();
    assert_eq!(batch.rows[0].event, largest);
    let error = dpat_outbox::Event::builder(crate::kit::id(1), "topic")
        .payload(vec![7; dpat_outbox::PAYLOAD_BYTES_MAX + 1])
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("payload"), "{error}");
    assert_eq!(error.class(), Class::InvalidInput);
}

#[test]
fn people_read_where_an_event_stands() -> rusqlite::Result<()> {
    let folder = Folder::new();
    let outbox = folder.outbox();
    let mut connection = folder.connect();
    let events = [event(1, "a"), event(2, "a"), event(3, "")];
    append(&mut connection, &outbox, Wall::from_nanos(1), &events);
    let claimed = run(outbox.claim(&claim(1, 5))).unwrap().rows;
    let settle = |index: usize, outcome| Settlement {
        position: claimed[index].position,
        token: claim(1, 5).token,
        outcome,
    };
    let parked = Outcome::Park {
        blocks: true,
        reason: "no".to_owned(),
    };
    let at = |position| {
        claimed
            .iter()
            .position(|row| row.position == Position(position))
    };
    let settlements = [
        settle(at(3).unwrap(), Outcome::Sent),
        settle(at(1).unwrap(), parked),
    ];
    run(outbox.settle(Wall::from_nanos(6), &settlements)).unwrap();
    let mut read = connection
        .prepare("SELECT phase, attempts, reason, head, sent_at FROM t_states ORDER BY position")?;
    type Seen = (String, i64, Option<String>, Option<i64>, Option<i64>);
    let seen: Vec<Seen> = read
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })?
        .collect::<Result<_, _>>()?;
    let expected: [Seen; 3] = [
        ("parked".into(), 1, Some("no".into()), None, None),
        ("claimed".into(), 0, None, None, None),
        ("sent".into(), 0, None, None, Some(6)),
    ];
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn a_future_that_is_dropped_leaves_its_work_whole() {
    let folder = Folder::new();
    let config = folder.config().threads(Threads::TokioBlocking);
    let outbox = Outbox::open(&config, Limits::DEFAULT).unwrap();
    let events: Vec<_> = (0..9).map(|number| event(number, "")).collect();
    append(&mut folder.connect(), &outbox, Wall::MIN, &events);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    {
        runtime().block_on(async {
            let asked = claim(1, 5);
            let mut claiming = outbox.claim(&asked);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            // Started, and nobody waits for it.
            let _ = claiming.as_mut().poll(&mut cx);
        });
        // The end of the runtime waits for a thread that has begun; one that has not never will.
    }
    // Claimed as a whole or not at all; and free when the lease ends.
    let free = |token, now| {
        let batch = runtime().block_on(outbox.claim(&claim(token, now)));
        batch.unwrap().rows.len()
    };
    let not_claimed = free(2, 50);
    assert!(matches!(not_claimed, 0 | 9), "{not_claimed}");
    assert_eq!(free(3, 150), 9);
}

/// The statements of the guide run, and see what is there.
#[test]
fn the_statements_for_monitoring_see_what_is_there() {
    let folder = Folder::new();
    let config = folder.config();
    for opened in open_all(&config) {
        opened.unwrap();
    }
    let mut connection = folder.connect();
    append(
        &mut connection,
        &folder.outbox(),
        Wall::from_nanos(1),
        &[event(1, "a"), event(2, "a")],
    );
    let time = ManualTime::new();
    let store = QueueStore::open(&config, QueueSettings::DEFAULT, time).unwrap();
    let queue = store.queue();
    run(queue.send(dpat_queue::Message::new("a"))).unwrap();
    run(queue.send(dpat_queue::Message::new("b"))).unwrap();
    let out = run(queue.receive()).unwrap();
    let outcome = dpat_queue::Outcome::Reject {
        reason: "no such order".to_owned(),
    };
    run(queue.settle(out.receipt, outcome)).unwrap();
    run(queue.receive()).unwrap();

    let mut found = Vec::new();
    let statements = include_str!("../../sql/monitor.sql").replace("{prefix}", "t");
    for statement in statements.split_inclusive(';') {
        if statement.trim().is_empty() {
            continue;
        }
        let mut statement = connection.prepare(statement).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<rusqlite::types::Value> = (0..columns)
                .map(|column| row.get(column).unwrap())
                .collect();
            found.push(format!("{values:?}"));
        }
    }
    let waited = found.remove(1);
    assert!(waited.starts_with("[Integer(1"), "{waited}");
    let backlog = found.remove(0);
    assert!(backlog.starts_with("[Integer(2), "), "{backlog}");
    let live = found.remove(0);
    assert!(
        live.starts_with("[Integer(1), Integer(257), Integer(1), "),
        "{live}"
    );
    assert_eq!(
        found,
        [
            "[Integer(1)]",
            "[Integer(1), Integer(1), Text(\"no such order\")]",
            "[Integer(0)]",
            "[Integer(0), Integer(0)]",
        ]
    );
}
