//! Runs each example of the library crates once, from the build that the tests use.

use std::time::Duration;

use crate::ci::Context;
use crate::deps::published_libraries;
use crate::error::{Outcome, Result};
use crate::process::{Log, command, run_limited};

/// An example that runs longer hangs; they are meant to end within two seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// The step of `ci`.
pub(crate) fn step(context: &Context, log: &Log) -> Result<Outcome> {
    if !context.build(log)? {
        return Ok(Outcome::Failed("the workspace does not build".to_owned()));
    }
    let workspace = &context.workspace;
    let mut ran = 0_usize;
    let mut failed = Vec::new();
    for package in published_libraries(workspace) {
        for example in &package.examples {
            let program = workspace.target.join("debug/examples").join(example);
            let stdout = workspace
                .target
                .join("ci/examples")
                .join(format!("{example}.out"));
            let mut command = command(workspace, &program.to_string_lossy());
            let end = run_limited(log, &mut command, &stdout, LIMIT)?;
            ran += 1;
            log.line(&format!("{example}: {:.1} s\n{}", end.seconds, end.stdout))?;
            if end.timed_out {
                failed.push(format!("{example} ran for {} s", LIMIT.as_secs()));
            } else if end.code != Some(0) {
                failed.push(format!("{example} did not end with exit code 0"));
            } else if end.stdout.trim().is_empty() {
                failed.push(format!("{example} printed nothing"));
            }
        }
    }
    Ok(match (failed.is_empty(), ran) {
        (false, _) => Outcome::Failed(failed.join("; ")),
        (true, 0) => Outcome::Skipped("no library crate has an example yet".to_owned()),
        (true, _) => Outcome::Ok(Some(format!("{ran} examples"))),
    })
}
