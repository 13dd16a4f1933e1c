//! `cargo xtask new-crate NAME`: a crate with the files that every crate has.
//!
//! What it writes is a small complete pattern, not empty slots, so that `tidy`, `layers`, clippy,
//! the tests and the models pass at once, and the author replaces one thing after the other.

use std::fs;
use std::path::Path;

use crate::error::{Error, Outcome, Result};
use crate::layers::{Layer, layer_of, planned};
use crate::process::{Log, cargo, run};
use crate::workspace::{Budgets, Workspace, write_if_changed};

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../templates/Cargo.toml.in")),
    ("README.md", include_str!("../templates/README.md.in")),
    ("CHANGELOG.md", include_str!("../templates/CHANGELOG.md.in")),
    ("src/lib.rs", include_str!("../templates/lib.rs.in")),
    ("src/config.rs", include_str!("../templates/config.rs.in")),
    ("src/error.rs", include_str!("../templates/error.rs.in")),
    ("src/machine.rs", include_str!("../templates/machine.rs.in")),
    ("src/limit.rs", include_str!("../templates/limit.rs.in")),
    ("src/sync.rs", include_str!("../templates/sync.rs.in")),
    (
        "src/loom_tests.rs",
        include_str!("../templates/loom_tests.rs.in"),
    ),
    ("tests/it/main.rs", include_str!("../templates/it.rs.in")),
    (
        "examples/{{short}}_basic.rs",
        include_str!("../templates/example.rs.in"),
    ),
];

/// External packages that a new crate may pull in: what `thiserror` takes, and two more.
const PACKAGES: u32 = 8;

/// The names that the templates use.
struct Names {
    name: String,
    short: String,
    ident: String,
    type_name: String,
}

impl Names {
    fn new(name: &str) -> Self {
        let short = name.trim_start_matches("dpat-");
        let mut type_name: String = short
            .split('-')
            .flat_map(|part| {
                let mut letters = part.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                first.into_iter().chain(letters)
            })
            .collect();
        if type_name.starts_with(|letter: char| letter.is_ascii_digit()) {
            type_name.insert_str(0, "Pattern");
        }
        Self {
            name: name.to_owned(),
            short: short.to_owned(),
            ident: name.replace('-', "_"),
            type_name,
        }
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("{{name}}", &self.name)
            .replace("{{short}}", &self.short)
            .replace("{{ident}}", &self.ident)
            .replace("{{Type}}", &self.type_name)
    }
}

/// The files of a new crate, by path inside its folder.
fn files(name: &str) -> Vec<(String, String)> {
    let names = Names::new(name);
    FILES
        .iter()
        .map(|(path, text)| (names.fill(path), names.fill(text)))
        .collect()
}

/// Writes the crate and puts it into the order of rustfmt.
fn write(workspace: &Workspace, root: &Path, name: &str) -> Result<()> {
    let folder = root.join("crates").join(name);
    for (path, text) in files(name) {
        write_if_changed(&folder.join(path), &text)?;
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        write_if_changed(&folder.join(licence), &workspace.read(licence)?)?;
    }
    Ok(())
}

/// `cargo xtask new-crate NAME`.
pub(crate) fn command(workspace: &Workspace, args: &[String]) -> Result<()> {
    let [name] = args else {
        return Err(Error::Usage("new-crate takes one name".to_owned()));
    };
    match layer_of(name) {
        Some(layer) if layer < Layer::Program => {}
        _ => {
            return Err(Error::Usage(format!(
                "new-crate: `{name}` is no planned library; planned and not begun: {}",
                planned(&workspace.packages).join(" ")
            )));
        }
    }
    let folder = workspace.root.join("crates").join(name);
    if folder.exists() {
        return Err(Error::Failed(format!(
            "{} exists already",
            folder.display()
        )));
    }
    write(workspace, &workspace.root, name)?;
    let fmt = &mut cargo(workspace, &["fmt", "--package", name]);
    if !run(&Log::Terminal, fmt)? {
        return Err(Error::Failed(
            "rustfmt does not accept the templates".to_owned(),
        ));
    }
    // The table of packages is the last one of the file.
    let budgets = format!("{}{name} = {PACKAGES}\n", workspace.read(Budgets::FILE)?);
    write_if_changed(&workspace.root.join(Budgets::FILE), &budgets)?;
    println!("crates/{name} is a small complete crate; replace its limit by the pattern.");
    println!("{} gives it {PACKAGES} external packages.", Budgets::FILE);
    println!("Once another crate uses it, it wants a line in [workspace.dependencies].");
    Ok(())
}

