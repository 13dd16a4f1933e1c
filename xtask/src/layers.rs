//! `cargo xtask layers`: a crate may depend on crates of a lower layer only.
//!
//! This file is the one place that knows the layers. A crate that is not in the table cannot join
//! the workspace, so that its place is decided before its first line is written.

use crate::error::{Error, Outcome, Result};
use crate::process::Log;
use crate::workspace::{Dependency, Kind, Package, Workspace};

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Core,
    Ground,
    Proof,
    Pattern,
    Engine,
    Program,
    /// Helps to build and test; never published, never a normal dependency.
    Tool,
}

impl Layer {
    fn number(self) -> &'static str {
        match self {
            Self::Core => "0 (core)",
            Self::Ground => "1 (ground)",
            Self::Proof => "2 (proof)",
            Self::Pattern => "3 (patterns)",
            Self::Engine => "4 (engines)",
            Self::Program => "5 (programs)",
            Self::Tool => "- (tools)",
        }
    }
}

const TABLE: &[(Layer, &[&str])] = &[
    (Layer::Core, &["dpat-core"]),
    (
        Layer::Ground,
        &[
            "dpat-model",
            "dpat-clock",
            "dpat-codec",
            "dpat-storage",
            "dpat-wal",
            "dpat-net",
        ],
    ),
    (Layer::Proof, &["dpat-sim", "dpat-check"]),
    (
        Layer::Pattern,
        &[
            "dpat-reqres",
            "dpat-rpc",
            "dpat-pubsub",
            "dpat-queue",
            "dpat-outbox",
            "dpat-idempotency",
            "dpat-stream",
            "dpat-primary",
            "dpat-multiprimary",
            "dpat-leaderless",
            "dpat-gossip",
            "dpat-crdt",
            "dpat-hashring",
            "dpat-shard",
            "dpat-breaker",
            "dpat-bulkhead",
            "dpat-retry",
            "dpat-backpressure",
            "dpat-ratelimit",
            "dpat-pool",
            "dpat-balance",
            "dpat-cache",
            "dpat-2pc",
            "dpat-3pc",
            "dpat-saga",
            "dpat-tcc",
            "dpat-lock",
            "dpat-election",
            "dpat-discovery",
            "dpat-telemetry",
            "dpat-secure",
            "dpat-chaos",
            "dpat-load",
        ],
    ),
    (
        Layer::Engine,
        &[
            "dpat-redb",
            "dpat-sqlite",
            "dpat-postgres",
            "dpat-mysql",
            "dpat-redis",
            "dpat-nats",
            "dpat-amqp",
            "dpat-etcd",
            "dpat-consul",
        ],
    ),
    (Layer::Program, &["dpat-cases", "dpat-cli"]),
    (Layer::Tool, &["dpat-testkit", "xtask"]),
];

/// Crates that may use a neighbour of their own layer.
const NEIGHBOURS: &[(&str, &[&str])] = &[
    ("dpat-wal", &["dpat-storage"]),
    ("dpat-net", &["dpat-model", "dpat-codec", "dpat-wal"]),
    ("dpat-leaderless", &["dpat-hashring"]),
    ("dpat-shard", &["dpat-hashring"]),
    ("dpat-balance", &["dpat-hashring"]),
];

/// Crates that may use only these of the lower layers, beside the core.
const NARROW: &[(&str, &[&str])] = &[
    ("dpat-sim", &["dpat-model", "dpat-storage"]),
    ("dpat-check", &["dpat-model"]),
];

/// The layer of a crate, or none when the table does not know it.
pub(crate) fn layer_of(name: &str) -> Option<Layer> {
    TABLE
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map(|(layer, _)| *layer)
}

/// Library crates of the table that are not in the workspace yet.
pub(crate) fn planned(packages: &[Package]) -> Vec<&'static str> {
    TABLE
        .iter()
        .filter(|(layer, _)| *layer < Layer::Program)
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| !packages.iter().any(|package| package.name == *name))
        .collect()
}

fn in_family(name: &str) -> bool {
    name.starts_with("dpat-") || name == "xtask"
}

fn allows(list: &[(&str, &[&str])], from: &str, to: &str) -> bool {
    list.iter()
        .any(|(name, others)| *name == from && others.contains(&to))
}

