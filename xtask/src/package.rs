//! `cargo xtask package`: every published crate packed, and built from its package.
//!
//! All at once: a crate alone cannot be packaged before its siblings are published.

use std::path::{Path, PathBuf};

use crate::ci::check;
use crate::error::{Error, Outcome, Result};
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
    if let Some(home) = cargo_home() {
        forget_unpacked(workspace, &home.join("registry/src"))?;
        forget_built(workspace)?;
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

/// Where cargo keeps what it has unpacked.
fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Removes our crates as earlier runs have unpacked them.
///
/// While it verifies, cargo serves the packages from a registry in a folder, and unpacks them by name and version once
/// for each path of such a registry: a second run at the same path would build against the sources of the first.
fn forget_unpacked(workspace: &Workspace, sources: &Path) -> Result<()> {
    let Ok(registries) = std::fs::read_dir(sources) else {
        return Ok(());
    };
    for registry in registries.flatten() {
        // A registry in a folder has no host, so its name begins with the dash before the hash.
        if !registry.file_name().to_string_lossy().starts_with('-') {
            continue;
        }
        let Ok(unpacked) = std::fs::read_dir(registry.path()) else {
            continue;
        };
        for source in unpacked.flatten() {
            if ours(workspace, &source.file_name().to_string_lossy()) {
                let path = source.path();
                std::fs::remove_dir_all(&path).map_err(|error| Error::io(&path, &error))?;
            }
        }
    }
    Ok(())
}

/// Lets cargo build again what it has built from them: it takes a package of a registry for one that cannot change.
fn forget_built(workspace: &Workspace) -> Result<()> {
    let profile = workspace.target.join("debug");
    let Ok(built) = std::fs::read_dir(profile.join("deps")) else {
        return Ok(());
    };
    for file in built.flatten() {
        let name = file.file_name().to_string_lossy().replace('_', "-");
        let Some(unit) = name.strip_suffix(".d") else {
            continue;
        };
        let of_ours = unit
            .rsplit_once('-')
            .is_some_and(|(package, _)| workspace.package(package).is_some());
        if !of_ours || !names_a_registry_in_a_folder(&file.path()) {
            continue;
        }
        let fingerprint = profile.join(".fingerprint").join(unit);
        if fingerprint.is_dir() {
            std::fs::remove_dir_all(&fingerprint)
                .map_err(|error| Error::io(&fingerprint, &error))?;
        }
    }
    Ok(())
}

/// Whether what a file of dependencies names was unpacked from a registry in a folder.
fn names_a_registry_in_a_folder(dependencies: &Path) -> bool {
    std::fs::read_to_string(dependencies)
        .is_ok_and(|text| text.replace('\\', "/").contains("/registry/src/-"))
}

/// Whether a folder is named after a package of ours and a version.
fn ours(workspace: &Workspace, folder: &str) -> bool {
    workspace.packages.iter().any(|package| {
        folder
            .strip_prefix(&package.name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    #[test]
    fn only_our_own_crates_of_registries_in_folders_are_forgotten() {
        let sources =
            std::env::temp_dir().join(format!("dpat-xtask-package-{}", std::process::id()));
        let kept = [
            "-a1/serde-1.0.0",
            "-a1/dpat-core-extra-0.1.0",
            "host-b2/dpat-core-0.1.0",
        ];
        let forgotten = ["-a1/dpat-core-0.1.0", "-c3/dpat-core-0.2.0"];
        for folder in kept.iter().chain(&forgotten) {
            std::fs::create_dir_all(sources.join(folder)).unwrap();
        }
        let workspace = Workspace {
            root: sources.clone(),
            target: sources.clone(),
            packages: vec![Package {
                name: "dpat-core".to_owned(),
                ..Package::default()
            }],
        };
        forget_unpacked(&workspace, &sources).unwrap();
        for folder in kept {
            assert!(sources.join(folder).is_dir(), "{folder}");
        }
        for folder in forgotten {
            assert!(!sources.join(folder).exists(), "{folder}");
        }
        std::fs::remove_dir_all(&sources).unwrap();
    }

    #[test]
    fn only_what_was_built_from_a_registry_in_a_folder_is_built_again() {
        let target = std::env::temp_dir().join(format!("dpat-xtask-built-{}", std::process::id()));
        let deps = target.join("debug/deps");
        std::fs::create_dir_all(&deps).unwrap();
        let units = [
            (
                "dpat_core-01",
                "/cargo/registry/src/-a1/dpat-core-0.1.0/src/lib.rs",
                false,
            ),
            ("dpat_core-02", "crates/dpat-core/src/lib.rs", true),
            (
                "serde-03",
                "/cargo/registry/src/-a1/serde-1.0.0/src/lib.rs",
                true,
            ),
        ];
        let fingerprint = |unit: &str| {
            target
                .join("debug/.fingerprint")
                .join(unit.replace('_', "-"))
        };
        for (unit, source, _) in units {
            std::fs::write(
                deps.join(format!("{unit}.d")),
                format!("{unit}: {source}\n"),
            )
            .unwrap();
            std::fs::create_dir_all(fingerprint(unit)).unwrap();
        }
        let workspace = Workspace {
            root: target.clone(),
            target: target.clone(),
            packages: vec![Package {
                name: "dpat-core".to_owned(),
                ..Package::default()
            }],
        };
        forget_built(&workspace).unwrap();
        for (unit, _, stays) in units {
            assert_eq!(fingerprint(unit).is_dir(), stays, "{unit}");
        }
        std::fs::remove_dir_all(&target).unwrap();
    }
}
