//! Transactions: Adya's anomalies, inferred as Elle does.

mod cycles;
mod list_append;
mod rw_register;

use crate::error::BadOperation;
use crate::graph::Graph;
use crate::hash::Map;
use crate::history::{History, Operation, Outcome};
use crate::limits::{Limits, Stopped};
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// What a transaction does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transactions {
    /// `txn [[append k v] [r k nil]]` → `[[append k v] [r k [v …]]]`; reads show the whole list.
    ListAppend,
    /// `txn [[w k v] [r k nil]]` → `[[w k v] [r k v]]`. Nil at the beginning.
    RwRegister,
}

/// What must not happen between transactions.
///
/// Adya 1999, "Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions",
/// § 3 and § 4; the others as in Kingsbury and Alvaro 2020, "Elle: Inferring Isolation Anomalies from Experimental
/// Observations".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A transaction does not see its own earlier writes and reads.
    Internal,
    /// A read of what no transaction wrote.
    ThinAir,
    /// A list holds an element twice.
    DuplicateElements,
    /// Two reads of a list, of which neither begins the other.
    IncompatibleOrder,
    /// Versions of a key that come before themselves.
    CyclicVersions,
    /// Aborted read.
    G1a,
    /// Intermediate read.
    G1b,
    /// Write cycle.
    G0,
    /// Circular information flow: a cycle of write and read dependencies.
    G1c,
    /// Single anti-dependency cycle, such as read skew or a lost update.
    GSingle,
    /// Anti-dependency cycle, such as write skew.
    G2,
}

impl Rule {
    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::ThinAir => "thin-air",
            Self::DuplicateElements => "duplicate-elements",
            Self::IncompatibleOrder => "incompatible-order",
            Self::CyclicVersions => "cyclic-versions",
            Self::G1a => "G1a",
            Self::G1b => "G1b",
            Self::G0 => "G0",
            Self::G1c => "G1c",
            Self::GSingle => "G-single",
            Self::G2 => "G2",
        }
    }
}

/// An anomaly between transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anomaly {
    /// What happened.
    pub rule: Rule,
    /// The transactions, by their place among the invocations; of a cycle in its order.
    pub transactions: Vec<usize>,
    /// The key, unless it is a cycle.
    pub key: Option<Value>,
}

/// Finds the anomalies of transactions, at most one cycle for each kind.
///
/// Only what must have happened counts, so that none of them is a false alarm: a transaction of unknown outcome counts
/// once somebody read from it. Real time is not looked at; a history without anomalies may still be serializable in
/// another order than that of the clients.
///
/// # Examples
/// ```
/// use dpat_check::{Format, Limits, Rule, Transactions, find_anomalies, parse};
///
/// let text = "\
/// {:process 0 :type :invoke :f :txn :value [[:append :x 1] [:r :y nil]]}
/// {:process 1 :type :invoke :f :txn :value [[:append :y 1] [:r :x nil]]}
/// {:process 0 :type :ok :f :txn :value [[:append :x 1] [:r :y []]]}
/// {:process 1 :type :ok :f :txn :value [[:append :y 1] [:r :x []]]}
/// ";
/// let history = parse(text.as_bytes(), "skew.edn", Format::Auto)?.history;
/// let found = find_anomalies(&history, Transactions::ListAppend, &Limits::default())?;
/// assert_eq!(found.anomalies[0].rule, Rule::G2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BadOperation`] if an operation is no such transaction, or two transactions write the same value to a key.
///
/// # Complexity
/// Linear in the elements read, but for [`Rule::GSingle`] and [`Rule::G2`]: there one search in the cycle's component
/// for each anti-dependency, until the first succeeds or the time is up.
pub fn find_anomalies(
    history: &History,
    transactions: Transactions,
    limits: &Limits<'_>,
) -> Result<Anomalies, BadOperation> {
    let mut inferred = Inferred {
        graph: Graph::new(history.operations().len()),
        anomalies: Vec::new(),
    };
    match transactions {
        Transactions::ListAppend => list_append::infer(history, &mut inferred)?,
        Transactions::RwRegister => rw_register::infer(history, &mut inferred)?,
    }
    let stopped = cycles::find(&mut inferred, &mut limits.meter()).err();
    inferred.anomalies.sort_by_key(|anomaly| anomaly.rule);
    Ok(Anomalies {
        anomalies: inferred.anomalies,
        stopped,
    })
}

