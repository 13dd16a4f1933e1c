//! `cargo xtask bench`: builds `benches/`, runs it, checks its report and prints the table.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process::{self, cargo};
use crate::workspace::{self, Workspace};

/// The name of the benches that need servers. They are a workspace of their own, and run only by it.
const ENGINES: &str = "engines";

/// Runs the benches of `names`, all but [`ENGINES`] when there are none; `--quick` takes fewer samples.
pub(crate) fn command(workspace: &Workspace, args: &[String]) -> Result<()> {
    if let Some(flag) = args
        .iter()
        .find(|arg| arg.starts_with('-') && *arg != "--quick")
    {
        return Err(Error::Usage(format!("bench: unknown argument `{flag}`")));
    }
    let mut names = args.iter().filter(|arg| !arg.starts_with('-'));
    let first = names.next();
    if first.is_some_and(|name| name == ENGINES) {
        let args: Vec<String> = args.iter().filter(|arg| *arg != ENGINES).cloned().collect();
        let table = "docs/src/benchmarks-engines.md";
        return run(workspace, "benches/engines", "engines.json", table, &args);
    }
    let table = "docs/src/benchmarks.md";
    run(workspace, "benches", "report.json", table, args)
}

/// Builds and runs the program of `folder`, checks its report, and prints the table.
fn run(
    workspace: &Workspace,
    folder: &str,
    report: &str,
    table_page: &str,
    args: &[String],
) -> Result<()> {
    let manifest = workspace.root.join(folder).join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::Failed(format!(
            "{folder}/Cargo.toml does not exist yet"
        )));
    }
    let reports = workspace.target.join("dpat-bench");
    std::fs::create_dir_all(&reports).map_err(|error| Error::io(&reports, &error))?;
    let report = reports.join(report);
    let mut names = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    let simulates =
        folder == "benches" && (names.peek().is_none() || names.any(|name| name == "sim"));
    let mut runner = cargo(
        workspace,
        &["run", "--quiet", "--locked", "--release", "--manifest-path"],
    );
    runner.arg(&manifest).arg("--").args(args);
    if simulates {
        runner.env("DPAT_BENCH_MADSIM", madsim(workspace)?);
    }
    runner.arg("--report").arg(&report);
    runner.arg("--table").arg(table_page);
    runner.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let status = runner.status().map_err(|error| {
        Error::Internal(format!("cannot start {}: {error}", process::shown(&runner)))
    })?;
    match status.code() {
        Some(0) => {}
        // The runner's own usage error is ours: the names are checked there.
        Some(64) => {
            return Err(Error::Usage(
                "bench: the runner does not know a name".to_owned(),
            ));
        }
        _ => return Err(Error::Failed("the bench runner failed".to_owned())),
    }
    let text = workspace::read(&report)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Failed(format!("{}: {error}", report.display())))?;
    let rows = rows(&json).ok_or_else(|| Error::Failed("the report has no rows".to_owned()))?;
    for (index, row) in rows.iter().enumerate() {
        if let Some(reason) = objection(row) {
            return Err(Error::Failed(format!(
                "{}: row {index}: {reason}",
                report.display()
            )));
        }
    }
    print!("{}", table(rows));
    println!("{} rows in {}", rows.len(), report.display());
    Ok(())
}

/// Builds madsim's side of the simulator benches and returns its program.
///
/// It is built in its own folder, whose configuration sets the cfg that madsim wants in the whole build.
fn madsim(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.root.join("benches/madsim");
    let mut build = cargo(workspace, &["build", "--quiet", "--locked", "--release"]);
    build.current_dir(&folder).env_remove("RUSTFLAGS");
    // Its program is looked for in its own folder.
    build.env_remove("CARGO_TARGET_DIR");
    build.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let status = build.status().map_err(|error| {
        Error::Internal(format!("cannot start {}: {error}", process::shown(&build)))
    })?;
    if !status.success() {
        return Err(Error::Failed("benches/madsim does not build".to_owned()));
    }
    Ok(folder.join("target/release/dpat-bench-madsim"))
}

/// The rows stand alone or in an object beside facts about the machine.
fn rows(json: &Value) -> Option<&Vec<Value>> {
    json.as_array()
        .or_else(|| json["rows"].as_array())
        .filter(|rows| !rows.is_empty())
}

