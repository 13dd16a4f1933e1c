//! What a measurement is made of: cases, contenders, and the loops that time them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::versions;

const LOCK: &str = include_str!("../Cargo.lock");
const ROOT: &str = "dpat-bench-engines";

/// What the numbers of a case count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Wall time divided by the operations.
    NsPerOp,
    /// Heap bytes, which nothing here counts; the report has the word.
    Bytes,
}

impl Unit {
    /// Returns the word of the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NsPerOp => "ns_per_op",
            Self::Bytes => "bytes",
        }
    }
}

/// Returns parameters as `a=1, b=2`.
#[must_use]
pub fn params_text(params: &Map<String, Value>) -> String {
    let texts: Vec<String> = params
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    texts.join(", ")
}

/// What a round took.
#[derive(Debug, Default)]
pub struct Timed {
    /// The wall time of all operations together.
    pub elapsed: Duration,
    /// Each operation, in nanoseconds; empty where single ones mean nothing.
    pub each: Vec<f64>,
}

/// A future of a contender.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Does so many operations.
pub type Round = Box<dyn Fn(u64) -> Boxed<Timed> + Send + Sync>;

/// One side of a comparison.
pub struct Contender {
    /// The crate, with the variant after `@` where there are several.
    pub name: String,
    /// Its locked version.
    pub version: String,
    round: Round,
}

impl Contender {
    /// Takes the version of the crate that `name` names, up to an `@`.
    pub fn new<F>(name: &str, round: impl Fn(u64) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Timed> + Send + 'static,
    {
        let package = name.split('@').next().unwrap_or(name);
        Self {
            name: name.to_owned(),
            version: versions::in_lock(LOCK, ROOT, package),
            round: Box::new(move |count| Box::pin(round(count))),
        }
    }

    /// `in_flight` tasks that do `op` again and again; then, outside of the time, `reset`.
    pub fn tasks<F, R>(
        name: &str,
        in_flight: usize,
        op: impl Fn() -> F + Send + Sync + 'static,
        reset: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (op, reset) = (Arc::new(op), Arc::new(reset));
        Self::new(name, move |count| {
            let (op, reset) = (Arc::clone(&op), Arc::clone(&reset));
            async move {
                let timed = tasks(count, in_flight, op).await;
                reset().await;
                timed
            }
        })
    }

    /// Does so many operations.
    pub fn round(&self, count: u64) -> Boxed<Timed> {
        (self.round)(count)
    }
}

/// Nothing to do after a round.
pub async fn nothing() {}

/// Does `count` operations, `in_flight` at a time: each task does the next when it has done one.
async fn tasks<O, F>(count: u64, in_flight: usize, op: Arc<O>) -> Timed
where
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (begun, op) = (Arc::clone(&begun), Arc::clone(&op));
            tokio::spawn(async move {
                let mut each = Vec::new();
                while begun.fetch_add(1, Ordering::Relaxed) < count {
                    let start = Instant::now();
                    op().await;
                    each.push(nanos(start.elapsed()));
                }
                each
            })
        })
        .collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await.expect("a task that does not panic"));
    }
    Timed {
        elapsed: start.elapsed(),
        each,
    }
}

/// Returns nanoseconds as a number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one round")]
pub fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// One operation that ours and its peers do.
pub struct Case {
    /// The section.
    pub pattern: &'static str,
    /// What is done.
    pub operation: &'static str,
    /// The engine, with the server's version.
    pub engine: String,
    /// Operations under way at once.
    pub in_flight: usize,
    /// The fewest operations that make a round.
    pub least: u64,
    /// What both sides do, and where they differ.
    pub work: &'static str,
    /// The dpat side.
    pub ours: Contender,
    /// Whom it is compared with.
    pub peers: Vec<Contender>,
}

impl Case {
    /// Returns all contenders, ours first.
    pub fn contenders(&self) -> impl Iterator<Item = &Contender> {
        std::iter::once(&self.ours).chain(&self.peers)
    }

    /// Returns the parameters of the report.
    #[must_use]
    pub fn params(&self) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert("engine".to_owned(), self.engine.clone().into());
        params.insert("in_flight".to_owned(), self.in_flight.into());
        params.insert("ours".to_owned(), self.ours.name.clone().into());
        params.insert("payload".to_owned(), crate::cases::PAYLOAD.into());
        params
    }
}
