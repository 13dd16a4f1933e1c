//! The shop on other engines: a server of each is started for the run and killed in the middle of it; a SQLite file is held
//! by another writer for a while.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use dpat_testkit::servers::{Engine, Installed, Server};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{DPAT, Result, holds};

/// What the shop runs on.
#[derive(Clone, Copy)]
struct On {
    name: &'static str,
    /// Of which a server is needed.
    server: Option<Engine>,
}

const ENGINES: [On; 4] = [
    On {
        name: "sqlite",
        server: None,
    },
    On {
        name: "postgres",
        server: Some(Engine::Postgres),
    },
    On {
        name: "redis",
        server: Some(Engine::Redis),
    },
    On {
        name: "nats",
        server: Some(Engine::Nats),
    },
];

const POSTGRES: On = ENGINES[1];

type Test = fn(On) -> Result<()>;

/// Makes the trials of each engine.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let of_each: [(&str, Test); 4] = [
        ("nothing_breaks", all_holds),
        ("killed_processes_break_nothing", processes),
        ("without_ack_events_are_lost", without_ack),
        (
            "without_idempotency_cards_are_charged_twice",
            without_idempotency,
        ),
    ];
    let all = ENGINES
        .into_iter()
        .flat_map(move |on| of_each.map(|(name, test)| trial(on, name, test)));
    let secret: Test = a_password_is_shown_nowhere;
    all.chain([trial(POSTGRES, "a_password_is_shown_nowhere", secret)])
}

fn trial(on: On, name: &str, test: Test) -> Trial {
    let name = format!("on_{}_{name}", on.name);
    let run = move || Ok(test(on)?);
    let absent = on.server.and_then(|engine| Installed::find(engine).err());
    match absent {
        None => Trial::test(name, run),
        Some(why) => Trial::test(format!("{name}, skipped: {why}"), run).with_ignored_flag(true),
    }
}

/// Runs the shop, with its report in a folder.
fn output(folder: &Path, engine: &str, more: &[&str]) -> Result<Output> {
    let output = Command::new(DPAT)
        .args(["demo", "shop", "--json", "--engine", engine, "--report"])
        .arg(folder.join("report.html"))
        .args(more)
        .stdin(Stdio::null())
        .output();
    output.map_err(|error| error.to_string())
}

/// Runs the shop; returns the exit code and the last line.
fn shop(on: On, more: &[&str]) -> Result<(Option<i32>, Value)> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let sized = [&["--orders", "400", "--rate", "200"], more].concat();
    let output = output(folder.path(), on.name, &sized)?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = lines.lines().last().ok_or_else(|| said.to_string())?;
    let verdict = serde_json::from_str(last).map_err(|error| format!("{error}: {last}\n{said}"))?;
    Ok((output.status.code(), verdict))
}

fn is_whole(on: On, more: &[&str]) -> Result<()> {
    let (code, verdict) = shop(on, more)?;
    let strike = match on.server {
        Some(_) => "engine_kill",
        None => "engine_busy",
    };
    let is_struck = verdict["faults_injected"][strike] == 1;
    let is_whole = verdict["violations"] == json!([]) && verdict["unresolved"] == 0;
    let is_named = verdict["engine"] == on.name;
    holds(code == Some(0) && is_struck && is_whole && is_named, || {
        format!("exit code {code:?}: {verdict}")
    })
}

fn all_holds(on: On) -> Result<()> {
    is_whole(on, &[])
}

fn processes(on: On) -> Result<()> {
    is_whole(on, &["--processes"])
}

/// Runs the shop without a pattern: it breaks what the pattern protects, and nothing else.
fn breaks(on: On, pattern: &str, invariant: &str) -> Result<()> {
    let (code, verdict) = shop(on, &["--without", pattern])?;
    let broken: Vec<&Value> = verdict["violations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["invariant"])
        .collect();
    holds(code == Some(0) && broken == [invariant], || {
        format!("exit code {code:?}: {verdict}")
    })
}

fn without_ack(on: On) -> Result<()> {
    breaks(on, "ack", "nothing_lost")
}

fn without_idempotency(on: On) -> Result<()> {
    breaks(on, "idempotency", "single_charge")
}

fn a_password_is_shown_nowhere(on: On) -> Result<()> {
    const SECRET: &str = "keep-me-for-yourself";
    let engine = on.server.ok_or("it has no server")?;
    let server = Server::start(engine).map_err(|error| error.to_string())?;
    // A server that trusts its machine takes any.
    let url = server
        .url()
        .replace("postgres@", &format!("postgres:{SECRET}@"));
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = output(folder.path(), &url, &["--orders", "100", "--processes"])?;
    let report = std::fs::read(folder.path().join("report.html"));
    let report = report.map_err(|error| error.to_string())?;
    let shown = [&output.stdout[..], &output.stderr, &report].concat();
    let shown = String::from_utf8_lossy(&shown);
    let is_done = output.status.code() == Some(0);
    holds(
        url.contains(SECRET) && is_done && !shown.contains(SECRET),
        || format!("exit code {:?}: {shown}", output.status.code()),
    )
}