/// Why a row is not what the contract promises.
fn objection(row: &Value) -> Option<String> {
    let wrong = |field: &str, want: &str| Some(format!("{field}: not {want}"));
    for field in [
        "pattern",
        "operation",
        "peer",
        "peer_version",
        "work",
        "cpu",
    ] {
        if row[field].as_str().is_none_or(str::is_empty) {
            return wrong(field, "a text");
        }
    }
    if !matches!(row["unit"].as_str(), Some("ns_per_op" | "bytes")) {
        return wrong("unit", "`ns_per_op` or `bytes`");
    }
    if !row["params"].is_object() {
        return wrong("params", "an object");
    }
    for field in ["threads", "in_flight"] {
        if row[field].as_u64().is_none() {
            return wrong(field, "a whole number");
        }
    }
    for field in ["ours_ns", "peer_ns", "ratio"] {
        if row[field].as_f64().is_none_or(|number| number < 0.0) {
            return wrong(field, "a number of at least zero");
        }
    }
    for field in ["ours_p99_ns", "peer_p99_ns", "fdatasync_per_s"] {
        if !row
            .get(field)
            .is_some_and(|value| value.is_null() || value.is_number())
        {
            return wrong(field, "a number or null");
        }
    }
    let number = |field: &str| row[field].as_f64().unwrap_or_default();
    let ratio = number("ours_ns") / number("peer_ns");
    // The report may round to two digits.
    if number("peer_ns") > 0.0 && (ratio - number("ratio")).abs() > 0.006_f64.max(ratio * 0.01) {
        return wrong("ratio", "ours / peer");
    }
    None
}

fn table(rows: &[Value]) -> String {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or_default();
    let mut lines = vec![[
        "operation".to_owned(),
        "threads".to_owned(),
        "ours".to_owned(),
        "peer".to_owned(),
        "ratio".to_owned(),
        "against".to_owned(),
    ]];
    for row in rows {
        let digits = |value: f64| {
            if value < 100.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            }
        };
        lines.push([
            format!("{}/{}", text(row, "pattern"), text(row, "operation")),
            row["threads"].to_string(),
            digits(number(row, "ours_ns")),
            digits(number(row, "peer_ns")),
            format!("{:.2}", number(row, "ratio")),
            format!("{} {}", text(row, "peer"), text(row, "peer_version")),
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut out = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let padded = match column {
                0 => format!("{cell:width$}", width = widths[column]),
                5 => format!("  {cell}"),
                _ => format!("  {cell:>width$}", width = widths[column]),
            };
            out.push_str(&padded);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Value {
        json!({
            "pattern": "breaker", "operation": "try_acquire", "params": {}, "unit": "ns_per_op",
            "threads": 1, "in_flight": 1, "ours_ns": 12.0, "ours_p99_ns": null,
            "peer": "failsafe", "peer_version": "1.3.0", "peer_ns": 24.0, "peer_p99_ns": 30,
            "ratio": 0.5, "work": "closed, one thread", "cpu": "any", "fdatasync_per_s": null,
        })
    }

    #[test]
    fn a_row_of_the_contract_is_accepted() {
        assert_eq!(objection(&row()), None);
    }

    #[test]
    fn every_field_of_the_contract_is_looked_at() {
        for (field, bad) in [
            ("pattern", json!("")),
            ("operation", json!(1)),
            ("params", json!([])),
            ("unit", json!("ms")),
            ("threads", json!("one")),
            ("in_flight", Value::Null),
            ("ours_ns", json!(-1)),
            ("ours_p99_ns", json!("12")),
            ("peer", Value::Null),
            ("peer_version", json!("")),
            ("peer_ns", Value::Null),
            ("peer_p99_ns", json!(true)),
            ("ratio", json!(0.6)),
            ("work", json!("")),
            ("cpu", Value::Null),
            ("fdatasync_per_s", json!("5000")),
        ] {
            let mut changed = row();
            changed[field] = bad;
            let found = objection(&changed);
            assert!(
                found.as_deref().is_some_and(|text| text.starts_with(field)),
                "{field}: {found:?}"
            );
            let mut without = row();
            without.as_object_mut().expect("an object").remove(field);
            assert!(objection(&without).is_some(), "{field} is missing");
        }
    }

    #[test]
    fn rows_may_stand_in_an_object_but_not_be_absent() {
        assert_eq!(rows(&json!([row()])).map(Vec::len), Some(1));
        assert_eq!(rows(&json!({"rows": [row()]})).map(Vec::len), Some(1));
        assert!(rows(&json!({"rows": []})).is_none());
    }

    #[test]
    fn the_table_names_both_sides() {
        let table = table(&[row()]);
        assert!(
            table.contains("breaker/try_acquire") && table.contains("failsafe 1.3.0"),
            "{table}"
        );
        assert!(table.contains("0.50"), "{table}");
    }
}
