//! Feature sets: no feature, each alone, all; and the tests with the default ones.
//!
//! `--all-features` hides a `use` that only another feature needs. In `ci` this looks at the
//! crates that the last commits touched, in `ci --full` at all.

use std::collections::BTreeSet;

use crate::deps::published_libraries;
use crate::error::{Outcome, Result};
use crate::process::{self, Log, cargo, command, run};
use crate::workspace::{Package, Workspace};

/// How far back a change makes a crate worth looking at.
const COMMITS: &str = "-30";

/// The arguments of every feature set of a crate.
pub(crate) fn sets(package: &Package) -> Vec<Vec<String>> {
    let mut sets = vec![vec!["--no-default-features".to_owned()]];
    for feature in &package.features {
        sets.push(vec![
            "--no-default-features".to_owned(),
            "--features".to_owned(),
            feature.clone(),
        ]);
    }
    if package.features.len() > 1 {
        sets.push(vec!["--all-features".to_owned()]);
    }
    sets
}

/// Names of the folders under `crates/` in a list of paths.
fn folders(paths: &str) -> BTreeSet<String> {
    paths
        .lines()
        .filter_map(|line| {
            let mut parts = line.trim().split('/');
            let crates = parts.next()?;
            let folder = parts.next()?;
            (crates == "crates").then(|| format!("crates/{folder}"))
        })
        .collect()
}

/// Folders that the last commits or the working tree changed; none when git cannot tell.
fn touched(workspace: &Workspace) -> Option<BTreeSet<String>> {
    let mut log = command(workspace, "git");
    log.args(["log", COMMITS, "--name-only", "--pretty=format:"]);
    let mut diff = command(workspace, "git");
    diff.args(["diff", "--name-only", "HEAD"]);
    let mut paths = process::output(&mut log)?;
    paths.push('\n');
    paths.push_str(&process::output(&mut diff)?);
    Some(folders(&paths))
}

/// The step of `ci`.
pub(crate) fn step(workspace: &Workspace, full: bool, log: &Log) -> Result<Outcome> {
    let touched = if full { None } else { touched(workspace) };
    let mut count = 0_usize;
    let mut failed = Vec::new();
    for package in published_libraries(workspace) {
        if touched
            .as_ref()
            .is_some_and(|touched| !touched.contains(&package.dir))
        {
            continue;
        }
        for set in sets(package) {
            count += 1;
            // The artefacts of `clippy` are the ones of `check`, and only it can deny warnings
            // without building every dependency again.
            let mut check = cargo(
                workspace,
                &["clippy", "--quiet", "--locked", "--no-deps", "--lib"],
            );
            check
                .args(["--package", &package.name])
                .args(&set)
                .args(["--", "-D", "warnings"]);
            if !run(log, &mut check)? {
                failed.push(format!("{} {}", package.name, set.join(" ")));
            }
        }
        count += 1;
        let mut tests = cargo(workspace, &["clippy", "--quiet", "--locked", "--no-deps"]);
        tests
            .args(["--all-targets", "--package", &package.name])
            .args(["--", "-D", "warnings"]);
        if !run(log, &mut tests)? {
            failed.push(format!(
                "{} --all-targets with default features",
                package.name
            ));
        }
    }
    Ok(if failed.is_empty() {
        Outcome::Ok(Some(format!("{count} sets")))
    } else {
        Outcome::Failed(format!(
            "{} of {count} sets: {}",
            failed.len(),
            failed.join("; ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_none_each_and_all() {
        let package = Package {
            features: vec!["serde".to_owned(), "tower".to_owned()],
            ..Package::default()
        };
        let sets: Vec<String> = sets(&package).iter().map(|set| set.join(" ")).collect();
        assert_eq!(
            sets,
            [
                "--no-default-features",
                "--no-default-features --features serde",
                "--no-default-features --features tower",
                "--all-features",
            ]
        );
    }

    #[test]
    fn folders_come_from_paths_under_crates() {
        let paths = "crates/dpat-core/src/lib.rs\n\nREADME.md\ncrates/dpat-core/README.md\nxtask/src/ci.rs\n";
        assert_eq!(Vec::from_iter(folders(paths)), ["crates/dpat-core"]);
    }
}
