//! `cargo xtask tidy`: rules of the repository that no other tool checks.
//!
//! Each rule is a function over the texts of the repository, states why it exists, and has a test
//! that breaks it. A finding is one line, `FILE:LINE: rule: reason`. There is no list of exceptions:
//! a rule that wants one is a wrong rule.

mod crates;
mod docs;
mod source;
mod texts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::error::{Outcome, Result};
use crate::process::{self, Log, command};
use crate::workspace::Workspace;

/// The texts of the repository by path, with `/`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

/// Something that a rule does not accept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}",
            self.file, self.line, self.rule, self.reason
        )
    }
}

/// A rule: its name, why it exists, and the function that applies it.
struct Rule {
    name: &'static str,
    why: &'static str,
    check: fn(&Tree, &mut Findings),
}

/// What one rule has found so far.
struct Findings {
    rule: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    /// Adds a finding; lines count from one.
    fn add(&mut self, file: &str, line: usize, reason: impl Into<String>) {
        self.found.push(Finding {
            file: file.to_owned(),
            line,
            rule: self.rule,
            reason: reason.into(),
        });
    }
}

impl Tree {
    /// Reads what git knows or would add; without git, everything but build output.
    pub(crate) fn load(workspace: &Workspace) -> Self {
        let mut list = command(workspace, "git");
        list.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let paths = match process::output(&mut list) {
            Some(text) => text
                .split('\0')
                .filter(|path| !path.is_empty())
                .map(str::to_owned)
                .collect(),
            None => {
                let mut paths = Vec::new();
                walk(&workspace.root, "", &mut paths);
                paths
            }
        };
        let files = paths
            .into_iter()
            // Deleted but not yet committed, or no text: nothing to look at.
            .filter_map(|path| {
                Some((
                    path.clone(),
                    std::fs::read_to_string(workspace.root.join(path)).ok()?,
                ))
            })
            .collect();
        Self { files }
    }

    /// A tree for a test.
    #[cfg(test)]
    pub(crate) fn from_files<P: Into<String>, T: Into<String>>(
        files: impl IntoIterator<Item = (P, T)>,
    ) -> Self {
        Self {
            files: files
                .into_iter()
                .map(|(path, text)| (path.into(), text.into()))
                .collect(),
        }
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Files whose path starts and ends so.
    fn matching<'a>(
        &'a self,
        start: &'a str,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(start) && path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), ".git" | "target" | "book") {
            continue;
        }
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.path().is_dir() {
            walk(root, &path, paths);
        } else {
            paths.push(path);
        }
    }
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    texts::RULES
        .iter()
        .chain(crates::RULES)
        .chain(source::RULES)
        .chain(docs::RULES)
}

/// Applies every rule.
pub(crate) fn findings(tree: &Tree) -> Vec<(Finding, &'static str)> {
    let mut all = Vec::new();
    for rule in rules() {
        let mut findings = Findings {
            rule: rule.name,
            found: Vec::new(),
        };
        (rule.check)(tree, &mut findings);
        all.extend(
            findings
                .found
                .into_iter()
                .map(|finding| (finding, rule.why)),
        );
    }
    all
}

/// The step of `ci`; the log has every finding and, once a rule, why it exists.
pub(crate) fn step(workspace: &Workspace, log: &Log) -> Result<Outcome> {
    let findings = findings(&Tree::load(workspace));
    let mut explained = "";
    for (finding, why) in &findings {
        log.line(&finding.to_string())?;
        if finding.rule != explained {
            explained = finding.rule;
            log.line(&format!("  because {why}"))?;
        }
    }
    Ok(match findings.first() {
        None => Outcome::OK,
        Some((first, _)) => Outcome::Failed(format!("{} findings, first {first}", findings.len())),
    })
}

/// The line, from one, on which `needle` first stands; one when it does not.
fn line_of(text: &str, needle: &str) -> usize {
    text.lines()
        .position(|line| line.contains(needle))
        .map_or(1, |index| index + 1)
}

/// A line of Rust without its comment. A `//` inside a string is not told apart, `://` is.
fn code(line: &str) -> &str {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| at + from) {
        if at == 0 || !line[..at].ends_with(':') {
            return &line[..at];
        }
        from = at + 2;
    }
    line
}

/// Whether `word` stands in `text` with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part_of_name)
            && !text[at + word.len()..]
                .chars()
                .next()
                .is_some_and(part_of_name)
    })
}

/// Runs one rule over a few files and compares the findings, written `FILE:LINE`.
#[cfg(test)]
#[track_caller]
fn check_rule(rules: &[Rule], name: &'static str, files: &[(&str, &str)], expected: &[&str]) {
    let rule = rules
        .iter()
        .find(|rule| rule.name == name)
        .expect("the rule exists");
    let mut findings = Findings {
        rule: rule.name,
        found: Vec::new(),
    };
    (rule.check)(&Tree::from_files(files.iter().copied()), &mut findings);
    let found: Vec<String> = findings
        .found
        .iter()
        .map(|finding| format!("{}:{}", finding.file, finding.line))
        .collect();
    assert_eq!(found, expected, "{:#?}", findings.found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let workspace = Workspace::load().expect("cargo knows the workspace");
        let found: Vec<String> = findings(&Tree::load(&workspace))
            .iter()
            .map(|(finding, why)| format!("{finding} (because {why})"))
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn every_rule_has_its_own_name_and_a_reason() {
        let mut names: Vec<&str> = rules().map(|rule| rule.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two rules share a name");
        assert!(
            rules().all(|rule| rule.why.len() > 20),
            "a rule does not say why it exists"
        );
    }

    #[test]
    fn a_finding_prints_file_line_rule_and_reason() {
        let finding = Finding {
            file: "a.rs".to_owned(),
            line: 3,
            rule: "stub",
            reason: "not written".to_owned(),
        };
        assert_eq!(finding.to_string(), "a.rs:3: stub: not written");
    }

    #[test]
    fn comments_are_cut_and_addresses_are_not() {
        assert_eq!(code("let a = 1; // why"), "let a = 1; ");
        assert_eq!(
            code("let a = \"https://x\"; // why"),
            "let a = \"https://x\"; "
        );
        assert_eq!(code("/// text"), "");
    }

    #[test]
    fn words_have_no_letters_beside_them() {
        assert!(has_word("use tokio::time;", "tokio"));
        assert!(!has_word("use tokio_util::x;", "tokio"));
        assert!(!has_word("mytokio", "tokio"));
    }
}
