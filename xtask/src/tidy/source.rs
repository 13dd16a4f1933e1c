//! Rules for the Rust source of the crates.

use std::collections::BTreeSet;

use super::{Findings, Rule, Tree, code, has_word};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "sleep",
        why: "a test that waits is slow and fails on a busy machine; time is injected",
        check: sleep,
    },
    Rule {
        name: "stub",
        why: "what is not written yet does not land",
        check: stub,
    },
    Rule {
        name: "ignored-test",
        why: "an ignored test without a reason is a test that nobody will ever run again",
        check: ignored_test,
    },
    Rule {
        name: "bare-loom",
        why: "cfg(loom) flips the internals of tokio too; ours is cfg(dpat_loom)",
        check: bare_loom,
    },
    Rule {
        name: "allow-reason",
        why: "a lint that is switched off in silence cannot be switched on again with confidence",
        check: allow_reason,
    },
    Rule {
        name: "todo-reason",
        why: "a note without a reason and an owner is never done",
        check: todo_reason,
    },
    Rule {
        name: "pure-service",
        why: "the services of the shop also run in the simulator, so they name no runtime",
        check: pure_service,
    },
    Rule {
        name: "one-test-binary",
        why: "each file under tests/ links on its own; only live.rs, which wants servers, stands apart",
        check: one_test_binary,
    },
];

/// Calls `see` with every line of the crates' Rust files, comments cut.
fn each_line<'a>(tree: &'a Tree, part: &str, mut see: impl FnMut(&'a str, usize, &'a str)) {
    for (path, text) in tree.matching("crates/", ".rs") {
        if part.is_empty() || path.split('/').nth(2) == Some(part) {
            for (index, line) in text.lines().enumerate() {
                see(path, index + 1, code(line));
            }
        }
    }
}

/// Servers and connections live in real time, and the kit waits for them there.
const REAL_TIME: &str = "crates/dpat-testkit/src/wait.rs";

fn sleep(tree: &Tree, findings: &mut Findings) {
    for part in ["src", "tests"] {
        each_line(tree, part, |path, line, code| {
            let waits = code.contains("thread::sleep")
                || code.contains("time::sleep(Duration::from_")
                || code.contains("time::sleep(std::time::Duration::from_");
            if waits && path != REAL_TIME {
                findings.add(
                    path,
                    line,
                    "waits; use an injected `Sleep` and virtual time",
                );
            }
        });
    }
}

fn stub(tree: &Tree, findings: &mut Findings) {
    each_line(tree, "", |path, line, code| {
        for stub in ["todo!(", "unimplemented!(", "dbg!("] {
            if code.contains(stub) {
                findings.add(path, line, format!("`{stub})`"));
            }
        }
    });
}

fn ignored_test(tree: &Tree, findings: &mut Findings) {
    each_line(tree, "", |path, line, code| {
        if code.contains("#[ignore]") {
            findings.add(path, line, "say why: #[ignore = \"reason\"]");
        }
    });
}

fn bare_loom(tree: &Tree, findings: &mut Findings) {
    let mut see = |path: &str, line: usize, code: &str| {
        if code.contains("cfg") && has_word(code, "loom") && !code.contains("feature") {
            // `loom` is a cfg only directly after a bracket or a comma of the condition.
            let bare = [
                "cfg(loom",
                "cfg_attr(loom",
                "not(loom",
                "any(loom",
                "all(loom",
                ", loom)",
            ];
            if bare.iter().any(|form| code.contains(form)) {
                findings.add(path, line, "use cfg(dpat_loom)");
            }
        }
    };
    each_line(tree, "", &mut see);
    for (path, text) in tree.matching("crates/", "Cargo.toml") {
        for (index, line) in text.lines().enumerate() {
            see(path, index + 1, line.split('#').next().unwrap_or_default());
        }
    }
}

/// A reason is `reason = "…"`, a comment on the line or one directly above; once a file and lint.
fn allow_reason(tree: &Tree, findings: &mut Findings) {
    for (path, text) in tree.matching("crates/", ".rs") {
        let lines: Vec<&str> = text.lines().collect();
        let mut reasoned = BTreeSet::new();
        let mut bare = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let code = code(line).trim();
            let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
            let Some(lints) = starts.iter().find_map(|start| code.strip_prefix(start)) else {
                continue;
            };
            let end = lines[index..]
                .iter()
                .position(|line| line.contains(")]"))
                .unwrap_or(0);
            let above = index
                .checked_sub(1)
                .map_or("", |above| lines[above].trim_start());
            let lints = lints.trim_end_matches(")]");
            if lines[index..=index + end]
                .iter()
                .any(|line| line.contains("reason") || line.contains("// "))
                || (above.starts_with("//") && !above.starts_with("///"))
            {
                reasoned.insert(lints.split(", reason").next().unwrap_or(lints));
            } else {
                bare.push((index + 1, lints));
            }
        }
        for (line, lints) in bare {
            if !reasoned.contains(lints) {
                findings.add(path, line, "say why: reason = \"…\"");
            }
        }
    }
}

fn todo_reason(tree: &Tree, findings: &mut Findings) {
    for (path, text) in tree.matching("", ".rs") {
        if path.starts_with("xtask/") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let Some(at) = line.find("//") else { continue };
            let comment = &line[at..];
            for word in ["TODO", "FIXME", "XXX"]
                .into_iter()
                .filter(|word| has_word(comment, word))
            {
                let rest = comment.split(word).nth(1).unwrap_or_default();
                let reasoned = rest.starts_with('(')
                    && rest
                        .split_once("): ")
                        .is_some_and(|(_, text)| text.len() > 10);
                if !reasoned {
                    findings.add(path, index + 1, format!("write {word}(OWNER): REASON"));
                }
            }
        }
    }
}

