//! The report for programs.

use crate::harness::Unit;
use serde_json::{Map, Value, json};

/// Ours against one peer in one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `ids`, `clocks`, `breaker` or `retry`.
    pub pattern: &'static str,
    /// What was done.
    pub operation: &'static str,
    /// What was varied.
    pub params: Map<String, Value>,
    /// What the numbers count.
    pub unit: Unit,
    /// Threads that shared one instance.
    pub threads: usize,
    /// Operations under way at once.
    pub in_flight: usize,
    /// Our median, per operation.
    pub ours: f64,
    /// Our 99th percentile of single operations.
    pub ours_p99: Option<f64>,
    /// The peer's crate.
    pub peer: String,
    /// Its locked version.
    pub peer_version: String,
    /// The peer's median, per operation.
    pub theirs: f64,
    /// The peer's 99th percentile of single operations.
    pub theirs_p99: Option<f64>,
    /// Ours / peer.
    pub ratio: f64,
    /// What both sides did, and where they differ.
    pub work: &'static str,
    /// The machine.
    pub cpu: String,
    /// Bare syncs a second in the same case, where the work syncs.
    pub fdatasync_per_s: Option<f64>,
}

impl Row {
    /// Returns the row as an object of the report.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "pattern": self.pattern,
            "operation": self.operation,
            "params": self.params,
            "unit": self.unit.word(),
            "threads": self.threads,
            "in_flight": self.in_flight,
            "ours_ns": rounded(self.ours),
            "ours_p99_ns": self.ours_p99.map(rounded),
            "peer": self.peer,
            "peer_version": self.peer_version,
            "peer_ns": rounded(self.theirs),
            "peer_p99_ns": self.theirs_p99.map(rounded),
            "ratio": (self.ratio * 1e4).round() / 1e4,
            "work": self.work,
            "cpu": self.cpu,
            "fdatasync_per_s": self.fdatasync_per_s.map(f64::round),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Returns the whole report: an array of rows.
#[must_use]
pub fn to_json(rows: &[Row]) -> Value {
    rows.iter().map(Row::to_json).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(pattern: &'static str, ours: f64, theirs: f64) -> Row {
        Row {
            pattern,
            operation: "admit",
            params: Map::from_iter([("size".to_owned(), Value::from(8))]),
            unit: Unit::NsPerOp,
            threads: 2,
            in_flight: 2,
            ours,
            ours_p99: None,
            peer: "peer".to_owned(),
            peer_version: "1.2.3".to_owned(),
            theirs,
            theirs_p99: Some(99.0),
            ratio: ours / theirs,
            work: "the same on both sides",
            cpu: "CPU (x86_64, 2 cores)".to_owned(),
            fdatasync_per_s: None,
        }
    }

    #[test]
    fn a_row_has_exactly_the_promised_fields() {
        let value = row("breaker", 10.000_49, 20.0).to_json();
        let mut fields: Vec<&str> = value
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "cpu",
                "fdatasync_per_s",
                "in_flight",
                "operation",
                "ours_ns",
                "ours_p99_ns",
                "params",
                "pattern",
                "peer",
                "peer_ns",
                "peer_p99_ns",
                "peer_version",
                "ratio",
                "threads",
                "unit",
                "work"
            ]
        );
        assert_eq!(value["ours_ns"], 10.0);
        assert_eq!(value["ours_p99_ns"], Value::Null);
        assert_eq!(value["peer_p99_ns"], 99.0);
        assert_eq!(value["ratio"], 0.5);
        assert_eq!(value["unit"], "ns_per_op");
        assert_eq!(value["fdatasync_per_s"], Value::Null);
    }

    #[test]
    fn the_report_is_an_array_of_rows() {
        let report = to_json(&[row("ids", 1.0, 2.0), row("retry", 1.0, 2.0)]);
        assert_eq!(report.as_array().map(Vec::len), Some(2));
        assert_eq!(report[1]["pattern"], "retry");
    }
}
