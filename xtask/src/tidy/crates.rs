//! Rules for manifests and for the files that every crate has.

use super::{Findings, Rule, Tree, code, has_word, line_of};
use crate::layers::{Layer, layer_of};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "workspace-dependency",
        why: "a dependency is chosen once, without default features, with the reason beside it",
        check: workspace_dependency,
    },
    Rule {
        name: "dependency",
        why: "versions of external crates stand in one place, loom behind its cfg",
        check: dependency,
    },
    Rule {
        name: "manifest",
        why: "edition, licence and lints are the workspace's, and the registry shows the rest",
        check: manifest,
    },
    Rule {
        name: "publish",
        why: "crates of the layers are published, and of the tools the one that a program needs",
        check: publish,
    },
    Rule {
        name: "features",
        why: "a pattern with more than five features has more combinations than anybody tests",
        check: features,
    },
    Rule {
        name: "crate-files",
        why: "whoever knows one crate finds everything in the next",
        check: crate_files,
    },
    Rule {
        name: "readme",
        why: "the README is the crate's documentation and answers the same questions everywhere",
        check: readme,
    },
    Rule {
        name: "changelog",
        why: "users read what changed, in the form of keepachangelog.com",
        check: changelog,
    },
    Rule {
        name: "lib-rs",
        why: "lib.rs is the table of contents: README, modules and re-exports by name, no logic",
        check: lib_rs,
    },
    Rule {
        name: "loom-models",
        why: "a sync facade without models proves nothing, models without a facade model nothing",
        check: loom_models,
    },
    Rule {
        name: "dev-sibling",
        why: "a unit test through a cycle of crates sees two versions of a type",
        check: dev_sibling,
    },
];

/// A crate under `crates/`, read from its manifest.
struct Crate<'a> {
    dir: &'a str,
    path: &'a str,
    text: &'a str,
    name: String,
    manifest: toml::Table,
}

impl Crate<'_> {
    fn layer(&self) -> Option<Layer> {
        layer_of(&self.name)
    }

    /// Published for other people to build on: everything below the programs.
    fn is_library(&self) -> bool {
        self.layer().is_some_and(|layer| layer < Layer::Program)
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Every table of dependencies with the target it is for.
    fn tables(&self) -> Vec<(&str, Option<&str>, &toml::Table)> {
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
        let mut tables = Vec::new();
        for kind in kinds {
            if let Some(table) = self.manifest.get(kind).and_then(toml::Value::as_table) {
                tables.push((kind, None, table));
            }
        }
        let targets = self.manifest.get("target").and_then(toml::Value::as_table);
        for (target, table) in targets.into_iter().flatten() {
            for kind in kinds {
                if let Some(table) = table.get(kind).and_then(toml::Value::as_table) {
                    tables.push((kind, Some(target.as_str()), table));
                }
            }
        }
        tables
    }
}

fn crates<'a>(tree: &'a Tree, findings: &mut Findings) -> Vec<Crate<'a>> {
    let mut crates = Vec::new();
    for (path, text) in tree.matching("crates/", "/Cargo.toml") {
        let Ok(manifest) = text.parse::<toml::Table>() else {
            findings.add(path, 1, "no valid TOML");
            continue;
        };
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"));
        let name = name
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let dir = path.trim_end_matches("/Cargo.toml");
        crates.push(Crate {
            dir,
            path,
            text,
            name,
            manifest,
        });
    }
    crates
}

fn workspace_dependency(tree: &Tree, findings: &mut Findings) {
    let path = "Cargo.toml";
    let mut inside = false;
    let mut before = "";
    for (index, line) in tree.get(path).unwrap_or_default().lines().enumerate() {
        let entry = line.trim();
        if entry.starts_with('[') {
            inside = entry == "[workspace.dependencies]";
        } else if inside && !entry.is_empty() && !entry.starts_with('#') {
            let name = entry.split('=').next().unwrap_or_default().trim();
            if !entry.contains("default-features = false") {
                findings.add(
                    path,
                    index + 1,
                    format!("`{name}` brings its default features"),
                );
            }
            // The family explains itself.
            let reasoned = entry
                .split_once('#')
                .is_some_and(|(_, reason)| reason.trim().len() > 3);
            if !reasoned && !before.starts_with('#') && !name.starts_with("dpat-") {
                findings.add(
                    path,
                    index + 1,
                    format!("`{name}` does not say why it is here"),
                );
            }
        }
        before = entry;
    }
}

