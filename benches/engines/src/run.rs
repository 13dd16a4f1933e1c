//! Interleaved rounds over the contenders of a case.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::harness::{Case, Contender, Timed, Unit, nanos};
use crate::report::Row;
use crate::stats::{median, quantile, ratio};

/// Fewer single operations than this say nothing about the 99th percentile.
const SAMPLES_MIN: usize = 100;
/// Threads of the runtime that all contenders run on.
pub const THREADS: usize = 2;
/// How long bare syncs are counted in each round.
const SYNCED_FOR: Duration = Duration::from_millis(20);

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Rounds per contender; odd.
    pub rounds: usize,
    /// How long a round is meant to take.
    pub round: Duration,
}

impl Plan {
    /// The plan without `--quick`.
    pub const FULL: Self = Self {
        rounds: 9,
        round: Duration::from_millis(800),
    };

    /// The plan of `--quick`.
    pub const QUICK: Self = Self {
        rounds: 5,
        round: Duration::from_millis(150),
    };

    /// Returns the word of the table.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if *self == Self::QUICK {
            "quick"
        } else {
            "full"
        }
    }
}

/// What was measured of one contender so far.
struct Measured {
    count: u64,
    per_op: Vec<f64>,
    each: Vec<f64>,
}

impl Measured {
    fn add(&mut self, timed: Timed) {
        self.per_op.push(per_op(&timed, self.count));
        self.each.extend(timed.each);
    }

    fn median(&self) -> f64 {
        median(&self.per_op).unwrap_or_default()
    }

    fn p99(&self) -> Option<f64> {
        (self.each.len() >= SAMPLES_MIN)
            .then(|| quantile(&self.each, 0.99))
            .flatten()
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_op(timed: &Timed, count: u64) -> f64 {
    nanos(timed.elapsed) / count as f64
}

/// Measures a case; one row a peer.
pub async fn case(case: &Case, plan: Plan, cpu: &str) -> Vec<Row> {
    let mut measured = Vec::new();
    for contender in case.contenders() {
        measured.push(Measured {
            count: calibrate(contender, case, plan).await,
            per_op: Vec::new(),
            each: Vec::new(),
        });
    }
    let mut syncs = Vec::new();
    for round in 0..plan.rounds {
        // The order turns, so that nobody always runs behind the same neighbour.
        let mut order: Vec<(usize, &Contender)> = case.contenders().enumerate().collect();
        let turn = round % order.len();
        order.rotate_left(turn);
        for (index, contender) in order {
            let count = measured[index].count;
            let timed = contender.round(count).await;
            measured[index].add(timed);
        }
        syncs.push(syncs_per_s());
    }
    rows(case, &measured, median(&syncs), cpu)
}

fn rows(case: &Case, measured: &[Measured], syncs: Option<f64>, cpu: &str) -> Vec<Row> {
    let Some((ours, theirs)) = measured.split_first() else {
        return Vec::new();
    };
    let row = |(peer, theirs): (&Contender, &Measured)| Row {
        pattern: case.pattern,
        operation: case.operation,
        params: case.params(),
        unit: Unit::NsPerOp,
        threads: THREADS,
        in_flight: case.in_flight,
        ours: ours.median(),
        ours_p99: ours.p99(),
        peer: peer.name.clone(),
        peer_version: peer.version.clone(),
        theirs: theirs.median(),
        theirs_p99: theirs.p99(),
        ratio: ratio(ours.median(), theirs.median()),
        work: case.work,
        cpu: cpu.to_owned(),
        fdatasync_per_s: syncs,
    };
    case.peers.iter().zip(theirs).map(row).collect()
}

/// Returns how many operations fill a round; warms up on the way.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range first"
)]
async fn calibrate(contender: &Contender, case: &Case, plan: Plan) -> u64 {
    let mut count = case.least.max(case.in_flight as u64);
    loop {
        let timed = contender.round(count).await;
        if timed.elapsed * 4 >= plan.round || count >= 100_000 {
            // The faster of two: one that the disk has held up would make all rounds too short.
            let again = contender.round(count).await;
            let per_op = per_op(&timed, count).min(per_op(&again, count));
            let fit = nanos(plan.round) / per_op.max(1.0);
            return (fit.clamp(1.0, 1e5) as u64).max(case.least.max(case.in_flight as u64));
        }
        count *= 2;
    }
}

/// Counts bare syncs of one thread, each of 256 bytes at the end of a file.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn syncs_per_s() -> f64 {
    let folder = tempfile::tempdir().expect("a directory on disk");
    let mut file = File::create(folder.path().join("syncs")).expect("a file");
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < SYNCED_FOR {
        file.write_all(&[7; 256]).expect("written");
        file.sync_data().expect("synced");
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}
