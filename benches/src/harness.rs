//! What a measurement is made of: cases, contenders, and the loops that time them.

use serde_json::{Map, Value};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

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
    /// `ids`, `clocks`, `codec`, `breaker` or `retry`.
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
    /// Items (messages, transactions, records) that one call of a contender handles; numbers are given per item.
    pub items: u64,
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
            items: 1,
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

    /// Says that one call handles `items` items, so that numbers are given per item and calls are not timed one by one.
    #[must_use]
    pub fn items(mut self, items: u64) -> Self {
        self.items = items.max(1);
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

/// What one thread of a team does.
pub type Work = Box<dyn FnOnce() + Send>;

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

    /// A program of its own, or whatever else measures itself: `op` does one operation and returns its nanoseconds.
    pub fn told(name: &str, version: String, op: impl FnMut() -> f64 + 'static) -> Self {
        Self {
            name: name.to_owned(),
            version,
            bench: Box::new(Told(op)),
        }
    }

    /// `threads` threads, each with an operation that `make` makes in it from what they share.
    pub fn shared<R, O, M>(name: &str, threads: usize, make: M) -> Self
    where
        O: FnMut() -> R,
        M: Fn() -> O + Sync + 'static,
    {
        Self::with(name, Shared { threads, make })
    }

    /// `threads` threads, each a current-thread tokio runtime with timers and an operation made by `make` in it.
    pub fn tasks<R, O, M>(name: &str, threads: usize, make: M) -> Self
    where
        O: AsyncFnMut() -> R,
        M: Fn() -> O + Sync + 'static,
    {
        let runtimes = (0..threads).map(|_| runtime()).collect();
        Self::with(name, Tasks { runtimes, make })
    }

    /// A team of threads with different work, as producers and consumers have: `make` is told how many operations are to
    /// be done together and returns what each thread does. The time runs from the first start to the last end.
    pub fn team(name: &str, make: impl Fn(u64) -> Vec<Work> + 'static) -> Self {
        Self::with(name, Team(make))
    }

    /// Heap bytes of `op`, on one thread.
    pub fn bytes<R>(name: &str, op: impl FnMut() -> R + 'static) -> Self {
        Self::with(name, Bytes(op))
    }

    /// Heap bytes of an operation made by `make` in a current-thread tokio runtime.
    pub fn task_bytes<R, O, M>(name: &str, make: M) -> Self
    where
        O: AsyncFnMut() -> R,
        M: Fn() -> O + 'static,
    {
        let runtime = runtime();
        Self::with(name, TaskBytes { runtime, make })
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

struct Told<F>(F);

impl<F: FnMut() -> f64> Bench for Told<F> {
    fn run(&mut self, iters: u64) -> f64 {
        (0..iters).map(|_| (self.0)()).sum()
    }

    fn sample(&mut self, count: u64) -> Vec<f64> {
        (0..count).map(|_| (self.0)()).collect()
    }
}

struct Shared<M> {
    threads: usize,
    make: M,
}

impl<R, O, M> Bench for Shared<M>
where
    O: FnMut() -> R,
    M: Fn() -> O + Sync,
{
    fn run(&mut self, iters: u64) -> f64 {
        let each = iters.div_ceil(self.threads as u64);
        let make = &self.make;
        on_threads(self.threads, |_, start_line| {
            let mut op = make();
            start_line.wait();
            let start = Instant::now();
            for _ in 0..each {
                black_box(op());
            }
            (start, Instant::now())
        })
    }

    fn sample(&mut self, count: u64) -> Vec<f64> {
        if self.threads > 1 {
            return Vec::new();
        }
        Single((self.make)()).sample(count)
    }
}

struct Tasks<M> {
    runtimes: Vec<Runtime>,
    make: M,
}

impl<R, O, M> Bench for Tasks<M>
where
    O: AsyncFnMut() -> R,
    M: Fn() -> O + Sync,
{
    fn run(&mut self, iters: u64) -> f64 {
        let each = iters.div_ceil(self.runtimes.len() as u64);
        let Self { runtimes, make } = self;
        on_threads(runtimes.len(), |thread, start_line| {
            runtimes[thread].block_on(async {
                let mut op = make();
                start_line.wait();
                let start = Instant::now();
                for _ in 0..each {
                    black_box(op().await);
                }
                (start, Instant::now())
            })
        })
    }

    fn sample(&mut self, count: u64) -> Vec<f64> {
        let [runtime] = self.runtimes.as_slice() else {
            return Vec::new();
        };
        runtime.block_on(async {
            let mut op = (self.make)();
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

struct Team<M>(M);

impl<M: Fn(u64) -> Vec<Work>> Bench for Team<M> {
    fn run(&mut self, iters: u64) -> f64 {
        let works: Vec<Mutex<Option<Work>>> = (self.0)(iters)
            .into_iter()
            .map(|work| Mutex::new(Some(work)))
            .collect();
        on_threads(works.len(), |thread, start_line| {
            let work = works[thread].lock().map(|mut work| work.take());
            start_line.wait();
            let start = Instant::now();
            if let Ok(Some(work)) = work {
                work();
            }
            (start, Instant::now())
        })
    }

    fn sample(&mut self, _count: u64) -> Vec<f64> {
        Vec::new()
    }
}

/// Runs `work` on `threads` threads and returns the nanoseconds from the first start to the last end.
///
/// Several threads are pinned to a core each: a scheduler that runs them on one core, one after the other, would
/// measure them without contention.
fn on_threads(threads: usize, work: impl Fn(usize, &Start) -> (Instant, Instant) + Sync) -> f64 {
    let start = &Start::new(threads);
    let spans: Vec<(Instant, Instant)> = if threads == 1 {
        vec![work(0, start)]
    } else {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let core = cores.get(thread).copied();
                    scope.spawn(move || {
                        if let Some(core) = core {
                            core_affinity::set_for_current(core);
                        }
                        work(thread, start)
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("a contender does not panic"))
                .collect()
        })
    };
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    match (start, end) {
        (Some(start), Some(end)) => nanos(end - start),
        _ => 0.0,
    }
}

/// Where threads wait for each other, spinning, so that all of them run when the first goes on.
struct Start {
    missing: AtomicUsize,
}

impl Start {
    fn new(threads: usize) -> Self {
        Self {
            missing: AtomicUsize::new(threads),
        }
    }

    fn wait(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        while self.missing.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a current-thread runtime without I/O needs nothing from the system")
}

struct Bytes<F>(F);

impl<R, F: FnMut() -> R> Bench for Bytes<F> {
    fn run(&mut self, iters: u64) -> f64 {
        let ((), allocated) = dpat_testkit::allocated(|| {
            for _ in 0..iters {
                black_box((self.0)());
            }
        });
        bytes(allocated.bytes)
    }

    fn sample(&mut self, _count: u64) -> Vec<f64> {
        Vec::new()
    }
}

struct TaskBytes<M> {
    runtime: Runtime,
    make: M,
}

impl<R, O, M> Bench for TaskBytes<M>
where
    O: AsyncFnMut() -> R,
    M: Fn() -> O,
{
    fn run(&mut self, iters: u64) -> f64 {
        let make = &self.make;
        // The runtime's own bytes for a `block_on` are there before the first operation.
        let counted = |ops: u64| {
            let ((), allocated) = dpat_testkit::allocated(|| {
                self.runtime.block_on(async {
                    let mut op = make();
                    for _ in 0..ops {
                        black_box(op().await);
                    }
                });
            });
            allocated.bytes
        };
        let base = counted(0);
        bytes(counted(iters).saturating_sub(base))
    }

    fn sample(&mut self, _count: u64) -> Vec<f64> {
        Vec::new()
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn bytes(count: u64) -> f64 {
    count as f64
}