fn dependency(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings) {
        for (kind, target, table) in one.tables() {
            for (name, value) in table {
                let line = line_of(one.text, &format!("{name} "))
                    .max(line_of(one.text, &format!("{name}.")));
                let has = |key: &str| value.get(key).is_some();
                let inherits = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                if !inherits && !has("path") {
                    findings.add(one.path, line, format!("`{name}`: write workspace = true"));
                }
                if name == "loom" && target != Some("cfg(dpat_loom)") {
                    findings.add(
                        one.path,
                        line,
                        "loom belongs under [target.'cfg(dpat_loom)'.…]",
                    );
                }
                if kind == "dev-dependencies"
                    && name.starts_with("dpat-")
                    && (!has("path") || has("version"))
                {
                    findings.add(
                        one.path,
                        line,
                        format!("`{name}`: a sibling in tests is path only"),
                    );
                }
            }
        }
    }
}

fn manifest(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings) {
        let package = one
            .manifest
            .get("package")
            .cloned()
            .unwrap_or(toml::Value::Boolean(false));
        for field in ["edition", "license"] {
            let inherited = package.get(field).and_then(|value| value.get("workspace"));
            if inherited.and_then(toml::Value::as_bool) != Some(true) {
                findings.add(one.path, 1, format!("`{field}` is not the workspace's"));
            }
        }
        let lints = one
            .manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            findings.add(one.path, 1, "the lints are not the workspace's");
        }
        if package
            .get("version")
            .is_some_and(|version| !version.is_str())
        {
            findings.add(one.path, 1, "each crate has a version of its own");
        }
        if !one.is_library() {
            continue;
        }
        for field in ["description", "keywords", "categories", "readme"] {
            if package.get(field).is_none() {
                findings.add(one.path, 1, format!("no `{field}`"));
            }
        }
        let docs = package
            .get("metadata")
            .and_then(|metadata| metadata.get("docs"));
        let all = docs
            .and_then(|docs| docs.get("rs"))
            .and_then(|rs| rs.get("all-features"));
        if all.and_then(toml::Value::as_bool) != Some(true) {
            findings.add(one.path, 1, "docs.rs does not show all features");
        }
    }
}

fn publish(tree: &Tree, findings: &mut Findings) {
    let mut manifests = crates(tree, findings);
    if let Some(text) = tree.get("xtask/Cargo.toml")
        && let Ok(manifest) = text.parse()
    {
        let (dir, path) = ("xtask", "xtask/Cargo.toml");
        manifests.push(Crate {
            dir,
            path,
            text,
            name: "xtask".to_owned(),
            manifest,
        });
    }
    for one in manifests {
        let publish = one
            .manifest
            .get("package")
            .and_then(|package| package.get("publish"));
        let unpublished = publish.and_then(toml::Value::as_bool) == Some(false);
        // Demos start servers with it.
        let tool = one.layer() == Some(Layer::Tool) && one.name != "dpat-testkit";
        if tool != unpublished {
            let reason = if tool {
                "a tool wants publish = false"
            } else {
                "publish = false hides it"
            };
            findings.add(one.path, line_of(one.text, "publish"), reason);
        }
    }
}

fn features(tree: &Tree, findings: &mut Findings) {
    const FEATURES_MAX: usize = 5;
    for one in crates(tree, findings) {
        if one.layer() != Some(Layer::Pattern) {
            continue;
        }
        let table = one.manifest.get("features").and_then(toml::Value::as_table);
        let count = table
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "default")
            .count();
        if count > FEATURES_MAX {
            findings.add(
                one.path,
                line_of(one.text, "[features]"),
                format!("{count} features"),
            );
        }
    }
}

fn crate_files(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings) {
        let Some(layer) = one.layer() else { continue };
        if layer == Layer::Tool {
            continue;
        }
        let short = one.name.trim_start_matches("dpat-").to_owned();
        let mut wanted = vec!["LICENSE-APACHE".to_owned(), "LICENSE-MIT".to_owned()];
        if layer < Layer::Program {
            wanted.extend(["README.md", "CHANGELOG.md", "src/lib.rs"].map(str::to_owned));
        }
        if layer == Layer::Pattern {
            wanted.push("tests/it/main.rs".to_owned());
            wanted.push(format!("examples/{short}_basic.rs"));
        }
        if tree
            .matching(&one.file("src/tower"), ".rs")
            .next()
            .is_some()
        {
            wanted
                .extend(["layer", "service", "future"].map(|name| format!("src/tower/{name}.rs")));
        }
        for file in wanted.iter().filter(|file| !tree.has(&one.file(file))) {
            findings.add(one.path, 1, format!("the crate has no {file}"));
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let own = one.file(licence);
            if tree
                .get(&own)
                .is_some_and(|text| Some(text) != tree.get(licence))
            {
                findings.add(&own, 1, "differs from the licence of the workspace");
            }
        }
    }
}