/// The step of `ci --full`: a new crate passes everything in a workspace of its own.
pub(crate) fn prove(workspace: &Workspace, log: &Log) -> Result<Outcome> {
    let Some(name) = planned(&workspace.packages).first().copied() else {
        return Ok(Outcome::Skipped("every planned crate is begun".to_owned()));
    };
    let root = workspace.target.join("scaffold");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(|error| Error::io(&root, &error))?;
    }
    let manifest = workspace.read("Cargo.toml")?.replace(", \"xtask\"]", "]");
    write_if_changed(&root.join("Cargo.toml"), &manifest)?;
    for file in [
        "Cargo.lock",
        "clippy.toml",
        "rustfmt.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
    ] {
        write_if_changed(&root.join(file), &workspace.read(file)?)?;
    }
    copy(
        &workspace.root.join("crates/dpat-testkit"),
        &root.join("crates/dpat-testkit"),
    )?;
    write(workspace, &root, name)?;
    for args in [
        &["fmt", "--package", name][..],
        &[
            "clippy",
            "--package",
            name,
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ],
        &["test", "--package", name],
        &[
            "run",
            "--package",
            name,
            "--example",
            &format!("{}_basic", Names::new(name).short),
        ],
    ] {
        let mut command = cargo(workspace, args);
        command
            .current_dir(&root)
            .env("CARGO_TARGET_DIR", workspace.target.join("scaffold-target"));
        if !run(log, &mut command)? {
            return Ok(Outcome::Failed(format!(
                "a new {name}: `cargo {}` failed",
                args.join(" ")
            )));
        }
    }
    let mut models = cargo(workspace, &["test", "--package", name, "--lib", "loom"]);
    models
        .current_dir(&root)
        .env("RUSTFLAGS", "--cfg dpat_loom");
    models.env("CARGO_TARGET_DIR", workspace.target.join("loom"));
    if !run(log, &mut models)? {
        return Ok(Outcome::Failed(format!("a new {name}: its model fails")));
    }
    Ok(Outcome::Ok(Some(name.to_owned())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)
        .map_err(|error| Error::io(from, &error))?
        .flatten()
    {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::create_dir_all(to.parent().unwrap_or(&to))
                .map_err(|error| Error::io(&to, &error))?;
            fs::copy(&from, &to).map_err(|error| Error::io(&from, &error))?;
        }
    }
    Ok(())
}

/// Findings of `tidy` in a new crate, for the test below.
#[cfg(test)]
fn findings(name: &str) -> Vec<String> {
    let mut tree: Vec<(String, String)> = files(name)
        .into_iter()
        .map(|(path, text)| (format!("crates/{name}/{path}"), text))
        .collect();
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        tree.push((licence.to_owned(), "terms\n".to_owned()));
        tree.push((format!("crates/{name}/{licence}"), "terms\n".to_owned()));
    }
    tree.push((
        "README.md".to_owned(),
        "cargo dpat demo shop\ncargo xtask ci\n".to_owned(),
    ));
    tree.push((
        ".cargo/config.toml".to_owned(),
        "dpat = \"run \"\nxtask = \"run \"\n".to_owned(),
    ));
    crate::tidy::findings(&crate::tidy::Tree::from_files(tree))
        .iter()
        .map(|(finding, _)| finding.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_crate_is_tidy() {
        for name in ["dpat-bulkhead", "dpat-2pc", "dpat-redis"] {
            assert_eq!(findings(name), Vec::<String>::new());
        }
    }

    #[test]
    fn names_are_valid_identifiers() {
        assert_eq!(Names::new("dpat-hash-ring").type_name, "HashRing");
        assert_eq!(Names::new("dpat-2pc").type_name, "Pattern2pc");
        assert_eq!(Names::new("dpat-2pc").ident, "dpat_2pc");
    }

    #[test]
    fn templates_leave_no_placeholder() {
        for (path, text) in files("dpat-cache") {
            assert!(!text.contains("{{") && !path.contains("{{"), "{path}");
        }
    }
}
