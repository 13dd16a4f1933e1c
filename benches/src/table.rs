//! The report for people: a page of Markdown, one section a pattern.
//!
//! A run may measure some patterns only; the sections of the others are kept as they stand in the page.

use crate::harness::{Unit, params_text};
use crate::report::Row;
use crate::stats::{EQUAL_UP_TO, Verdict};
use std::fmt::Write as _;

const COLUMNS: &str = "| operation | parameters | threads | unit | ours | peer | peer's | ratio | |\n|---|---|---:|---|---:|---|---:|---:|---|\n";

/// What a section says above its table.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'a> {
    /// The pattern.
    pub pattern: &'a str,
    /// `quick` or `full`.
    pub plan: &'a str,
    /// Rounds per contender.
    pub rounds: usize,
    /// The machine.
    pub cpu: &'a str,
    /// The compiler.
    pub rustc: &'a str,
    /// What a reader must know about the contenders.
    pub notes: &'a str,
}

/// Returns the section of one pattern.
#[must_use]
pub fn section(heading: &Heading<'_>, rows: &[Row]) -> String {
    let mut text = marker(heading.pattern);
    let Heading {
        pattern,
        plan,
        rounds,
        cpu,
        rustc,
        notes,
    } = heading;
    let _ = writeln!(
        text,
        "\n## {pattern}\n\n{cpu}; {rustc}; {plan} run, median of {rounds} interleaved rounds (of fewer, at least five, \
         where one call fills many).\n"
    );
    text.push_str(COLUMNS);
    for row in rows {
        text.push_str(&line(row));
    }
    text.push_str("\nWhat both sides do:\n\n");
    let mut last = "";
    for row in rows {
        let work = row.work;
        if work != last {
            let _ = writeln!(text, "- *{}*: {work}", row.operation);
            last = work;
        }
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.trim());
    }
    text
}

fn marker(pattern: &str) -> String {
    format!("<!-- section: {pattern} -->\n")
}

/// Returns a line of the table; the same columns everywhere, so that a loss can be quoted above.
fn line(row: &Row) -> String {
    let unit = match row.unit {
        Unit::NsPerOp => "ns",
        Unit::Bytes => "bytes",
    };
    format!(
        "| {} {} | {} | {} | {unit} | {} | {} {} | {} | {} | {} |\n",
        row.pattern,
        row.operation,
        params_text(&row.params),
        row.threads,
        number(row.unit, row.ours, row.ours_p99),
        row.peer,
        row.peer_version,
        number(row.unit, row.theirs, row.theirs_p99),
        ratio(row.ratio),
        Verdict::of(row.ratio).word(),
    )
}

fn ratio(ratio: f64) -> String {
    // Three digits, so that 1.051 is not told as 1.05, which would be equal.
    if ratio > 0.0 && ratio < 0.001 {
        "< 0.001".to_owned()
    } else {
        format!("{ratio:.3}")
    }
}

fn number(unit: Unit, median: f64, p99: Option<f64>) -> String {
    let digits = usize::from(unit == Unit::NsPerOp && median < 1_000.0);
    match p99 {
        Some(p99) => format!("{median:.digits$} (p99 {p99:.0})"),
        None => format!("{median:.digits$}"),
    }
}

/// Returns the page: the new sections in place of the old ones of `previous`, in the order of `patterns`.
#[must_use]
pub fn page(previous: &str, patterns: &[&str], sections: &[(&str, String)]) -> String {
    let kept: Vec<String> = patterns
        .iter()
        .filter_map(|pattern| {
            sections
                .iter()
                .find(|(name, _)| name == pattern)
                .map(|(_, text)| text.clone())
                .or_else(|| old_section(previous, pattern))
        })
        .collect();
    let lost = Verdict::Loses.word();
    let losses: String = kept
        .iter()
        .flat_map(|section| section.lines())
        .filter(|line| line.starts_with("| ") && line.ends_with(&format!("| {lost} |")))
        .fold(String::new(), |text, line| text + line + "\n");
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; edits by hand are lost. Every contender of a line ran in the same process, in \
         turns, built by the same release profile; versions are those of `benches/Cargo.lock`. *ratio* is ours / \
         peer's: below 1 ours needs less, and up to {EQUAL_UP_TO} counts as equal. Times are wall time per operation \
         over all threads; a 99th percentile is given where one operation is long enough to be timed alone. Bytes are \
         heap bytes asked for by one operation. The numbers hold for the machine named in the section; compare \
         ratios, not nanoseconds.\n\n## Where we lose\n\n"
    );
    if losses.is_empty() {
        text.push_str("Nowhere in the runs below.\n");
    } else {
        text.push_str(COLUMNS);
        text.push_str(&losses);
    }
    for section in kept {
        text.push('\n');
        text.push_str(&section);
    }
    text
}