fn pure_service(tree: &Tree, findings: &mut Findings) {
    for (path, text) in tree.matching("crates/dpat-cases/src/shop/service", ".rs") {
        for (index, line) in text.lines().enumerate() {
            let code = code(line);
            for banned in ["tokio", "axum", "redb", "hyper"] {
                if has_word(code, banned) {
                    findings.add(path, index + 1, format!("names `{banned}`"));
                }
            }
            for banned in ["std::time", "std::thread"] {
                if code.contains(banned) {
                    findings.add(path, index + 1, format!("names `{banned}`"));
                }
            }
        }
    }
}

fn one_test_binary(tree: &Tree, findings: &mut Findings) {
    for (path, _) in tree.matching("crates/", ".rs") {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() == 4 && parts[2] == "tests" && parts[3] != "live.rs" {
            findings.add(
                path,
                1,
                "one integration binary: a module of tests/it/main.rs",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_rule;
    use super::*;

    const A: &str = "crates/dpat-a/src/a.rs";

    #[test]
    fn sleeping_is_found_in_source_and_tests() {
        check_rule(
            RULES,
            "sleep",
            &[
                (
                    A,
                    "std::thread::sleep(d);\n// thread::sleep\ntime.sleep(d);\n",
                ),
                (REAL_TIME, "std::thread::sleep(d);\n"),
                (
                    "crates/dpat-a/tests/it/main.rs",
                    "tokio::time::sleep(Duration::from_millis(1))\n",
                ),
                (
                    "crates/dpat-a/examples/a.rs",
                    "tokio::time::sleep(Duration::from_millis(1))\n",
                ),
            ],
            &[
                "crates/dpat-a/src/a.rs:1",
                "crates/dpat-a/tests/it/main.rs:1",
            ],
        );
    }

    #[test]
    fn stubs_are_found() {
        check_rule(
            RULES,
            "stub",
            &[(A, "todo!()\nunimplemented!(\"x\")\n// todo!()\ndbg!(a)\n")],
            &[
                "crates/dpat-a/src/a.rs:1",
                "crates/dpat-a/src/a.rs:2",
                "crates/dpat-a/src/a.rs:4",
            ],
        );
    }

    #[test]
    fn ignored_tests_want_a_reason() {
        check_rule(
            RULES,
            "ignored-test",
            &[(A, "#[ignore]\n#[ignore = \"needs a server\"]\n")],
            &["crates/dpat-a/src/a.rs:1"],
        );
    }

    #[test]
    fn only_the_projects_loom_cfg_is_used() {
        check_rule(
            RULES,
            "bare-loom",
            &[
                (
                    A,
                    "#[cfg(loom)]\n#[cfg(dpat_loom)]\n#[cfg(not(loom))]\n#[cfg(all(test, loom))]\nuse loom::x;\n",
                ),
                (
                    "crates/dpat-a/Cargo.toml",
                    "[target.'cfg(loom)'.dependencies]\n",
                ),
            ],
            &[
                "crates/dpat-a/src/a.rs:1",
                "crates/dpat-a/src/a.rs:3",
                "crates/dpat-a/src/a.rs:4",
                "crates/dpat-a/Cargo.toml:1",
            ],
        );
    }

    #[test]
    fn switched_off_lints_want_a_reason() {
        check_rule(
            RULES,
            "allow-reason",
            &[(
                A,
                "#[allow(dead_code)]\n#[expect(\n  x,\n  reason = \"y\"\n)]\n#[allow(x, reason = \"y\")]\n\
                 #[allow(x)]\n#[allow(z)] // because\n// because\n#[allow(u)]\n",
            )],
            &["crates/dpat-a/src/a.rs:1"],
        );
    }

    #[test]
    fn notes_want_an_owner_and_a_reason() {
        check_rule(
            RULES,
            "todo-reason",
            &[(
                A,
                "// TODO\n// TODO(wal): wait for the committer\n// FIXME later\nlet todo = 1;\n",
            )],
            &["crates/dpat-a/src/a.rs:1", "crates/dpat-a/src/a.rs:3"],
        );
    }

    #[test]
    fn services_name_no_runtime() {
        check_rule(
            RULES,
            "pure-service",
            &[
                (
                    "crates/dpat-cases/src/shop/service/order.rs",
                    "use tokio::x;\n// redb\nuse std::time::Duration;\nlet tokio_like = 1;\n",
                ),
                ("crates/dpat-cases/src/shop/shell/http.rs", "use axum::x;\n"),
            ],
            &[
                "crates/dpat-cases/src/shop/service/order.rs:1",
                "crates/dpat-cases/src/shop/service/order.rs:3",
            ],
        );
    }

    #[test]
    fn there_is_one_integration_binary() {
        check_rule(
            RULES,
            "one-test-binary",
            &[
                ("crates/dpat-a/tests/it/main.rs", ""),
                ("crates/dpat-a/tests/live.rs", ""),
                ("crates/dpat-a/tests/cancel.rs", ""),
            ],
            &["crates/dpat-a/tests/cancel.rs:1"],
        );
    }
}
