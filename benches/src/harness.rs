//! What a measurement is made of: cases, contenders, and the loops that time them.

use serde_json::{Map, Value};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What the numbers of a case count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Wall time divided by the operations of all threads.
    NsPerOp,
    /// Heap bytes allocated by one operation.
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

/// One operation that ours and its peers do.
pub struct Case {
    /// `ids`, `clocks`, `breaker` or `retry`.
    pub pattern: &'static str,
    /// What is done.
    pub operation: &'static str,
    /// What is varied.
    pub params: Map<String, Value>,
    /// What is counted.
    pub unit: Unit,
    /// Threads that share one instance.
    pub threads: usize,
    /// Operations under way at once.
    pub in_flight: usize,
    /// What both sides do, and where they differ.
    pub work: &'static str,
    /// The dpat side.
    pub ours: Contender,
    /// Whom it is compared with.
    pub peers: Vec<Contender>,
}

impl Case {
    /// Starts a case of one thread and one operation in flight.
    #[must_use]
    pub fn new(
        pattern: &'static str,
        operation: &'static str,
        work: &'static str,
        ours: Contender,
        peers: Vec<Contender>,
    ) -> Self {
        Self {
            pattern,
            operation,
            params: Map::new(),
            unit: Unit::NsPerOp,
            threads: 1,
            in_flight: 1,
            work,
            ours,
            peers,
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// Says that `threads` threads share one instance, one operation in flight each.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self.in_flight = threads;
        self
    }

    /// Counts heap bytes instead of time.
    #[must_use]
    pub fn bytes(mut self) -> Self {
        self.unit = Unit::Bytes;
        self
    }

    /// Returns all contenders, ours first.
    pub fn contenders(&mut self) -> impl Iterator<Item = &mut Contender> {
        std::iter::once(&mut self.ours).chain(self.peers.iter_mut())
    }

    /// Returns the parameters as `a=1, b=2`.
    #[must_use]
    pub fn params_text(&self) -> String {
        params_text(&self.params)
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

/// One side of a comparison.
pub struct Contender {
    /// The crate, with the variant after `@` where there are several.
    pub name: String,
    /// Its locked version.
    pub version: String,
    bench: Box<dyn Bench>,
}

/// The loop of a contender.
trait Bench {
    /// Does `iters` operations (over all threads) and returns the nanoseconds or bytes that they took together.
    fn run(&mut self, iters: u64) -> f64;

    /// Times `count` operations one by one, in nanoseconds. Empty where that makes no sense.
    fn sample(&mut self, count: u64) -> Vec<f64>;
}

impl Contender {
    fn with(name: &str, bench: impl Bench + 'static) -> Self {
        let package = name.split('@').next().unwrap_or(name);
        Self {
            name: name.to_owned(),
            version: crate::versions::of(package),
            bench: Box::new(bench),
        }
    }

    /// One thread that calls `op` again and again.
    pub fn single<R>(name: &str, op: impl FnMut() -> R + 'static) -> Self {
        Self::with(name, Single(op))
    }

    /// `threads` threads, each with an operation made by `make`, which captures what they share.
    pub fn shared<R, O, M>(name: &str, threads: usize, make: M) -> Self
    where
        O: FnMut() -> R + Send,
        M: Fn(usize) -> O + Sync + 'static,
    {
        Self::with(name, Shared { threads, make })
    }

    /// One task on a current-thread tokio runtime with timers; `op` is awaited again and again.
    pub fn task<R>(name: &str, op: impl AsyncFnMut() -> R + 'static) -> Self {
        Self::with(name, Task::new(op))
    }

    /// Does `iters` operations (over all threads) and returns the nanoseconds or bytes that they took together.
    pub fn run(&mut self, iters: u64) -> f64 {
        self.bench.run(iters)
    }

    /// Times `count` operations one by one, in nanoseconds; empty where that makes no sense.
    pub fn sample(&mut self, count: u64) -> Vec<f64> {
        self.bench.sample(count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one operation")]
fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

struct Single<F>(F);

impl<R, F: FnMut() -> R> Bench for Single<F> {
    fn run(&mut self, iters: u64) -> f64 {
        let start = Instant::now();
        for _ in 0..iters {
            black_box((self.0)());
        }
        nanos(start.elapsed())
    }

    fn sample(&mut self, count: u64) -> Vec<f64> {
        let mut one = || {
            let start = Instant::now();
            black_box((self.0)());
            nanos(start.elapsed())
        };
        (0..count).map(|_| one()).collect()
    }
}

struct Shared<M> {
    threads: usize,
    make: M,
}

impl<R, O, M> Bench for Shared<M>
where
    O: FnMut() -> R + Send,
    M: Fn(usize) -> O + Sync,
{
    fn run(&mut self, iters: u64) -> f64 {
        let each = iters.div_ceil(self.threads as u64);
        let barrier = Barrier::new(self.threads);
        let measured = |thread: usize| {
            let mut op = (self.make)(thread);
            barrier.wait();
            let start = Instant::now();
            for _ in 0..each {
                black_box(op());
            }
            (start, Instant::now())
        };
        let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads)
                .map(|thread| scope.spawn(move || measured(thread)))
                .collect();
            let mut spans = vec![measured(0)];
            for other in others {
                spans.push(other.join().expect("a contender does not panic"));
            }
            spans
        });
        let first = spans.iter().map(|(start, _)| *start).min();
        let last = spans.iter().map(|(_, end)| *end).max();
        match (first, last) {
            (Some(first), Some(last)) => nanos(last - first),
            _ => 0.0,
        }
    }

    /// One thread's view of a contended operation says little; none is given.
    fn sample(&mut self, _count: u64) -> Vec<f64> {
        Vec::new()
    }
}

struct Task<F> {
    runtime: tokio::runtime::Runtime,
    op: F,
}

impl<F> Task<F> {
    fn new(op: F) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a current-thread runtime without I/O needs nothing from the system");
        Self { runtime, op }
    }
}

impl<R, F: AsyncFnMut() -> R> Bench for Task<F> {
    fn run(&mut self, iters: u64) -> f64 {
        let op = &mut self.op;
        self.runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..iters {
                black_box(op().await);
            }
            nanos(start.elapsed())
        })
    }

    fn sample(&mut self, count: u64) -> Vec<f64> {
        let op = &mut self.op;
        self.runtime.block_on(async {
            let mut samples = Vec::new();
            for _ in 0..count {
                let start = Instant::now();
                black_box(op().await);
                samples.push(nanos(start.elapsed()));
            }
            samples
        })
    }
}
