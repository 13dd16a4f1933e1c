//! `cargo xtask deps`: what a user's build gains with each crate, held to a budget.
//!
//! Also the check of the minimum Rust: no older toolchain is needed for it, since each package
//! says in its manifest which compiler it wants.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{Error, Outcome, Result};
use crate::layers::{Layer, layer_of};
use crate::process::{self, Log, cargo};
use crate::workspace::{self, Budgets, Package, Workspace};

/// What one library crate costs.
struct Cost {
    name: String,
    packages: BTreeSet<String>,
    budget: Option<u64>,
}

impl Cost {
    fn objection(&self) -> Option<String> {
        let count = u64::try_from(self.packages.len()).unwrap_or(u64::MAX);
        match self.budget {
            None => Some(format!(
                "{}: packages.{}: no budget",
                Budgets::FILE,
                self.name
            )),
            Some(budget) if count > budget => Some(format!(
                "{} pulls in {count} packages, its budget is {budget}",
                self.name
            )),
            Some(_) => None,
        }
    }
}

/// Library crates that are published: the ones that other people build.
pub(crate) fn published_libraries(workspace: &Workspace) -> impl Iterator<Item = &Package> {
    workspace.packages.iter().filter(|package| {
        package.publishable
            && package.has_lib
            && layer_of(&package.name).is_some_and(|layer| layer < Layer::Program)
    })
}

/// Distinct external packages in what `cargo tree --prefix none --format {p}` printed.
fn external_packages(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !name.starts_with("dpat-"))
        .map(str::to_owned)
        .collect()
}

fn costs(workspace: &Workspace, budgets: &Budgets) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for package in published_libraries(workspace) {
        let args = [
            "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}",
        ];
        let mut command = cargo(workspace, &args);
        command.args(["--package", &package.name]);
        let tree = process::output(&mut command)
            .ok_or_else(|| Error::Failed(format!("`{}` failed", process::shown(&command))))?;
        costs.push(Cost {
            name: package.name.clone(),
            packages: external_packages(&tree),
            budget: budgets.packages.get(&package.name).copied(),
        });
    }
    Ok(costs)
}

/// The first three numbers of a version; what is not stated counts as zero.
fn version(text: &str) -> (u64, u64, u64) {
    let mut parts = text
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Normal dependencies that want a newer compiler than the member that uses them promises.
///
/// `json` is the whole output of `cargo metadata --all-features`. Dependencies behind
/// `cfg(dpat_loom)` are left out: only the models of this project build them.
fn too_new(json: &Value) -> Vec<String> {
    let packages: BTreeMap<&str, &Value> = json["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in json["resolve"]["nodes"].as_array().into_iter().flatten() {
        let normal = node["deps"].as_array().into_iter().flatten().filter(|dep| {
            dep["dep_kinds"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|kind| {
                    let target = kind["target"].as_str().unwrap_or_default();
                    kind["kind"].is_null() && !target.contains("dpat_loom")
                })
        });
        edges.insert(
            node["id"].as_str().unwrap_or_default(),
            normal.filter_map(|dep| dep["pkg"].as_str()).collect(),
        );
    }
    let mut found = Vec::new();
    for member in workspace::strings(&json["workspace_members"]) {
        let Some(package) = packages.get(member) else {
            continue;
        };
        let Some(promise) = package["rust_version"].as_str() else {
            continue;
        };
        let mut seen = BTreeSet::from([member]);
        let mut open = vec![member];
        while let Some(id) = open.pop() {
            for next in edges.get(id).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                open.push(next);
                let wants = packages
                    .get(next)
                    .and_then(|one| one["rust_version"].as_str());
                if let Some(wants) = wants
                    && version(wants) > version(promise)
                {
                    found.push(format!(
                        "{} promises Rust {promise}, but {} {} wants {wants}",
                        package["name"].as_str().unwrap_or(member),
                        packages[next]["name"].as_str().unwrap_or_default(),
                        packages[next]["version"].as_str().unwrap_or_default(),
                    ));
                }
            }
        }
    }
    found
}

/// The step of `ci`; the log has each crate's count and the names.
pub(crate) fn step(workspace: &Workspace, budgets: &Budgets, log: &Log) -> Result<Outcome> {
    let mut objections = Vec::new();
    for cost in costs(workspace, budgets)? {
        let names: Vec<&str> = cost.packages.iter().map(String::as_str).collect();
        let budget = cost
            .budget
            .map_or_else(|| "-".to_owned(), |budget| budget.to_string());
        log.line(&format!(
            "{:20} {:3} of {budget:>3}  {}",
            cost.name,
            names.len(),
            names.join(" ")
        ))?;
        objections.extend(cost.objection());
    }
    let json = workspace::metadata(&["--all-features", "--locked"])?;
    objections.extend(too_new(&json));
    for objection in &objections {
        log.line(objection)?;
    }
    Ok(match objections.first() {
        None => Outcome::OK,
        Some(first) => Outcome::Failed(format!("{} objections, first {first}", objections.len())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packages_are_counted_once_and_without_the_family() {
        let tree = "dpat-retry v0.1.0 (/x)\ndpat-core v0.1.0 (/y)\nthiserror v2.0.21\n\
                    syn v2.0.1\nthiserror-impl v2.0.21 (proc-macro)\nsyn v2.0.1 (*)\n";
        let found = external_packages(tree);
        assert_eq!(
            Vec::from_iter(found),
            ["syn", "thiserror", "thiserror-impl"]
        );
    }

    #[test]
    fn a_crate_over_or_without_a_budget_is_refused() {
        let cost = |budget| Cost {
            name: "dpat-core".to_owned(),
            packages: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            budget,
        };
        assert_eq!(cost(Some(2)).objection(), None);
        let over = cost(Some(1)).objection();
        assert_eq!(
            over.as_deref(),
            Some("dpat-core pulls in 2 packages, its budget is 1")
        );
        assert!(
            cost(None)
                .objection()
                .is_some_and(|text| text.contains("no budget"))
        );
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.9") < version("1.10.0"));
        assert_eq!(version("1.85"), version("1.85.0"));
    }

    fn graph(kind: &Value, target: &Value) -> Value {
        json!({
            "workspace_members": ["lib"],
            "packages": [
                {"id": "lib", "name": "dpat-core", "version": "0.1.0", "rust_version": "1.85"},
                {"id": "mid", "name": "mid", "version": "1.0.0", "rust_version": "1.60"},
                {"id": "new", "name": "new", "version": "2.0.0", "rust_version": "1.90.0"},
            ],
            "resolve": {"nodes": [
                {"id": "lib", "deps": [{"pkg": "mid", "dep_kinds": [{"kind": null, "target": null}]}]},
                {"id": "mid", "deps": [{"pkg": "new", "dep_kinds": [{"kind": kind, "target": target}]}]},
            ]},
        })
    }

    #[test]
    fn a_dependency_that_wants_a_newer_compiler_is_found_through_others() {
        let found = too_new(&graph(&Value::Null, &Value::Null));
        assert_eq!(
            found,
            ["dpat-core promises Rust 1.85, but new 2.0.0 wants 1.90.0"]
        );
    }

    #[test]
    fn tests_and_models_may_use_a_newer_compiler() {
        assert_eq!(
            too_new(&graph(&json!("dev"), &Value::Null)),
            Vec::<String>::new()
        );
        let loom = json!("cfg(dpat_loom)");
        assert_eq!(too_new(&graph(&Value::Null, &loom)), Vec::<String>::new());
    }
}
