//! A verdict in the form that scripts read.

use std::time::Duration;

use crate::format::Format;
use crate::history::History;
use crate::model::Model;
use crate::value::Value;
use crate::verdict::Verdict;

/// What `dpat check FILE --model M --json` prints; with feature `serde` it serialises to that object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The file as the caller named it.
    pub file: String,
    /// Its format.
    pub format: &'static str,
    /// The model.
    pub model: &'static str,
    /// `ok`, `violation` or `unknown`.
    pub verdict: &'static str,
    /// How many operations the history has.
    pub operations: usize,
    /// How long the check took.
    pub elapsed_ms: u64,
    /// Where the history breaks.
    pub violation: Option<Broken>,
}

/// Where a history breaks, told without the history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Broken {
    /// The key or element that it is about, if the history was cut by them.
    pub key: Option<Value>,
    /// The invocations, counted from 0, that can be placed, in a possible order.
    pub longest_prefix: Vec<usize>,
    /// The operation that cannot.
    pub blocked: Blocked,
    /// The broken rule, of models that have several.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub rule: Option<&'static str>,
    /// Other invocations that take part, of models that name them.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub with: Vec<usize>,
}

/// An operation, told without the history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocked {
    /// Its place among the invocations, counted from 0.
    pub index: usize,
    /// The line of its invocation, counted from 1.
    pub line: usize,
    /// The client.
    pub process: u64,
    /// The function.
    pub f: String,
    /// The result if it returned, otherwise the argument; of a key–value store without the key.
    pub value: Value,
}

impl Report {
    /// Tells a verdict about a history that was read from a file.
    #[must_use]
    pub fn new(
        file: &str,
        format: Format,
        model: Model,
        history: &History,
        verdict: &Verdict,
        elapsed: Duration,
    ) -> Self {
        let broken = verdict.violation().and_then(|violation| {
            let operation = history.operations().get(violation.blocked)?;
            let value = operation.final_value();
            let value = match value.list() {
                Some([_, value]) if model == Model::Kv => value,
                _ => value,
            };
            Some(Broken {
                key: violation.key.clone(),
                longest_prefix: violation.longest_prefix.clone(),
                blocked: Blocked {
                    index: violation.blocked,
                    line: operation.line,
                    process: operation.process,
                    f: operation.f.clone().into_owned(),
                    value: value.clone(),
                },
                rule: violation.rule,
                with: violation.with.clone(),
            })
        });
        Self {
            file: file.to_owned(),
            format: format.name(),
            model: model.name(),
            verdict: verdict.name(),
            operations: history.operations().len(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            violation: broken,
        }
    }
}
