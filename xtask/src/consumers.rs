//! Empty projects outside the workspace that depend on the crates, as a user's would.
//!
//! Inside the workspace the dev-dependencies and the siblings switch features on that a user does
//! not have. Here each crate stands alone with no feature, each feature and all; then all crates
//! together; and the first Rust block of each README is a program of its own.

use std::fmt::Write as _;
use std::path::Path;

use crate::deps::published_libraries;
use crate::error::{Error, Outcome, Result};
use crate::features;
use crate::process::{Log, cargo, run};
use crate::workspace::{Package, Workspace, write_if_changed};

/// What every program on tokio has; `full` would bring packages that the lock does not have.
const TOKIO: &[&str] = &["macros", "rt-multi-thread", "sync", "time"];

/// One of the empty projects.
struct Project {
    name: String,
    manifest: String,
    main: String,
}

/// The step of `ci`.
pub(crate) fn step(workspace: &Workspace, log: &Log) -> Result<Outcome> {
    let folder = workspace.target.join("consumers");
    let mut projects = Vec::new();
    let mut failed = Vec::new();
    for package in published_libraries(workspace) {
        projects.extend(feature_projects(workspace, package));
        let readme = workspace.read(&format!("{}/README.md", package.dir))?;
        match readme_project(workspace, package, &readme) {
            Ok(project) => projects.push(project),
            Err(error) => failed.push(error.to_string()),
        }
    }
    projects.push(together(workspace));
    write(workspace, &folder, &projects)?;
    for project in &projects {
        let mut check = cargo(workspace, &["check", "--quiet", "--package", &project.name]);
        check
            .current_dir(&folder)
            .arg("--target-dir")
            .arg(folder.join("target"));
        if !run(log, &mut check)? {
            failed.push(format!("{} does not build", project.name));
        }
    }
    Ok(if failed.is_empty() {
        Outcome::Ok(Some(format!("{} projects", projects.len())))
    } else {
        Outcome::Failed(failed.join("; "))
    })
}

fn write(workspace: &Workspace, folder: &Path, projects: &[Project]) -> Result<()> {
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\n".to_owned();
    for project in projects {
        let dir = folder.join(&project.name);
        write_if_changed(&dir.join("Cargo.toml"), &project.manifest)?;
        write_if_changed(&dir.join("src/main.rs"), &project.main)?;
        writeln!(manifest, "  \"{}\",", project.name).expect("a String takes every write");
    }
    manifest.push_str("]\n\n[profile.dev]\ndebug = false\n");
    write_if_changed(&folder.join("Cargo.toml"), &manifest)?;
    // The workspace's own lock: what CI says today it says tomorrow, and no index is asked.
    let lock = workspace.read("Cargo.lock")?;
    std::fs::write(folder.join("Cargo.lock"), lock)
        .map_err(|error| Error::io(&folder.join("Cargo.lock"), &error))
}

fn manifest(name: &str, rust_version: Option<&str>, dependencies: &str) -> String {
    let rust_version = rust_version.map_or_else(String::new, |version| {
        format!("rust-version = \"{version}\"\n")
    });
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{rust_version}\
         publish = false\n\n[dependencies]\n{dependencies}"
    )
}

/// A dependency line on a crate of the family.
fn by_path(workspace: &Workspace, package: &Package, rest: &str) -> String {
    let path = workspace.root.join(&package.dir);
    format!(
        "{} = {{ path = {:?}{rest} }}\n",
        package.name,
        path.display().to_string()
    )
}

fn crate_name(package: &Package) -> String {
    package.name.replace('-', "_")
}

fn feature_projects(workspace: &Workspace, package: &Package) -> Vec<Project> {
    let mut projects = Vec::new();
    for set in features::sets(package) {
        let (label, features) = match set.as_slice() {
            [_, _, feature] => (feature.clone(), vec![feature.clone()]),
            [only] if only == "--all-features" => ("all".to_owned(), package.features.clone()),
            _ => ("none".to_owned(), Vec::new()),
        };
        let name = format!("use-{}-{label}", package.name);
        let rest = format!(", default-features = false, features = {features:?}");
        projects.push(Project {
            manifest: manifest(
                &name,
                package.rust_version.as_deref(),
                &by_path(workspace, package, &rest),
            ),
            main: format!("use {} as _;\n\nfn main() {{}}\n", crate_name(package)),
            name,
        });
    }
    projects
}

fn together(workspace: &Workspace) -> Project {
    let mut lines = String::new();
    let mut main = String::new();
    for package in published_libraries(workspace) {
        lines.push_str(&by_path(
            workspace,
            package,
            &format!(", features = {:?}", package.features),
        ));
        main.push_str(&format!("use {} as _;\n", crate_name(package)));
    }
    main.push_str("\nfn main() {}\n");
    Project {
        name: "use-everything".to_owned(),
        manifest: manifest("use-everything", None, &lines),
        main,
    }
}