/// The sections of a README in their order.
const SECTIONS: [&str; 8] = [
    "When to use",
    "Example",
    "Guarantees",
    "Limits",
    "Cancellation",
    "Features",
    "Benchmarks",
    "Alternatives",
];

fn readme(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings).iter().filter(|one| one.is_library()) {
        let path = one.file("README.md");
        let Some(text) = tree.get(&path) else {
            continue;
        };
        if !text.starts_with(&format!("# {}\n", one.name)) {
            findings.add(&path, 1, format!("does not start with `# {}`", one.name));
        }
        let mut from = 0;
        let mut missing = Vec::new();
        for section in SECTIONS {
            // A heading may say more: `## When to use, and when not`.
            let starts = |line: &str| {
                line.strip_prefix("## ")
                    .is_some_and(|rest| rest.starts_with(section))
            };
            match text.lines().skip(from).position(starts) {
                Some(offset) => from += offset + 1,
                None => missing.push(section),
            }
        }
        if !missing.is_empty() {
            let (missing, order) = (missing.join(", "), SECTIONS.join(" · "));
            findings.add(
                &path,
                1,
                format!("absent or out of order: {missing}; the order is {order}"),
            );
        }
    }
}

fn changelog(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings).iter().filter(|one| one.is_library()) {
        let path = one.file("CHANGELOG.md");
        let Some(text) = tree.get(&path) else {
            continue;
        };
        for wanted in ["# Changelog\n", "keepachangelog.com", "## [Unreleased]"] {
            if !text.contains(wanted) {
                findings.add(&path, 1, format!("does not have `{}`", wanted.trim_end()));
            }
        }
    }
}

fn lib_rs(tree: &Tree, findings: &mut Findings) {
    const LINES_MAX: usize = 120;
    for one in crates(tree, findings).iter().filter(|one| one.is_library()) {
        let path = one.file("src/lib.rs");
        let Some(text) = tree.get(&path) else {
            continue;
        };
        let lines = text.lines().count();
        if lines > LINES_MAX {
            findings.add(
                &path,
                LINES_MAX,
                format!("{lines} lines; at most {LINES_MAX}"),
            );
        }
        if !text.contains("#![doc = include_str!(\"../README.md\")]") {
            findings.add(&path, 1, "does not include the README as its documentation");
        }
        for (index, line) in text.lines().enumerate() {
            let code = code(line).trim();
            if code.starts_with("pub use") && code.contains('*') {
                findings.add(&path, index + 1, "re-exports with a glob");
            }
            if code.starts_with("fn ") || code.contains(" fn ") {
                findings.add(&path, index + 1, "has a function; logic lives in modules");
            }
        }
        let uses_unsafe = tree
            .matching(&one.file("src/"), ".rs")
            .flat_map(|(_, text)| text.lines())
            .any(|line| has_word(code(line), "unsafe"));
        if !uses_unsafe && !text.contains("forbid(unsafe_code)") {
            findings.add(
                &path,
                1,
                "no unsafe code anywhere: say #![forbid(unsafe_code)]",
            );
        }
    }
}

fn loom_models(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings) {
        let (facade, models) = (one.file("src/sync.rs"), one.file("src/loom_tests.rs"));
        let facade_text = tree.get(&facade).unwrap_or_default();
        if tree.has(&models) && !facade_text.contains("dpat_loom") {
            findings.add(
                &models,
                1,
                "src/sync.rs does not switch to loom under cfg(dpat_loom)",
            );
        }
        if facade_text.contains("loom::") && !tree.has(&models) {
            findings.add(
                &facade,
                line_of(facade_text, "loom::"),
                "there is no src/loom_tests.rs",
            );
        }
    }
}

