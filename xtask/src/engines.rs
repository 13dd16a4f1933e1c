//! `cargo xtask engines`: what each engine can do, from what the suites of laws have found.
//!
//! The tests write `target/dpat-conformance/ENGINE.PORT.json`; this puts their tables into `docs/src/engines.md`, and as a
//! step of `ci` checks that they are there already.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Outcome, Result};
use crate::process::Log;
use crate::workspace::Workspace;

const PAGE: &str = "docs/src/engines.md";
const BEGIN: &str = "<!-- cargo xtask engines: begin -->\n";
const END: &str = "<!-- cargo xtask engines: end -->\n";

/// Each port, and the engines that have it, in the order of the columns.
const PORTS: [(&str, &str, &[&str]); 5] = [
    (
        "queue",
        "Queue",
        &["memory", "log", "sqlite", "postgres", "nats", "redis"],
    ),
    ("pubsub", "Publish–subscribe", &["memory", "nats", "redis"]),
    (
        "outbox",
        "Outbox",
        &["memory", "redb", "sqlite", "postgres"],
    ),
    ("inbox", "Inbox", &["memory", "redb", "sqlite", "postgres"]),
    (
        "responses",
        "Response store",
        &["memory", "redb", "sqlite", "postgres", "nats", "redis"],
    ),
];

/// What a law found on one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    supported: bool,
    passed: bool,
    note: String,
}

impl Cell {
    fn text(&self, with_note: bool) -> String {
        let word = match (self.passed, self.supported) {
            (false, _) => "**broken**",
            (true, true) => "yes",
            (true, false) => "no",
        };
        match with_note && !self.note.is_empty() {
            true => format!("{word}: {}", self.note),
            false => word.to_owned(),
        }
    }
}

/// The laws of a port in their order, and what each engine says.
type Table = Vec<(String, BTreeMap<&'static str, Cell>)>;

/// `cargo xtask engines`.
pub(crate) fn command(workspace: &Workspace, args: &[String]) -> Result<()> {
    if let Some(extra) = args.first() {
        return Err(Error::Usage(format!("engines: unknown argument `{extra}`")));
    }
    let tables = tables(&workspace.target.join("dpat-conformance"))?.map_err(Error::Failed)?;
    let path = workspace.root.join(PAGE);
    let page = read(&path)?;
    let new = with_tables(&page, &tables)?;
    fs::write(&path, new).map_err(|error| Error::io(&path, &error))?;
    println!("{PAGE}");
    Ok(())
}

/// The step of `ci`: the page has what the tests have just found.
pub(crate) fn step(workspace: &Workspace, log: &Log) -> Result<Outcome> {
    let tables = match tables(&workspace.target.join("dpat-conformance"))? {
        Ok(tables) => tables,
        Err(missing) => return Ok(Outcome::Skipped(missing)),
    };
    let page = read(&workspace.root.join(PAGE))?;
    let new = with_tables(&page, &tables)?;
    if page == new {
        return Ok(Outcome::Ok(None));
    }
    let differ = |(old, new): &(&str, &str)| old != new;
    let first = page.lines().zip(new.lines()).find(differ);
    if let Some((old, new)) = first {
        log.line(&format!("- {old}\n+ {new}"))?;
    }
    Ok(Outcome::Failed(format!(
        "{PAGE} is not what the tests have found: `cargo xtask engines` writes it"
    )))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

/// Puts the tables between the two marks of the page.
fn with_tables(page: &str, tables: &str) -> Result<String> {
    let marks = || {
        Error::Input(format!(
            "{PAGE}: the marks `{}` and its end are not there",
            BEGIN.trim_end()
        ))
    };
    let (before, rest) = page.split_once(BEGIN).ok_or_else(marks)?;
    let (_, after) = rest.split_once(END).ok_or_else(marks)?;
    Ok(format!("{before}{BEGIN}{tables}{END}{after}"))
}

/// All tables; or which file is missing.
fn tables(folder: &Path) -> Result<std::result::Result<String, String>> {
    let mut text = String::new();
    for (port, title, engines) in PORTS {
        let mut table = Table::new();
        for engine in engines {
            let name = format!("{engine}.{port}.json");
            let path = folder.join(&name);
            if !path.is_file() {
                let how = "cargo xtask services run -- cargo xtask ci --step tests";
                return Ok(Err(format!("{name} is not in {}: {how}", folder.display())));
            }
            add(&mut table, engine, &read(&path)?)
                .map_err(|why| Error::Input(format!("{}: {why}", path.display())))?;
        }
        render(&mut text, title, engines, &table);
    }
    Ok(Ok(text))
}

/// Adds what one engine says.
fn add(table: &mut Table, engine: &'static str, json: &str) -> std::result::Result<(), String> {
    let rows: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for row in rows.as_array().ok_or("not a list")? {
        let field = |name: &str| {
            row[name]
                .as_str()
                .ok_or_else(|| format!("{name}: not a text"))
        };
        let cell = Cell {
            supported: field("declared")? == "supported",
            passed: field("observed")? == "pass",
            note: field("note")?.to_owned(),
        };
        let law = field("law")?;
        match table.iter_mut().find(|(name, _)| name == law) {
            Some((_, cells)) => drop(cells.insert(engine, cell)),
            None => table.push((law.to_owned(), BTreeMap::from([(engine, cell)]))),
        }
    }
    Ok(())
}

fn render(text: &mut String, title: &str, engines: &[&str], table: &Table) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n## {title}\n");
    let _ = writeln!(text, "| law | {} |", engines.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(engines.len()));
    for (law, cells) in table {
        let notes: Vec<&str> = cells.values().map(|cell| cell.note.as_str()).collect();
        let one = notes
            .first()
            .filter(|first| notes.iter().all(|note| note == *first));
        let mut line = law.replace('_', " ");
        if let Some(note) = one.filter(|note| !note.is_empty()) {
            let _ = write!(line, " ({note})");
        }
        for engine in engines {
            let cell = cells.get(engine).map(|cell| cell.text(one.is_none()));
            let _ = write!(line, " | {}", cell.as_deref().unwrap_or("–"));
        }
        let _ = writeln!(text, "| {line} |");
    }
    let _ = writeln!(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_in_the_cells() {
        let mut table = Table::new();
        let row = |law, declared, observed, note| {
            format!(
                r#"{{"law": "{law}", "declared": "{declared}", "observed": "{observed}", "note": "{note}"}}"#
            )
        };
        let one = [
            row("a_law", "supported", "pass", "delay"),
            row("how_far", "supported", "pass", "to here"),
        ];
        let two = [
            row("a_law", "gap", "pass", "delay"),
            row("how_far", "supported", "fail", "to there"),
            row("another", "supported", "pass", ""),
        ];
        add(&mut table, "one", &format!("[{}]", one.join(","))).unwrap();
        add(&mut table, "two", &format!("[{}]", two.join(","))).unwrap();
        let mut text = String::new();
        render(&mut text, "Title", &["one", "two"], &table);
        let expected = "
## Title

| law | one | two |
|---|---|---|
| a law (delay) | yes | no |
| how far | yes: to here | **broken**: to there |
| another | – | yes |

";
        assert_eq!(text, expected);
        for bad in ["{}", "[{}]", "["] {
            add(&mut table, "one", bad).unwrap_err();
        }
    }

    #[test]
    fn tables_stand_between_their_marks() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let new = with_tables(&page, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(matches!(with_tables("no marks", ""), Err(Error::Input(_))));
    }
}