/// The README's first Rust block as a program, with what the README's `cargo add` lines add.
fn readme_project(workspace: &Workspace, package: &Package, readme: &str) -> Result<Project> {
    let block = first_rust_block(readme)
        .ok_or_else(|| Error::Failed(format!("{}/README.md: no Rust example", package.dir)))?;
    let versions: toml::Table = workspace
        .read("Cargo.toml")?
        .parse()
        .map_err(|error| Error::Input(format!("Cargo.toml: {error}")))?;
    let mut added = additions(readme);
    // What the block names beside the crate: a reader adds it without being told.
    for name in named_packages(&block, &versions) {
        if !added.iter().any(|(known, _)| *known == name) {
            let features: &[&str] = if name == "tokio" { TOKIO } else { &[] };
            let features = features.iter().map(|&feature| feature.to_owned()).collect();
            added.push((name, features));
        }
    }
    if !added.iter().any(|(name, _)| *name == package.name) {
        added.push((package.name.clone(), Vec::new()));
    }
    let mut lines = String::new();
    for (name, features) in added {
        if let Some(sibling) = workspace.package(&name) {
            lines.push_str(&by_path(
                workspace,
                sibling,
                &format!(", features = {features:?}"),
            ));
            continue;
        }
        let version = &versions["workspace"]["dependencies"][&name]["version"];
        let version = version.as_str().ok_or_else(|| {
            Error::Failed(format!(
                "{}/README.md: `cargo add {name}`: not in [workspace.dependencies]",
                package.dir
            ))
        })?;
        writeln!(
            lines,
            "{name} = {{ version = \"{version}\", features = {features:?} }}"
        )
        .expect("a String takes every write");
    }
    let name = format!("readme-{}", package.name);
    Ok(Project {
        manifest: manifest(&name, package.rust_version.as_deref(), &lines),
        main: as_program(&block),
        name,
    })
}

/// Packages of `[workspace.dependencies]` that the code names as a path.
fn named_packages(code: &str, versions: &toml::Table) -> Vec<String> {
    let known = versions
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let known = known.and_then(toml::Value::as_table).into_iter().flatten();
    known
        .map(|(name, _)| name.clone())
        .filter(|name| code.contains(&format!("{}::", name.replace('-', "_"))))
        .collect()
}

/// Packages and features of the `cargo add` lines.
fn additions(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in readme.lines() {
        let Some(rest) = line
            .trim()
            .trim_start_matches("$ ")
            .strip_prefix("cargo add ")
        else {
            continue;
        };
        let mut names = Vec::new();
        let mut features = Vec::new();
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--features" | "-F" => {
                    let list = words.next().unwrap_or_default();
                    features.extend(list.split(',').map(str::to_owned));
                }
                "#" => break,
                _ if word.starts_with('-') => {}
                _ => names.push(word.split('@').next().unwrap_or(word).to_owned()),
            }
        }
        for name in names {
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.extend(features.iter().cloned()),
                None => found.push((name, features.clone())),
            }
        }
    }
    found
}

/// The first block that rustdoc would compile, hidden lines included.
fn first_rust_block(readme: &str) -> Option<String> {
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let Some(tags) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let body: Vec<&str> = lines
            .by_ref()
            .take_while(|line| !line.trim_start().starts_with("```"))
            .collect();
        let compiled = tags
            .split(',')
            .map(str::trim)
            .all(|tag| matches!(tag, "" | "rust" | "no_run" | "should_panic" | "edition2024"));
        if compiled {
            let code: Vec<&str> = body
                .into_iter()
                .map(|line| match line.trim_start() {
                    "#" => "",
                    text => text.strip_prefix("# ").unwrap_or(line),
                })
                .collect();
            return Some(code.join("\n"));
        }
    }
    None
}

/// What rustdoc does to a block without `main`.
fn as_program(code: &str) -> String {
    if code.contains("fn main") {
        return format!("{code}\n");
    }
    if code.trim_end().ends_with("(())") {
        return format!(
            "fn main() {{\n    fn example() -> Result<(), impl core::fmt::Debug> {{\n{code}\n    }}\n    \
             example().expect(\"the example of the README\");\n}}\n"
        );
    }
    format!("fn main() {{\n{code}\n}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_compiled_block_is_taken_with_its_hidden_lines() {
        let readme = "# x\n```sh\ncargo add x\n```\n```rust,ignore\nno\n```\n```rust,no_run\n# use a::B;\n#\n\
                      #[derive(Debug)]\nlet b = B;\n```\n```\nsecond\n```\n";
        let block = first_rust_block(readme);
        assert_eq!(
            block.as_deref(),
            Some("use a::B;\n\n#[derive(Debug)]\nlet b = B;")
        );
        assert_eq!(first_rust_block("```text\nno\n```"), None);
    }

    #[test]
    fn blocks_become_programs_as_in_rustdoc() {
        assert_eq!(as_program("fn main() {}"), "fn main() {}\n");
        assert!(as_program("let a = 1;").starts_with("fn main() {\nlet a = 1;"));
        assert!(as_program("f()?;\nOk::<(), E>(())").contains("impl core::fmt::Debug"));
    }

    #[test]
    fn cargo_add_lines_say_what_the_example_needs() {
        let readme = "    $ cargo add dpat-retry --features tokio,http\ncargo add tokio -F rt # why\n\
                      cargo add tokio --features macros\n";
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            additions(readme),
            [
                ("dpat-retry".to_owned(), list(&["tokio", "http"])),
                ("tokio".to_owned(), list(&["rt", "macros"])),
            ]
        );
    }
}
