//! `cargo xtask loom`: every interleaving of the small models in `src/loom_tests.rs`.
//!
//! One crate per invocation and one shared target folder, so that loom itself is built once.

use crate::clock::Stopwatch;
use crate::error::{Error, Outcome, Result};
use crate::process::{Log, cargo, run};
use crate::workspace::Workspace;

/// Seconds that the models of one crate may run.
const LIMIT_S: f64 = 10.0;
/// Seconds with the wider bound of `--full`.
const LIMIT_FULL_S: f64 = 120.0;

/// The step of `ci`; `names` narrows it to some crates, empty means all that have models.
pub(crate) fn step(
    workspace: &Workspace,
    full: bool,
    names: &[String],
    log: &Log,
) -> Result<Outcome> {
    let with_models: Vec<&str> = workspace
        .packages
        .iter()
        .filter(|package| {
            workspace
                .root
                .join(&package.dir)
                .join("src/loom_tests.rs")
                .is_file()
        })
        .map(|package| package.name.as_str())
        .filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| !with_models.contains(&name.as_str()))
    {
        return Err(Error::Usage(format!(
            "loom: `{unknown}` is no crate with src/loom_tests.rs"
        )));
    }
    if with_models.is_empty() {
        return Ok(Outcome::Skipped(
            "no crate has src/loom_tests.rs".to_owned(),
        ));
    }
    let limit = if full { LIMIT_FULL_S } else { LIMIT_S };
    let mut times = Vec::new();
    let mut failed = Vec::new();
    for name in with_models {
        if !run(log, models(workspace, name, full).arg("--no-run"))? {
            failed.push(format!("{name} does not build"));
            continue;
        }
        let watch = Stopwatch::start();
        let held = run(log, models(workspace, name, full).args(["loom"]))?;
        let seconds = watch.seconds();
        times.push(format!("{name} {seconds:.1} s"));
        if !held {
            failed.push(format!("{name} has a failing model"));
        } else if seconds > limit {
            failed.push(format!(
                "{name} ran {seconds:.0} s, a crate's models have {limit:.0} s"
            ));
        }
    }
    Ok(if failed.is_empty() {
        Outcome::Ok(Some(times.join(", ")))
    } else {
        Outcome::Failed(failed.join("; "))
    })
}

fn models(workspace: &Workspace, name: &str, full: bool) -> std::process::Command {
    let mut command = cargo(workspace, &["test", "--locked", "--lib", "--package", name]);
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg dpat_loom");
    command
        .env("RUSTFLAGS", flags.trim_start())
        .env("LOOM_MAX_PREEMPTIONS", if full { "3" } else { "2" })
        .arg("--target-dir")
        .arg(workspace.target.join("loom"));
    command
}
