//! The shop on the servers of other engines: each started for the run, and killed in the middle of it.

use std::process::{Command, Stdio};

use dpat_testkit::servers::{Engine, Installed};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{DPAT, Result, holds};

/// What the shop runs on.
const ENGINES: [Engine; 1] = [Engine::Redis];

/// Makes the trials of each engine.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    ENGINES.into_iter().flat_map(|engine| {
        let whole = ("nothing_breaks", all_holds as fn(Engine) -> Result<()>);
        let broken = (
            "without_ack_events_are_lost",
            without_ack as fn(Engine) -> Result<()>,
        );
        let absent = Installed::find(engine).err().map(|one| one.to_string());
        [whole, broken].map(|(name, test)| {
            let name = format!("on_{}_{name}", engine.name());
            let run = move || Ok(test(engine)?);
            match &absent {
                None => Trial::test(name, run),
                Some(why) => {
                    Trial::test(format!("{name}, skipped: {why}"), run).with_ignored_flag(true)
                }
            }
        })
    })
}

/// Runs the shop; returns the exit code and the last line.
fn shop(engine: Engine, more: &[&str]) -> Result<(Option<i32>, Value)> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = Command::new(DPAT)
        .args(["demo", "shop", "--json", "--orders", "400", "--rate", "200"])
        .args(["--engine", engine.name(), "--report"])
        .arg(folder.path().join("report.html"))
        .args(more)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = lines.lines().last().ok_or_else(|| said.to_string())?;
    let verdict = serde_json::from_str(last).map_err(|error| format!("{error}: {last}\n{said}"))?;
    Ok((output.status.code(), verdict))
}

fn all_holds(engine: Engine) -> Result<()> {
    let (code, verdict) = shop(engine, &[])?;
    let is_killed = verdict["faults_injected"]["engine_kill"] == 1;
    let is_whole = verdict["violations"] == json!([]) && verdict["unresolved"] == 0;
    let is_named = verdict["engine"] == engine.name();
    holds(code == Some(0) && is_killed && is_whole && is_named, || {
        format!("exit code {code:?}: {verdict}")
    })
}

fn without_ack(engine: Engine) -> Result<()> {
    let (code, verdict) = shop(engine, &["--without", "ack"])?;
    let broken = &verdict["violations"][0]["invariant"];
    holds(code == Some(0) && broken == "nothing_lost", || {
        format!("exit code {code:?}: {verdict}")
    })
}