/// Why `package` may not have this dependency; none when it may.
fn objection(package: &Package, from: Layer, dependency: &Dependency) -> Option<String> {
    let to_name = dependency.name.as_str();
    let Some(to) = layer_of(to_name) else {
        return Some(format!(
            "`{to_name}` is not in the table of layers (xtask/src/layers.rs)"
        ));
    };
    if !dependency.by_path {
        return Some(format!(
            "`{to_name}` is a sibling and comes by path, not from a registry"
        ));
    }
    if dependency.kind == Kind::Dev {
        return dev_objection(from, to, dependency);
    }
    if package.name == "xtask" && to_name == "dpat-testkit" {
        // Chores start the servers that tests use.
        return None;
    }
    if package.name == "dpat-cases" && to_name == "dpat-testkit" {
        // A demo on an engine starts its server.
        return None;
    }
    if to == Layer::Tool {
        return Some(format!(
            "`{to_name}` is for tests and chores: a dev-dependency at most"
        ));
    }
    if from == Layer::Tool {
        return Some("tools depend on no crate of the family".to_owned());
    }
    if from == Layer::Program {
        return None;
    }
    if to == Layer::Proof {
        return Some(format!(
            "`{to_name}` proves other crates: a dev-dependency at most"
        ));
    }
    if from == to {
        return (!allows(NEIGHBOURS, &package.name, to_name)).then(|| {
            format!(
                "`{to_name}` is in the same layer {}; meet through a port",
                from.number()
            )
        });
    }
    if to > from {
        return Some(format!(
            "`{to_name}` is in layer {}, above {}",
            to.number(),
            from.number()
        ));
    }
    let narrow = NARROW.iter().any(|(name, _)| *name == package.name);
    if narrow && to != Layer::Core && !allows(NARROW, &package.name, to_name) {
        return Some(format!(
            "`{to_name}` is not among the few crates it may use"
        ));
    }
    None
}

fn dev_objection(from: Layer, to: Layer, dependency: &Dependency) -> Option<String> {
    let to_name = dependency.name.as_str();
    if dependency.req != "*" {
        return Some(format!(
            "dev-dependency `{to_name}` states a version: path only, or publishing deadlocks"
        ));
    }
    if from == Layer::Program || to <= Layer::Proof || to_name == "dpat-testkit" {
        return None;
    }
    // An engine runs the laws of the patterns whose ports it has: their feature `conformance`.
    if from == Layer::Engine && to == Layer::Pattern {
        return None;
    }
    Some(format!(
        "dev-dependency `{to_name}` is in layer {}; tests reach layer 2 and dpat-testkit, patterns \
         meet in dpat-cases",
        to.number()
    ))
}

/// Every dependency that the rules of the layers forbid, a line each.
pub(crate) fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some(from) = layer_of(&package.name) else {
            found.push(format!(
                "{}/Cargo.toml:1: layers: `{}` is not in the table of layers (xtask/src/layers.rs)",
                package.dir, package.name
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|one| in_family(&one.name))
        {
            if let Some(reason) = objection(package, from, dependency) {
                found.push(format!("{}/Cargo.toml:1: layers: {reason}", package.dir));
            }
        }
    }
    found
}

/// The step of `ci`.
pub(crate) fn step(workspace: &Workspace, log: &Log) -> Result<Outcome> {
    let found = violations(&workspace.packages);
    for line in &found {
        log.line(line)?;
    }
    Ok(match found.first() {
        None => Outcome::OK,
        Some(first) => Outcome::Failed(format!("{} violations, first {first}", found.len())),
    })
}