fn dev_sibling(tree: &Tree, findings: &mut Findings) {
    for one in crates(tree, findings) {
        let tables = one.tables();
        let siblings = |wanted: &str| -> Vec<String> {
            tables
                .iter()
                .filter(|(kind, _, _)| *kind == wanted)
                .flat_map(|(_, _, table)| table.keys())
                .filter(|name| name.starts_with("dpat-"))
                .map(|name| name.replace('-', "_"))
                .collect()
        };
        let normal = siblings("dependencies");
        let for_tests: Vec<String> = siblings("dev-dependencies")
            .into_iter()
            .filter(|name| !normal.contains(name))
            .collect();
        for (path, text) in tree.matching(&one.file("src/"), ".rs") {
            for (index, line) in text.lines().enumerate() {
                if let Some(name) = for_tests.iter().find(|name| has_word(code(line), name)) {
                    findings.add(
                        path,
                        index + 1,
                        format!("`{name}` is for tests/ and examples/"),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_rule;
    use super::*;

    const MANIFEST: &str = "crates/dpat-retry/Cargo.toml";
    const GOOD: &str = "[package]\nname = \"dpat-retry\"\nversion = \"0.1.0\"\ndescription = \"d\"\n\
        keywords = []\ncategories = []\nreadme = \"README.md\"\nedition.workspace = true\n\
        license.workspace = true\n[lints]\nworkspace = true\n\
        [package.metadata.docs.rs]\nall-features = true\n";

    /// The good manifest with more lines at its end.
    fn with(more: &str) -> String {
        format!("{GOOD}{more}")
    }

    #[test]
    fn workspace_dependencies_are_bare_and_reasoned() {
        let text = "[workspace.dependencies]\n\
            dpat-core = { path = \"x\", default-features = false }\n\
            a = { version = \"1\", default-features = false } # used for a thing\n\
            b = { version = \"1\", default-features = false }\n\
            c = \"1\" # used for a thing\n[profile.dev]\nx = 1\n";
        check_rule(
            RULES,
            "workspace-dependency",
            &[("Cargo.toml", text)],
            &["Cargo.toml:4", "Cargo.toml:5"],
        );
    }

    #[test]
    fn dependencies_are_inherited_and_loom_is_behind_its_cfg() {
        check_rule(
            RULES,
            "dependency",
            &[(
                MANIFEST,
                "[package]\nname = \"dpat-retry\"\n[dependencies]\nserde = \"1\"\nhttp.workspace = true\n\
                 [dev-dependencies]\nloom.workspace = true\ndpat-testkit = { path = \"../dpat-testkit\" }\n\
                 dpat-sim.workspace = true\n[target.'cfg(dpat_loom)'.dependencies]\nloom.workspace = true\n",
            )],
            &[
                "crates/dpat-retry/Cargo.toml:4",
                "crates/dpat-retry/Cargo.toml:9",
                "crates/dpat-retry/Cargo.toml:7",
            ],
        );
    }

    #[test]
    fn manifests_inherit_and_describe() {
        check_rule(RULES, "manifest", &[(MANIFEST, GOOD)], &[]);
        let bad = GOOD
            .replace("edition.workspace = true", "edition = \"2024\"")
            .replace("readme", "x");
        check_rule(
            RULES,
            "manifest",
            &[(MANIFEST, &bad)],
            &[
                "crates/dpat-retry/Cargo.toml:1",
                "crates/dpat-retry/Cargo.toml:1",
            ],
        );
    }

    #[test]
    fn only_tools_are_unpublished() {
        let tool = "[package]\nname = \"xtask\"\n";
        let hidden = "[package]\nname = \"dpat-retry\"\npublish = false\n";
        check_rule(
            RULES,
            "publish",
            &[
                (
                    "crates/dpat-testkit/Cargo.toml",
                    "[package]\nname = \"dpat-testkit\"\n",
                ),
                (MANIFEST, hidden),
                ("xtask/Cargo.toml", tool),
            ],
            &["crates/dpat-retry/Cargo.toml:3", "xtask/Cargo.toml:1"],
        );
    }

    #[test]
    fn patterns_have_five_features_at_most() {
        let five = with("[features]\ndefault = []\na = []\nb = []\nc = []\nd = []\ne = []\n");
        check_rule(RULES, "features", &[(MANIFEST, &five)], &[]);
        let six = format!("{five}f = []\n");
        check_rule(
            RULES,
            "features",
            &[(MANIFEST, &six)],
            &["crates/dpat-retry/Cargo.toml:14"],
        );
    }

    #[test]
    fn crates_have_the_same_files() {
        let all = [
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "README.md",
            "CHANGELOG.md",
            "src/lib.rs",
            "tests/it/main.rs",
            "examples/retry_basic.rs",
        ];
        let paths: Vec<String> = all
            .iter()
            .map(|file| format!("crates/dpat-retry/{file}"))
            .collect();
        let mut files = vec![
            (MANIFEST, GOOD),
            ("LICENSE-MIT", ""),
            ("LICENSE-APACHE", ""),
        ];
        files.extend(paths.iter().map(|path| (path.as_str(), "")));
        check_rule(RULES, "crate-files", &files, &[]);
        files.push(("crates/dpat-retry/src/tower/layer.rs", ""));
        let missing = ["crates/dpat-retry/Cargo.toml:1"; 2];
        check_rule(RULES, "crate-files", &files, &missing);
        files.pop();
        files.pop();
        check_rule(RULES, "crate-files", &files, &missing[..1]);
        files[1].1 = "other terms";
        check_rule(
            RULES,
            "crate-files",
            &files,
            &[
                "crates/dpat-retry/Cargo.toml:1",
                "crates/dpat-retry/LICENSE-MIT:1",
            ],
        );
    }

    #[test]
    fn readmes_answer_the_same_questions_in_order() {
        let mut text = "# dpat-retry\n".to_owned();
        for section in SECTIONS {
            text.push_str(&format!("## {section}\n"));
        }
        let text = text.replace("When to use", "When to use, and when not");
        let path = "crates/dpat-retry/README.md";
        check_rule(RULES, "readme", &[(MANIFEST, GOOD), (path, &text)], &[]);
        let swapped = text
            .replace("## Limits\n", "")
            .replace("## Alternatives", "## Limits\n## Alternatives");
        check_rule(
            RULES,
            "readme",
            &[(MANIFEST, GOOD), (path, &swapped)],
            &["crates/dpat-retry/README.md:1"],
        );
        let other = text.replace("# dpat-retry\n", "# Retry\n");
        check_rule(
            RULES,
            "readme",
            &[(MANIFEST, GOOD), (path, &other)],
            &["crates/dpat-retry/README.md:1"],
        );
    }

    #[test]
    fn changelogs_have_their_form() {
        let path = "crates/dpat-retry/CHANGELOG.md";
        let good = "# Changelog\nThe form is keepachangelog.com.\n## [Unreleased]\n";
        check_rule(RULES, "changelog", &[(MANIFEST, GOOD), (path, good)], &[]);
        check_rule(
            RULES,
            "changelog",
            &[
                (MANIFEST, GOOD),
                (path, "# Changelog\nkeepachangelog.com\n"),
            ],
            &["crates/dpat-retry/CHANGELOG.md:1"],
        );
    }

    #[test]
    fn lib_rs_is_a_table_of_contents() {
        let path = "crates/dpat-retry/src/lib.rs";
        let head = "#![doc = include_str!(\"../README.md\")]\n#![forbid(unsafe_code)]\n";
        check_rule(RULES, "lib-rs", &[(MANIFEST, GOOD), (path, head)], &[]);
        let bad = format!(
            "{head}pub use a::*;\npub fn b() {{}}\n{}",
            "mod m;\n".repeat(117)
        );
        check_rule(
            RULES,
            "lib-rs",
            &[(MANIFEST, GOOD), (path, &bad)],
            &[
                "crates/dpat-retry/src/lib.rs:120",
                "crates/dpat-retry/src/lib.rs:3",
                "crates/dpat-retry/src/lib.rs:4",
            ],
        );
        check_rule(
            RULES,
            "lib-rs",
            &[(MANIFEST, GOOD), (path, "mod a;\n")],
            &[
                "crates/dpat-retry/src/lib.rs:1",
                "crates/dpat-retry/src/lib.rs:1",
            ],
        );
    }

    #[test]
    fn models_and_facade_come_together() {
        let (facade, models) = (
            "crates/dpat-retry/src/sync.rs",
            "crates/dpat-retry/src/loom_tests.rs",
        );
        let good = "#[cfg(dpat_loom)]\nuse loom::sync;\n";
        check_rule(
            RULES,
            "loom-models",
            &[(MANIFEST, GOOD), (facade, good), (models, "")],
            &[],
        );
        check_rule(
            RULES,
            "loom-models",
            &[(MANIFEST, GOOD), (facade, good)],
            &["crates/dpat-retry/src/sync.rs:2"],
        );
        check_rule(
            RULES,
            "loom-models",
            &[(MANIFEST, GOOD), (models, "")],
            &["crates/dpat-retry/src/loom_tests.rs:1"],
        );
    }

    #[test]
    fn siblings_for_tests_stay_out_of_the_source() {
        let manifest = with(
            "[dependencies]\ndpat-core.workspace = true\n[dev-dependencies]\n\
             dpat-core = { path = \"../dpat-core\" }\ndpat-testkit = { path = \"../dpat-testkit\" }\n",
        );
        check_rule(
            RULES,
            "dev-sibling",
            &[
                (MANIFEST, &manifest),
                (
                    "crates/dpat-retry/src/a.rs",
                    "use dpat_core::X;\n/// dpat_testkit\nuse dpat_testkit::Y;\n",
                ),
                (
                    "crates/dpat-retry/tests/it/main.rs",
                    "use dpat_testkit::Y;\n",
                ),
            ],
            &["crates/dpat-retry/src/a.rs:3"],
        );
    }
}