fn old_section(page: &str, pattern: &str) -> Option<String> {
    let marker = marker(pattern);
    let start = page.find(&marker)?;
    let rest = &page[start + marker.len()..];
    let end = rest.find("<!-- section: ").unwrap_or(rest.len());
    Some(marker + rest[..end].trim_end() + "\n")
}

/// Returns the rows as a table for the terminal.
#[must_use]
pub fn terminal(rows: &[Row]) -> String {
    let head = [
        "operation",
        "parameters",
        "thr",
        "unit",
        "ours",
        "peer",
        "peer's",
        "ratio",
        "",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    for row in rows {
        let cells = line(row);
        let cells = cells.trim().trim_start_matches('|').trim_end_matches('|');
        lines.push(
            cells
                .split('|')
                .map(|cell| cell.trim().replace("**", ""))
                .collect(),
        );
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|cells| cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for cells in &lines {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::row;

    const HEADING: Heading<'_> = Heading {
        pattern: "ids",
        plan: "quick",
        rounds: 25,
        cpu: "CPU (x86_64, 2 cores)",
        rustc: "rustc 1.95.0",
        notes: "",
    };

    fn new_section(pattern: &'static str, ours: f64, theirs: f64) -> (&'static str, String) {
        let heading = Heading { pattern, ..HEADING };
        (pattern, section(&heading, &[row(pattern, ours, theirs)]))
    }

    #[test]
    fn losses_come_first_and_are_whole_lines() {
        let page = page(
            "",
            &["ids", "retry"],
            &[new_section("ids", 1.0, 2.0), new_section("retry", 3.0, 2.0)],
        );
        let head = &page[..page.find("<!-- section").expect("sections")];
        assert!(head.contains(
            "| retry admit | size=8 | 2 | ns | 3.0 | peer 1.2.3 | 2.0 (p99 99) | 1.500 | **loses** |"
        ));
        assert!(!head.contains("ids admit"));
        assert!(page.contains(
            "| ids admit | size=8 | 2 | ns | 1.0 | peer 1.2.3 | 2.0 (p99 99) | 0.500 | wins |"
        ));
        assert!(page.contains("CPU (x86_64, 2 cores); rustc 1.95.0; quick run"));
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_mean() {
        assert_eq!(number(Unit::NsPerOp, 8.449, None), "8.4");
        assert_eq!(number(Unit::NsPerOp, 1_103_566.6, None), "1103567");
        assert_eq!(
            number(Unit::NsPerOp, 318.25, Some(389.7)),
            "318.2 (p99 390)"
        );
        assert_eq!(number(Unit::Bytes, 242.4, None), "242");
        assert_eq!(ratio(0.000_1), "< 0.001");
        assert_eq!(ratio(0.0), "0.000");
        assert_eq!(ratio(1.051), "1.051");
    }

    #[test]
    fn a_page_without_losses_says_so() {
        let page = page("", &["ids"], &[new_section("ids", 1.0, 1.0)]);
        assert!(page.contains("Nowhere in the runs below."));
    }

    #[test]
    fn a_part_run_keeps_the_other_sections() {
        let patterns = ["ids", "retry"];
        let first = page(
            "",
            &patterns,
            &[new_section("ids", 9.0, 2.0), new_section("retry", 1.0, 2.0)],
        );
        let second = page(&first, &patterns, &[new_section("ids", 1.0, 2.0)]);
        assert!(second.contains("retry admit"));
        assert!(second.contains("Nowhere in the runs below."));
        assert_eq!(page(&second, &patterns, &[]), second);
    }

    #[test]
    fn the_terminal_table_has_a_line_a_row() {
        let text = terminal(&[row("ids", 1.0, 2.0), row("ids", 3.0, 2.0)]);
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.lines()
                .nth(2)
                .is_some_and(|line| line.ends_with("1.500  loses"))
        );
    }
}
