//! What commands print: JSON of fixed form, lines to paste into a shell, and the coverage table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::simulation::full_name;
use crate::{BatchReport, Coverage, Failed, Families, Family, Outcome, Registry, Violation};

/// A trace hash as 16 hexadecimal digits.
#[must_use]
pub fn hex(trace_hash: u64) -> String {
    format!("{trace_hash:016x}")
}

fn json(form: &impl Serialize) -> String {
    serde_json::to_string(form).expect("strings, numbers and lists are JSON")
}

#[derive(Serialize)]
struct BatchForm<'a> {
    protocol: &'a str,
    seeds: u64,
    events: u64,
    delivered: u64,
    trace_hash: String,
    violations: Vec<FailedForm<'a>>,
    vacuous: &'a [String],
    elapsed_ms: u64,
}

#[derive(Serialize)]
struct FailedForm<'a> {
    seed: u64,
    property: &'a str,
    at_event: u64,
    trace_hash: String,
    message: &'a str,
}

#[derive(Serialize)]
struct ReplayForm<'a> {
    protocol: &'a str,
    seed: u64,
    trace_hash: String,
    violation: Option<&'a Violation>,
}

#[derive(Serialize)]
struct ListForm {
    protocol: &'static str,
    nodes_default: u32,
    properties: &'static [&'static str],
    mutants: Vec<MutantForm>,
}

#[derive(Serialize)]
struct MutantForm {
    name: &'static str,
    seeds_max: u64,
}

impl BatchReport {
    /// Returns the line of `dpat sim --json`: `{protocol, seeds, events, delivered, trace_hash, violations: [{seed,
    /// property, at_event, trace_hash, message}], vacuous: [], elapsed_ms}`. `seeds` is how many.
    #[must_use]
    pub fn to_json(&self, elapsed_ms: u64) -> String {
        let failed = self.violations.iter().map(|failed| FailedForm {
            seed: failed.seed,
            property: &failed.violation.property,
            at_event: failed.violation.at_event,
            trace_hash: hex(failed.trace_hash),
            message: &failed.violation.message,
        });
        json(&BatchForm {
            protocol: &self.protocol,
            seeds: self.seeds.end.saturating_sub(self.seeds.start),
            events: self.events,
            delivered: self.delivered,
            trace_hash: hex(self.trace_hash),
            violations: failed.collect(),
            vacuous: &self.vacuous,
            elapsed_ms,
        })
    }

    /// Returns what a person reads: the sums, the first violations with their replay commands, and what is vacuous.
    ///
    /// `nodes` and `script` are the number and the file that were asked for, if they were.
    #[must_use]
    pub fn to_text(&self, nodes: Option<u32>, script: Option<&str>) -> String {
        const SHOWN: usize = 10;
        let (seeds, failed) = (&self.seeds, self.failed);
        let mut text = format!(
            "{} seeds {}..{}: {} events, {} delivered, trace {}, {failed} failed\n",
            self.protocol,
            seeds.start,
            seeds.end,
            self.events,
            self.delivered,
            hex(self.trace_hash),
        );
        for Failed {
            seed, violation, ..
        } in self.violations.iter().take(SHOWN)
        {
            let Violation {
                property,
                at_event,
                message,
            } = violation;
            let replay = replay_line(&self.protocol, *seed, nodes, script);
            line(
                &mut text,
                format_args!("seed {seed}: {property} at event {at_event}: {message}\n  {replay}"),
            );
        }
        let shown = self.violations.len().min(SHOWN) as u64;
        if failed > shown {
            line(&mut text, format_args!("and {} more", failed - shown));
        }
        for reason in &self.vacuous {
            line(&mut text, format_args!("vacuous: {reason}"));
        }
        text
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing to a string cannot fail");
}

/// Returns the last line of `dpat replay`: `{protocol, seed, trace_hash, violation: {property, at_event, message} |
/// null}`.
#[must_use]
pub fn replay_json(protocol: &str, mutant: Option<&str>, outcome: &Outcome) -> String {
    json(&ReplayForm {
        protocol: &full_name(protocol, mutant),
        seed: outcome.seed,
        trace_hash: hex(outcome.trace_hash),
        violation: outcome.violation.as_ref(),
    })
}

/// Returns the command that repeats a run; `protocol` is a name, with `@MUTANT` for a mutant, and `script` a file.
#[must_use]
pub fn replay_line(protocol: &str, seed: u64, nodes: Option<u32>, script: Option<&str>) -> String {
    let nodes = nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    let script = script.map_or_else(String::new, |file| format!(" --script {file}"));
    format!("dpat replay {protocol} {seed}{nodes}{script}")
}

impl Registry {
    /// Returns the output of `dpat sim --list --json`: `[{protocol, nodes_default, properties: [], mutants: [{name,
    /// seeds_max}]}]`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let form = self.iter().map(|sim| {
            let info = sim.info();
            let mutants = info.mutants.iter().map(|mutant| MutantForm {
                name: mutant.name,
                seeds_max: mutant.seeds_max,
            });
            ListForm {
                protocol: info.name,
                nodes_default: info.nodes_default,
                properties: info.properties,
                mutants: mutants.collect(),
            }
        });
        json(&form.collect::<Vec<_>>())
    }
}

/// Returns the table of what was reached: a row for each kind of message in each phase of its receiver, a column for
/// no fault and for each family. What was not reached is a hole, shown as `-`, and listed below.
///
/// `families` are the columns, such as those that the scripts had: nobody expects the others.
#[must_use]
pub fn coverage_table(coverage: &Coverage, families: Families) -> String {
    let columns: Vec<Option<Family>> = std::iter::once(None)
        .chain(families.iter().map(Some))
        .collect();
    let title = |column: &Option<Family>| column.map_or("no fault", Family::name);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let head = ["kind", "phase"].into_iter().map(str::to_owned);
    rows.push(
        head.chain(columns.iter().map(|column| title(column).to_owned()))
            .collect(),
    );
    let mut holes = Vec::new();
    for kind in coverage.kinds() {
        for phase in coverage.phases() {
            let mut row = vec![(*kind).to_owned(), (*phase).to_owned()];
            for column in &columns {
                let count = coverage.count(kind, phase, *column);
                if count == 0 {
                    holes.push(format!("{kind} in {phase} under {}", title(column)));
                }
                row.push(match count {
                    0 => "-".to_owned(),
                    count => count.to_string(),
                });
            }
            rows.push(row);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len() + 2).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        line(&mut text, format_args!("{}", cells.join("  ").trim_end()));
    }
    let of = rows.len().saturating_sub(1) * columns.len();
    line(&mut text, format_args!("holes: {} of {of}", holes.len()));
    for hole in holes {
        line(&mut text, format_args!("  {hole}"));
    }
    for (title, counts) in [
        ("faults that struck", coverage.faults()),
        ("happened sometimes", coverage.sometimes()),
    ] {
        let counts: Vec<String> = counts
            .iter()
            .map(|(name, times)| format!("{name} {times}"))
            .collect();
        let counts = if counts.is_empty() {
            "none".to_owned()
        } else {
            counts.join(", ")
        };
        line(&mut text, format_args!("{title}: {counts}"));
    }
    line(
        &mut text,
        format_args!("operations compared: {}", coverage.compared()),
    );
    text
}