/// Decides whether transactions are free of the anomalies that serializability excludes.
///
/// # Errors
/// As [`find_anomalies`].
pub fn check_transactions(
    history: &History,
    transactions: Transactions,
    limits: &Limits<'_>,
) -> Result<Verdict, BadOperation> {
    let found = find_anomalies(history, transactions, limits)?;
    let Some(first) = found.anomalies.into_iter().next() else {
        return Ok(found.stopped.map_or(Verdict::Ok, Verdict::Unknown));
    };
    let last = first.transactions.iter().copied().max();
    Ok(Verdict::violated(Violation {
        key: first.key,
        blocked: last.unwrap_or(0),
        with: first.transactions,
        rule: Some(first.rule.name()),
        ..Violation::default()
    }))
}

/// What was found between transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anomalies {
    /// The anomalies, by rule in the order of [`Rule`].
    pub anomalies: Vec<Anomaly>,
    /// Why there may be more: the search for cycles was stopped.
    pub stopped: Option<Stopped>,
}

/// What the reads say about the transactions.
struct Inferred {
    graph: Graph,
    anomalies: Vec<Anomaly>,
}

impl Inferred {
    fn found(&mut self, rule: Rule, transactions: Vec<usize>, key: &Value) {
        self.anomalies.push(Anomaly {
            rule,
            transactions,
            key: Some(key.clone()),
        });
    }
}

/// One part of a transaction; a read of unknown result is left out.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Write { key: &'a Value, value: &'a Value },
    Read { key: &'a Value, value: &'a Value },
}

/// Reads the parts of a transaction.
fn parts<'a>(
    index: usize,
    operation: &'a Operation,
    write: &str,
) -> Result<Vec<Part<'a>>, BadOperation> {
    if operation.f != "txn" {
        let reason = format!("`{}` is no txn", operation.f);
        return Err(operation.bad(index, "f", reason));
    }
    let happened = operation.result().is_some();
    let bad = || {
        let reason = format!("a txn has parts [{write} key value] and [r key value]");
        match happened {
            true => operation.bad_result(index, reason),
            false => operation.bad(index, "value", reason),
        }
    };
    let mut parts = Vec::new();
    for part in operation.final_value().list().ok_or_else(bad)? {
        let Some([f, key, value]) = part.list() else {
            return Err(bad());
        };
        match f.text() {
            Some(f) if f == write => parts.push(Part::Write { key, value }),
            Some("r") if happened => parts.push(Part::Read { key, value }),
            Some("r") => {}
            _ => return Err(bad()),
        }
    }
    Ok(parts)
}

/// Who wrote a value to a key.
#[derive(Clone, Copy, Debug)]
struct Writer {
    transaction: usize,
    /// The transaction wrote the key again.
    intermediate: bool,
    failed: bool,
}

/// The writers of each value of each key.
type Writers<'a> = Map<(&'a Value, &'a Value), Writer>;

/// Indexes the writes of a history.
fn writers<'a>(history: &'a History, all: &[Vec<Part<'a>>]) -> Result<Writers<'a>, BadOperation> {
    let mut writers = Writers::default();
    for (transaction, parts) in all.iter().enumerate() {
        let operation = &history.operations()[transaction];
        let mut last = Map::default();
        for part in parts {
            let Part::Write { key, value } = *part else {
                continue;
            };
            let writer = Writer {
                transaction,
                intermediate: false,
                failed: matches!(operation.outcome, Outcome::Fail(_)),
            };
            if writers.insert((key, value), writer).is_some() {
                let reason = format!("{value} is written to {key} twice");
                return Err(operation.bad(transaction, "value", reason));
            }
            if let Some(before) = last.insert(key, value) {
                if let Some(writer) = writers.get_mut(&(key, before)) {
                    writer.intermediate = true;
                }
            }
        }
    }
    Ok(writers)
}

/// `a` wrote what `b` overwrote.
const WW: u8 = 1;
/// `a` wrote what `b` read.
const WR: u8 = 2;
/// `a` read what `b` overwrote.
const RW: u8 = 4;