/// `cargo xtask layers`: prints the members by layer and what breaks the rules.
pub(crate) fn command(workspace: &Workspace) -> Result<()> {
    for (layer, _) in TABLE {
        let members: Vec<&str> = workspace
            .packages
            .iter()
            .filter(|package| layer_of(&package.name) == Some(*layer))
            .map(|package| package.name.as_str())
            .collect();
        println!("{:14} {}", layer.number(), members.join(" "));
    }
    match step(workspace, &Log::Terminal)? {
        Outcome::Failed(reason) => Err(Error::Failed(reason)),
        Outcome::Ok(_) | Outcome::Skipped(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dependency(name: &str, kind: Kind) -> Dependency {
        let req = if kind == Kind::Dev { "*" } else { "^0.1.0" };
        Dependency {
            name: name.to_owned(),
            kind,
            req: req.to_owned(),
            by_path: true,
        }
    }

    #[track_caller]
    fn check(from: &str, kind: Kind, to: &str, expected: Option<&str>) {
        let package = Package {
            name: from.to_owned(),
            dir: format!("crates/{from}"),
            dependencies: vec![dependency(to, kind)],
            ..Package::default()
        };
        let found = violations(&[package]);
        match expected {
            None => assert_eq!(found, Vec::<String>::new()),
            Some(part) => assert!(
                found.len() == 1 && found[0].contains(part),
                "expected one violation with `{part}`, found {found:?}"
            ),
        }
    }

    #[test]
    fn lower_layers_are_free_to_use() {
        check("dpat-breaker", Kind::Normal, "dpat-core", None);
        check("dpat-queue", Kind::Normal, "dpat-wal", None);
        check("dpat-redis", Kind::Normal, "dpat-queue", None);
        check("dpat-cli", Kind::Normal, "dpat-cases", None);
        check("dpat-cases", Kind::Normal, "dpat-sim", None);
    }

    #[test]
    fn engines_run_the_laws_of_patterns() {
        check("dpat-redb", Kind::Dev, "dpat-outbox", None);
        check("dpat-redb", Kind::Dev, "dpat-redis", Some("layer 4"));
        check("dpat-queue", Kind::Dev, "dpat-outbox", Some("layer 3"));
    }

    #[test]
    fn upper_layers_are_not() {
        check("dpat-core", Kind::Normal, "dpat-codec", Some("above"));
        check("dpat-retry", Kind::Normal, "dpat-redis", Some("above"));
        check("dpat-storage", Kind::Build, "dpat-queue", Some("above"));
    }

    #[test]
    fn patterns_do_not_meet_except_on_the_hash_ring() {
        check(
            "dpat-retry",
            Kind::Normal,
            "dpat-breaker",
            Some("same layer"),
        );
        check("dpat-shard", Kind::Normal, "dpat-hashring", None);
        check(
            "dpat-hashring",
            Kind::Normal,
            "dpat-shard",
            Some("same layer"),
        );
    }

    #[test]
    fn inside_the_ground_layer_only_named_neighbours() {
        check("dpat-wal", Kind::Normal, "dpat-storage", None);
        check("dpat-net", Kind::Normal, "dpat-wal", None);
        check("dpat-wal", Kind::Normal, "dpat-codec", Some("same layer"));
    }

    #[test]
    fn proof_crates_are_narrow_and_for_tests_only() {
        check("dpat-sim", Kind::Normal, "dpat-storage", None);
        check("dpat-sim", Kind::Normal, "dpat-core", None);
        check("dpat-sim", Kind::Normal, "dpat-wal", Some("few crates"));
        check("dpat-2pc", Kind::Normal, "dpat-sim", Some("dev-dependency"));
        check("dpat-2pc", Kind::Dev, "dpat-sim", None);
    }

    #[test]
    fn tools_stand_apart() {
        check(
            "dpat-breaker",
            Kind::Normal,
            "dpat-testkit",
            Some("dev-dependency"),
        );
        check("dpat-breaker", Kind::Dev, "dpat-testkit", None);
        check("dpat-testkit", Kind::Normal, "dpat-core", Some("no crate"));
        check("xtask", Kind::Normal, "dpat-testkit", None);
        check("xtask", Kind::Normal, "dpat-core", Some("no crate"));
        check("dpat-breaker", Kind::Dev, "xtask", Some("layer -"));
    }

    #[test]
    fn dev_dependencies_stay_low_and_path_only() {
        check(
            "dpat-saga",
            Kind::Dev,
            "dpat-retry",
            Some("meet in dpat-cases"),
        );
        let package = Package {
            name: "dpat-retry".to_owned(),
            dir: "crates/dpat-retry".to_owned(),
            dependencies: vec![Dependency {
                req: "^0.1.0".to_owned(),
                ..dependency("dpat-testkit", Kind::Dev)
            }],
            ..Package::default()
        };
        let found = violations(&[package]);
        assert!(
            found.len() == 1 && found[0].contains("states a version"),
            "{found:?}"
        );
    }

    #[test]
    fn unknown_crates_are_named() {
        check(
            "dpat-breaker",
            Kind::Normal,
            "dpat-magic",
            Some("not in the table"),
        );
        check(
            "dpat-magic",
            Kind::Normal,
            "dpat-core",
            Some("not in the table"),
        );
    }

    #[test]
    fn violations_are_found_in_what_cargo_prints() {
        let json = json!({
            "workspace_root": "/somewhere",
            "target_directory": "/somewhere/target",
            "workspace_members": ["a"],
            "packages": [
                {
                    "id": "a", "name": "dpat-core", "publish": null, "rust_version": "1.85",
                    "manifest_path": "/somewhere/crates/dpat-core/Cargo.toml",
                    "targets": [{"name": "dpat_core", "kind": ["lib"]}],
                    "features": {"default": [], "serde": ["dep:serde"]},
                    "dependencies": [
                        {"name": "serde", "kind": null, "req": "^1", "path": null, "target": null},
                        {"name": "dpat-retry", "kind": null, "req": "^0.1", "target": null,
                         "path": "/somewhere/crates/dpat-retry"},
                    ],
                },
                {"id": "b", "name": "dpat-outside", "manifest_path": "/x/Cargo.toml"},
            ],
        });
        let workspace = Workspace::from_json(&json).expect("well-formed metadata");
        assert_eq!(workspace.packages.len(), 1);
        assert_eq!(workspace.packages[0].features, ["serde"]);
        assert!(workspace.packages[0].has_lib && workspace.packages[0].publishable);
        assert_eq!(
            violations(&workspace.packages),
            [
                "crates/dpat-core/Cargo.toml:1: layers: `dpat-retry` is in layer 3 (patterns), above 0 (core)"
            ]
        );
    }
}
