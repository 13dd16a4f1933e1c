//! Rules for the prose: what it names must exist.

use std::collections::BTreeSet;

use super::{Findings, Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "commands",
        why: "a newcomer runs the two commands of the README, so both stay there and work",
        check: commands,
    },
    Rule {
        name: "pitfall-test",
        why: "a pitfall without a test that exists is a claim",
        check: pitfall_test,
    },
    Rule {
        name: "link",
        why: "a link into the repository that leads nowhere sends the reader away",
        check: link,
    },
];

fn commands(tree: &Tree, findings: &mut Findings) {
    for (path, wanted) in [
        ("README.md", ["cargo dpat demo shop", "cargo xtask ci"]),
        (".cargo/config.toml", ["dpat = \"run ", "xtask = \"run "]),
    ] {
        let text = tree.get(path).unwrap_or_default();
        for wanted in wanted.into_iter().filter(|wanted| !text.contains(wanted)) {
            findings.add(path, 1, format!("does not have `{wanted}`"));
        }
    }
}

/// Every row of `docs/src/pitfalls.md` names a test as `` `crate::path::test_name` ``.
fn pitfall_test(tree: &Tree, findings: &mut Findings) {
    let path = "docs/src/pitfalls.md";
    let lines: Vec<&str> = tree.get(path).unwrap_or_default().lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let is_row = line.starts_with('|') && !is_separator(line);
        let is_header = lines.get(index + 1).is_some_and(|next| is_separator(next));
        if !is_row || is_header {
            continue;
        }
        let tests: Vec<&str> = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.contains("::"))
            .collect();
        let mut named = false;
        for test in tests {
            let mut parts = test.trim_end_matches("()").split("::");
            let first = parts.next().unwrap_or_default().replace('_', "-");
            let folder = format!("crates/{first}/");
            if tree.matching(&folder, "Cargo.toml").next().is_none() {
                continue;
            }
            named = true;
            let function = format!("fn {}(", parts.last().unwrap_or_default());
            if !tree
                .matching(&folder, ".rs")
                .any(|(_, text)| text.contains(&function))
            {
                findings.add(path, index + 1, format!("there is no test `{test}`"));
            }
        }
        if !named {
            findings.add(
                path,
                index + 1,
                "the row names no test `crate::path::test_name`",
            );
        }
    }
}

fn is_separator(line: &str) -> bool {
    line.starts_with('|') && line.contains("--") && line.chars().all(|c| " |-:".contains(c))
}

fn link(tree: &Tree, findings: &mut Findings) {
    let folders: BTreeSet<&str> = tree
        .matching("", "")
        .flat_map(|(path, _)| path.match_indices('/').map(|(at, _)| &path[..at]))
        .collect();
    for (path, text) in tree.matching("", ".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_block = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            }
            if in_block {
                continue;
            }
            for target in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let target = target.split(['#', ' ']).next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                let full = resolve(folder, target);
                if !tree.has(&full) && !folders.contains(full.as_str()) {
                    findings.add(path, index + 1, format!("`{target}` does not exist"));
                }
            }
        }
    }
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::check_rule;
    use super::*;

    #[test]
    fn the_two_commands_stand_in_readme_and_aliases() {
        let alias = "[alias]\nxtask = \"run -p xtask --\"\ndpat = \"run -p dpat-cli --\"\n";
        let readme = "cargo dpat demo shop\ncargo xtask ci\n";
        check_rule(
            RULES,
            "commands",
            &[("README.md", readme), (".cargo/config.toml", alias)],
            &[],
        );
        check_rule(
            RULES,
            "commands",
            &[
                ("README.md", "cargo xtask ci\n"),
                (".cargo/config.toml", alias),
            ],
            &["README.md:1"],
        );
    }

    #[test]
    fn pitfalls_name_tests_that_exist() {
        let text = "| pitfall | test |\n|---|---|\n| a | `dpat_core::ids::wraps` |\n\
                    | b | `dpat-core::ids::missing` |\n| c | none |\n| d | `std::fmt` |\n";
        check_rule(
            RULES,
            "pitfall-test",
            &[
                ("docs/src/pitfalls.md", text),
                ("crates/dpat-core/Cargo.toml", ""),
                ("crates/dpat-core/src/ids.rs", "#[test]\nfn wraps() {}\n"),
            ],
            &[
                "docs/src/pitfalls.md:4",
                "docs/src/pitfalls.md:5",
                "docs/src/pitfalls.md:6",
            ],
        );
    }

    #[test]
    fn links_lead_somewhere() {
        let text = "[a](b.md#x) [u](https://e.org) [i](crate::X) [f](..)\n```\n[no](no.md)\n```\n[gone](../gone.md)\n";
        check_rule(
            RULES,
            "link",
            &[("docs/src/a.md", text), ("docs/src/b.md", "")],
            &["docs/src/a.md:5"],
        );
    }
}
