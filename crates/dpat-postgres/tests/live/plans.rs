//! How the server runs the statements.

use dpat_postgres::sql::{self, Part};
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::{
    Config, Inbox, Outbox, QueueSettings, QueueStore, ResponseLimits, ResponseStore,
};
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// How many rows each table has.
const ROWS: i64 = 20_000;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![live.trial(
        "every_statement_uses_an_index_on_twenty_thousand_rows",
        every_statement_uses_an_index_on_twenty_thousand_rows,
    )]
}

/// A statement with the types of its parameters, and values that it may have.
type Case = (&'static str, &'static str, &'static str);

/// Ids are from 1 to `ROWS`; what is due is so at 1 000; keys are `k0` to `k999`.
const QUEUE: &[Case] = &[
    (
        "send",
        SENDS,
        "NULL, 'k7', 4, 1000, 1000, NULL, 300, NULL, 'p', false",
    ),
    (
        "send_many",
        "text[], bigint[], bigint, bigint[], bigint[], bigint[], bytea[], bytea[]",
        "ARRAY['k7'], ARRAY[4], 1000, ARRAY[1000], ARRAY[NULL::bigint], ARRAY[300], ARRAY[''::bytea], ARRAY['p'::bytea]",
    ),
    ("draw", "", ""),
    ("durable", "", ""),
    ("count_live", "bigint", "100001"),
    ("count_dead", "bigint", "10001"),
    ("count_dedups", "bigint, bigint", "1001, 1000"),
    ("dedup", "text, bigint", "'d7', 1000"),
    ("remember", "text, bigint, bigint", "'d7', 2000, 1000"),
    ("forget_dedups", "bigint", "1000"),
    ("look", "", ""),
    ("ended", "bigint", "1000"),
    ("make_ready", "bigint", "1000"),
    (
        "receive",
        "bigint, bigint, bigint, bigint",
        "64, 1, 2000, 1000",
    ),
    ("claim_loose", "bigint, bigint, bigint", "64, 1, 2000"),
    ("loose", "bigint", "64"),
    ("keyed", "bigint", "64"),
    ("firsts", "text[], bigint", "ARRAY['k7', 'k8'], 1000"),
    ("demote", "bigint[]", "ARRAY[7, 8]"),
    (
        "claim",
        "bigint[], bigint, bigint, text[]",
        "ARRAY[7, 8], 1, 2000, ARRAY['k7', 'k8']",
    ),
    ("contents", "bigint[]", "ARRAY[7, 8]"),
    ("lock_turns", "bigint[]", "ARRAY[7, 8]"),
    ("lock_rows", "bigint[]", "ARRAY[7, 8]"),
    ("delete", "bigint[]", "ARRAY[7, 8]"),
    (
        "done_loose",
        "bigint[], bigint[], bigint",
        "ARRAY[7, 8], ARRAY[1, 1], 1000",
    ),
    ("promote", "text[], bigint", "ARRAY['k7', 'k8'], 1000"),
    (
        "retry",
        "bigint[], bigint[], text[]",
        "ARRAY[7, 8], ARRAY[2000, 2000], ARRAY['', '']",
    ),
    (
        "reject",
        "bigint[], text[], bigint",
        "ARRAY[7, 8], ARRAY['', ''], 1000",
    ),
    ("extend", "bigint[], bigint", "ARRAY[7, 8], 2000"),
    ("leased", "bigint, bigint", "1, 1000"),
    ("lock_all_turns", "", ""),
    ("release_all", "bigint", "1000"),
    ("dead", "bigint, bigint", "7, 100"),
    ("replay", "bigint, bigint", "7, 1000"),
    ("place", "bigint", "7"),
    ("peek", "bigint, bigint", "7, 100"),
    ("purgeable", "bigint, bigint", "1000, 1000"),
    ("count_ready", "bigint", "1000"),
    ("count_leased", "bigint", "1000"),
    ("oldest", "", ""),
    ("set_paused", "boolean", "false"),
    ("notify", "", ""),
];

const SENDS: &str = "bigint, text, bigint, bigint, bigint, bigint, bigint, bytea, bytea, boolean";

const OUTBOX: &[Case] = &[
    (
        "append",
        "bytea, text, text, text, bigint, bytea, boolean",
        "decode(repeat('07', 16), 'hex'), 't', 'k7', NULL, 1000, 'e', false",
    ),
    (
        "call_append",
        "bytea, text, text, text, bigint, bytea, boolean",
        "decode(repeat('07', 16), 'hex'), 't', 'k7', NULL, 1000, 'e', false",
    ),
    (
        "appended",
        "bytea, text",
        "decode(repeat('07', 16), 'hex'), 'd7'",
    ),
    ("backlog", "bigint", "1001"),
    ("loose", "bigint, bigint", "1000, 64"),
    ("heads", "bigint, bigint", "1000, 64"),
    ("next_due", "", ""),
    ("runs", "text[], bigint", "ARRAY['k7', 'k8'], 64"),
    ("lock_lanes", "bigint[]", "ARRAY[7, 8]"),
    ("lock_rows", "bigint[]", "ARRAY[7, 8]"),
    (
        "set_states",
        "bigint[], text[], bigint[], bigint[], bigint[], bigint[], bigint[], text[], bytea[]",
        "ARRAY[7], ARRAY['sent'], ARRAY[1], ARRAY[1000], ARRAY[NULL::bigint], ARRAY[NULL::bigint], ARRAY[1000], \
         ARRAY[NULL::text], ARRAY[NULL::bytea]",
    ),
    ("demote", "bigint[]", "ARRAY[7, 8]"),
    ("promote", "text[]", "ARRAY['k7', 'k8']"),
    ("contents", "bigint[]", "ARRAY[7, 8]"),
    ("parked", "bigint, bigint", "7, 100"),
    ("from", "bigint, bigint", "7, 100"),
    ("oldest", "", ""),
    ("count_parked", "bigint", "1001"),
    ("count_sent", "bigint", "1001"),
    ("set_event", "bigint, text, bytea", "7, 't', 'e'"),
    ("forget", "bigint", "7"),
    ("purge", "bigint, bigint", "1000, 1000"),
];

const INBOX: &[Case] = &[
    ("lock_marker", "text, text", "'s', 'i7'"),
    ("marker", "text, text", "'s', 'i7'"),
    (
        "set_marker",
        "text, text, bigint, bytea",
        "'s', 'i7', 1000, 'm'",
    ),
    ("sweep", "bigint, bigint", "1000, 1000"),
    ("count", "bigint", "10000001"),
];

const RESPONSES: &[Case] = &[
    ("load", "bytea", "'k7'"),
    ("insert", "bytea, bigint, bytea", "'k7', NULL, 'r'"),
    (
        "insert_many",
        "bytea[], bigint[], bytea[]",
        "ARRAY['k7'::bytea, 'k8'], ARRAY[NULL::bigint, 7], ARRAY['r'::bytea, 'r']",
    ),
    (
        "update",
        "bytea, bigint, bytea, bigint",
        "'k7', NULL, 'r', 7",
    ),
    (
        "update_many",
        "bytea[], bigint[], bytea[], bigint[]",
        "ARRAY['k7'::bytea, 'k8'], ARRAY[NULL::bigint, 7], ARRAY['r'::bytea, 'r'], ARRAY[7, 8]",
    ),
    ("remove", "bytea, bigint", "'k7', 7"),
    ("scan", "bytea, bigint", "'k7', 100"),
    ("purge", "bigint, bigint", "1000, 1000"),
    ("count", "bigint", "1000001"),
];

/// Counts of what has no order, as it lies: up to a hundred thousand rows. And, for statistics, of all that is ready, each with
/// what is before it: where that is half of all, to read all is the shortest way.
const COUNTS: [&str; 3] = ["inbox.count", "responses.count", "queue.count_ready"];

/// Of the messages a half has keys, a hundredth is dead, a hundredth is out, and a tenth ends or is due later.
const FILL: [&str; 6] = [
    "INSERT INTO {prefix}_messages (id, key, priority, sent_at, payload) \
     SELECT n, CASE WHEN n % 2 = 0 THEN 'k' || n % 1000 END, 4, n, 'payload' FROM generate_series(1, {rows}) AS n",
    "INSERT INTO {prefix}_deliveries \
       (id, place, key, turn, priority, bytes, due, head, ready, expires, ends, count, holder, leased_until, rejected_at) \
     SELECT n, n, key, get_byte(sha256(convert_to(key, 'UTF8')), 0), 4, 300, due, \
       CASE WHEN key IS NULL OR n <= 1000 THEN due END, coalesce(due <= 1000, false) AND leased IS NULL AND (key IS NULL OR n <= 1000), \
       CASE WHEN n % 10 = 3 THEN 5000 END, CASE WHEN n % 10 = 3 THEN 5000 END, CASE WHEN leased IS NULL THEN 0 ELSE 1 END, \
       CASE WHEN leased IS NOT NULL THEN n % 10 END, leased, CASE WHEN due IS NULL THEN 1000 END \
     FROM ( \
       SELECT n, CASE WHEN n % 2 = 0 THEN 'k' || n % 1000 END AS key, CASE WHEN n % 100 = 1 THEN 2000 + n END AS leased, \
         CASE n % 100 WHEN 99 THEN NULL WHEN 1 THEN 2000 + n WHEN 5 THEN 3000 + n ELSE 500 END AS due \
       FROM generate_series(1, {rows}) AS n \
     ) AS rows",
    "INSERT INTO {prefix}_dedups (dedup, id, until) SELECT 'd' || n, n, n FROM generate_series(1, {rows}) AS n",
    "INSERT INTO {prefix}_markers (scope, id, at, marker) SELECT 's', 'i' || n, n, 'm' FROM generate_series(1, {rows}) AS n",
    "INSERT INTO {prefix}_records (key, version, expires, bytes, record) \
     SELECT convert_to('k' || n, 'UTF8'), n, CASE WHEN n % 2 = 0 THEN n END, 10, 'record' FROM generate_series(1, {rows}) AS n",
    "WITH e AS ( \
       INSERT INTO {prefix}_events (id, topic, dedup, event) \
       SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), 't', 'd' || n, 'event' FROM generate_series(1, {rows}) AS n \
       RETURNING position AS n \
     ), s AS (SELECT n, CASE WHEN n % 2 = 0 THEN 'k' || n % 1000 END AS key, (ARRAY['pending', 'sent', 'claimed', 'parked']) \
       [CASE n % 100 WHEN 7 THEN 3 WHEN 9 THEN 4 ELSE 1 + (n / 3 % 2)::int END] AS phase FROM e) \
     INSERT INTO {prefix}_states (position, key, lane, bytes, phase, attempts, appended_at, entered_at, due, head, sent_at) \
     SELECT n, key, get_byte(sha256(convert_to(key, 'UTF8')), 0), 300, phase, 0, n, n, \
       CASE WHEN phase IN ('pending', 'claimed') THEN n END, CASE WHEN phase IN ('pending', 'claimed') THEN n END, \
       CASE WHEN phase = 'sent' THEN n END FROM s",
];

fn every_statement_uses_an_index_on_twenty_thousand_rows(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        Outbox::open(&config, dpat_outbox::Limits::DEFAULT).await?;
        Inbox::open(&config).await?;
        ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
        QueueStore::open(&config, QueueSettings::DEFAULT, dpat_core::TokioTime).await?;
        // A connection that is set up as the server is: nothing keeps it from reading whole tables.
        let client = kit::client(url).await;
        for text in FILL {
            client
                .batch_execute(&config.sql(text).replace("{rows}", &ROWS.to_string()))
                .await?;
        }
        let tables = "ANALYZE {prefix}_messages, {prefix}_deliveries, {prefix}_dedups, {prefix}_markers, {prefix}_records, \
                      {prefix}_events, {prefix}_states, {prefix}_queue, {prefix}_turns, {prefix}_lanes";
        client.batch_execute(&config.sql(tables)).await?;
        let mut read_whole = Vec::new();
        for (part, cases) in [
            (Part::Queue, QUEUE),
            (Part::Outbox, OUTBOX),
            (Part::Inbox, INBOX),
            (Part::Responses, RESPONSES),
        ] {
            let texts = sql::statements(&config, part);
            let names = |name: &&'static str| *name;
            let known: Vec<&str> = cases.iter().map(|case| names(&case.0)).collect();
            let there: Vec<&str> = texts.iter().map(|text| names(&text.0)).collect();
            assert_eq!(known, there, "every statement is looked at");
            for ((name, text), case) in texts.iter().zip(cases) {
                let name = format!("{}.{name}", part.name());
                if COUNTS.contains(&&*name) {
                    continue;
                }
                // With the values at hand, and as the server plans what runs again and again.
                for mode in ["force_custom_plan", "force_generic_plan"] {
                    let plan = plan(&client, mode, text, case).await?;
                    if whole(&config, &plan) {
                        read_whole.push(format!("{name}, {mode}:\n{plan}"));
                    }
                }
            }
        }
        assert!(read_whole.is_empty(), "{}", read_whole.join("\n"));
        Ok(())
    })
}

async fn plan(
    client: &Client,
    mode: &str,
    text: &str,
    (_, types, values): &Case,
) -> Result<String, Failed> {
    let list = |inside: &str| match inside {
        "" => String::new(),
        inside => format!("({inside})"),
    };
    let prepare = format!(
        "SET plan_cache_mode = {mode}; PREPARE one{} AS {text}",
        list(types)
    );
    client.batch_execute(&prepare).await?;
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE one{}", list(values));
    let rows = client.query(&explain, &[]).await?;
    client.batch_execute("DEALLOCATE one").await?;
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(lines.join("\n"))
}

/// Whether a plan reads a whole table, but for those that are always small.
fn whole(config: &Config, plan: &str) -> bool {
    let small =
        ["queue", "turns", "lanes"].map(|table| config.sql(&format!("on {{prefix}}_{table}")));
    let mut scans = plan.lines().filter(|line| line.contains("Seq Scan on "));
    scans.any(|line| {
        let line = line.trim_end();
        !small
            .iter()
            .any(|table| line.contains(&format!("{table} ")) || line.ends_with(table.as_str()))
    })
}
