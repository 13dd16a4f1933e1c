//! `cargo xtask package`: every published crate packed, and built from its package.
//!
//! All at once: a crate alone cannot be packaged before its siblings are published.

use crate::ci::check;
use crate::error::{Outcome, Result};
use crate::process::{self, Log, cargo, command};
use crate::workspace::Workspace;

/// The step of `ci`.
pub(crate) fn step(workspace: &Workspace, allow_dirty: bool, log: &Log) -> Result<Outcome> {
    if !allow_dirty && dirty(workspace) {
        return Ok(Outcome::Failed(
            "uncommitted changes would go into the packages; commit, or pass --allow-dirty"
                .to_owned(),
        ));
    }
    let mut package = cargo(
        workspace,
        &["package", "--quiet", "--locked", "--workspace"],
    );
    for unpublished in workspace
        .packages
        .iter()
        .filter(|package| !package.publishable)
    {
        package.args(["--exclude", &unpublished.name]);
    }
    if allow_dirty {
        package.arg("--allow-dirty");
    }
    check(log, &mut package)
}

fn dirty(workspace: &Workspace) -> bool {
    let mut status = command(workspace, "git");
    status.args([
        "status",
        "--porcelain",
        "--",
        "crates",
        "Cargo.toml",
        "Cargo.lock",
    ]);
    process::output(&mut status).is_some_and(|changes| !changes.trim().is_empty())
}
