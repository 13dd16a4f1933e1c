//! Rules for every text file.

use super::{Findings, Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "whitespace",
        why: "blanks at line ends and odd line ends make differences that nobody reads",
        check: whitespace,
    },
    Rule {
        name: "local-path",
        why: "a folder of one machine means nothing on another",
        check: local_path,
    },
    Rule {
        name: "lock-source",
        why: "a lock that names a mirror builds on one network only",
        check: lock_source,
    },
    Rule {
        name: "file-length",
        why: "a file of more than 800 lines holds more than one concept",
        check: file_length,
    },
];

/// Line ends, trailing blanks, a last line that ends, and no byte order mark.
fn whitespace(tree: &Tree, findings: &mut Findings) {
    for (path, text) in tree.matching("", "") {
        if text.starts_with('\u{feff}') {
            findings.add(path, 1, "byte order mark");
        }
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with('\r') {
                findings.add(path, index + 1, "line ends with a carriage return");
            } else if line.ends_with([' ', '\t']) {
                findings.add(path, index + 1, "trailing blank");
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            findings.add(path, text.lines().count(), "the last line does not end");
        }
    }
}

fn local_path(tree: &Tree, findings: &mut Findings) {
    // Put together here, so that this file does not find itself.
    let needles = ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    for (path, text) in tree.matching("", "") {
        for (index, line) in text.lines().enumerate() {
            let found = needles.iter().find(|needle| {
                line.match_indices(needle.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}".contains(c))
                })
            });
            if let Some(needle) = found {
                findings.add(
                    path,
                    index + 1,
                    format!("a path below {needle} is one machine's"),
                );
            }
        }
    }
}

fn lock_source(tree: &Tree, findings: &mut Findings) {
    const CRATES_IO: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    for (path, text) in tree.matching("", "Cargo.lock") {
        for (index, line) in text.lines().enumerate() {
            if line.starts_with("source = ") && line != CRATES_IO {
                findings.add(path, index + 1, "not from crates.io");
            }
        }
    }
}

fn file_length(tree: &Tree, findings: &mut Findings) {
    const LINES_MAX: usize = 800;
    for (path, text) in tree.matching("", ".rs") {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            findings.add(
                path,
                LINES_MAX,
                format!("{lines} lines; split it by concept"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_rule;
    use super::*;

    #[test]
    fn whitespace_is_found() {
        check_rule(
            RULES,
            "whitespace",
            &[
                ("a", "ok\n"),
                ("b", "x \ny\r\nz"),
                ("c", "\t\n"),
                ("empty", ""),
            ],
            &["b:1", "b:2", "b:3", "c:1"],
        );
    }

    #[test]
    fn local_paths_are_found_and_addresses_are_not() {
        let mine = format!("see {}x\n", ["", "work", ""].join("/"));
        let address = format!("https://example.org{}x\n", ["", "home", ""].join("/"));
        check_rule(
            RULES,
            "local-path",
            &[("a.md", &mine), ("b.md", &address)],
            &["a.md:1"],
        );
    }

    #[test]
    fn locks_name_crates_io_only() {
        let good = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        let bad = format!("{good}source = \"registry+https://mirror.example/index\"\n");
        check_rule(
            RULES,
            "lock-source",
            &[("Cargo.lock", good), ("benches/Cargo.lock", &bad)],
            &["benches/Cargo.lock:2"],
        );
    }

    #[test]
    fn long_files_are_found() {
        let (long, good) = ("x\n".repeat(801), "x\n".repeat(800));
        check_rule(
            RULES,
            "file-length",
            &[("a.rs", &long), ("b.rs", &good)],
            &["a.rs:800"],
        );
    }
}
