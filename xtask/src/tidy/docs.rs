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
        name: "guarantee",
        why: "a guarantee without a test that exists is a hope",
        check: guarantee,
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
    for (line, row) in rows(tree.get(path).unwrap_or_default()) {
        let mut named = false;
        for test in row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.contains("::"))
        {
            let first = test
                .split("::")
                .next()
                .unwrap_or_default()
                .replace('_', "-");
            let folder = format!("crates/{first}/");
            if tree.matching(&folder, "Cargo.toml").next().is_none() {
                continue;
            }
            named = true;
            if !has_test(tree, &folder, test) {
                findings.add(path, line, format!("there is no test `{test}`"));
            }
        }
        if !named {
            findings.add(path, line, "the row names no test `crate::path::test_name`");
        }
    }
}

/// Every row of the table of guarantees in a crate's README names tests in its last cell.
fn guarantee(tree: &Tree, findings: &mut Findings) {
    for (path, text) in tree.matching("crates/", "/README.md") {
        let folder = path.trim_end_matches("README.md");
        let Some(start) = text.find("\n## Guarantees") else {
            continue;
        };
        let before = text[..=start].lines().count();
        let section = &text[start + 1..];
        let section = section[3..]
            .find("\n## ")
            .map_or(section, |end| &section[..end + 3]);
        let rows = rows(section);
        if rows.is_empty() {
            findings.add(path, before + 1, "no table `| guarantee | shown by |`");
        }
        for (line, row) in rows {
            let proof = row
                .trim_end()
                .trim_end_matches('|')
                .rsplit('|')
                .next()
                .unwrap_or_default();
            let tests: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
            if tests.is_empty() {
                findings.add(path, before + line, "the row names no test");
            }
            for test in tests
                .into_iter()
                .filter(|test| !has_test(tree, folder, test))
            {
                findings.add(path, before + line, format!("there is no test `{test}`"));
            }
        }
    }
}

/// Rows of the tables of a text, without their headers, by line from one.
fn rows(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with('|') && !is_separator(line))
        .filter(|(index, _)| !lines.get(index + 1).is_some_and(|next| is_separator(next)))
        .map(|(index, line)| (index + 1, *line))
        .collect()
}

/// Whether a crate has the test that a path names. A `*` stands for any part of a name; as the
/// whole name it stands for the tests of a module.
fn has_test(tree: &Tree, folder: &str, path: &str) -> bool {
    let mut parts = path.trim_end_matches("()").rsplit("::");
    let name = parts.next().unwrap_or_default();
    let mut sources = tree.matching(folder, ".rs");
    if name == "*" {
        let module = parts.next().unwrap_or_default();
        let (file, dir) = (format!("/{module}.rs"), format!("/{module}/"));
        return sources.any(|(path, text)| {
            (path.ends_with(&file) || path.contains(&dir)) && text.contains("#[test]")
        });
    }
    let mut pieces = name.split('*');
    let first = format!("fn {}", pieces.next().unwrap_or_default());
    let rest: Vec<&str> = pieces.collect();
    sources.any(|(_, text)| {
        text.lines().any(|line| {
            let Some(at) = line.find(&first) else {
                return false;
            };
            let mut tail = &line[at + first.len()..];
            for piece in &rest {
                let Some(at) = tail.find(piece) else {
                    return false;
                };
                tail = &tail[at + piece.len()..];
            }
            tail.starts_with(['(', '<']) || rest.last().is_some_and(|piece| piece.is_empty())
        })
    })
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
    fn guarantees_name_tests_that_exist() {
        let text = "# a\n\n## Guarantees\n\n| guarantee | shown by |\n|---|---|\n\
            | holds | `it::holds` and `loom::*`, `presets_*`, `a_*_c` |\n| hopes | `missing` |\n\
            | hopes | `nothing::*` |\n| hopes | nobody knows |\n\n## Limits\n\n| x | y |\n|---|---|\n| z | z |\n";
        check_rule(
            RULES,
            "guarantee",
            &[
                ("crates/dpat-a/README.md", text),
                (
                    "crates/dpat-a/src/loom.rs",
                    "#[test]\nfn presets_one() {}\n",
                ),
                (
                    "crates/dpat-a/tests/it/main.rs",
                    "fn holds() {}\nasync fn a_b_c() {}\n",
                ),
                ("crates/dpat-b/README.md", "# b\n\n## Guarantees\n\nMany.\n"),
            ],
            &[
                "crates/dpat-a/README.md:8",
                "crates/dpat-a/README.md:9",
                "crates/dpat-a/README.md:10",
                "crates/dpat-b/README.md:3",
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
