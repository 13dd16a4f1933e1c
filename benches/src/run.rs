//! Interleaved rounds over the contenders of a case.

use crate::harness::{Case, Contender, Unit};
use crate::report::Row;
use crate::stats::{median, quantile, ratio};

/// Fewer single operations than this say nothing about the 99th percentile.
const SAMPLES_MIN: usize = 100;
/// Single operations below this are not timed one by one: the clock would be most of it.
const SAMPLED_FROM_NS: f64 = 250.0;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How often the list of cases is gone through; odd.
    pub sweeps: usize,
    /// Rounds per contender in each sweep; odd.
    pub rounds: usize,
    /// How long a round is meant to take.
    pub round_ns: f64,
    /// Operations timed one by one for the 99th percentile.
    pub samples: u64,
    /// How long the rounds of one contender may take together in a sweep: calls that fill more than a round get fewer
    /// rounds, at least one a sweep.
    pub sweep_ns: f64,
}

impl Plan {
    /// The plan without `--quick`.
    ///
    /// Rounds are many, spread over the run, and shorter than a scheduler's slice, so that other work on the machine
    /// spoils some of them instead of all.
    pub const FULL: Self = Self {
        sweeps: 9,
        rounds: 51,
        round_ns: 5e5,
        samples: 20_000,
        sweep_ns: 1e9,
    };

    /// The plan of `--quick`.
    pub const QUICK: Self = Self {
        sweeps: 5,
        rounds: 21,
        round_ns: 4e5,
        samples: 2_000,
        sweep_ns: 2e8,
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

    /// Returns the number of rounds that a median is taken of.
    #[must_use]
    pub fn rounds_in_all(&self) -> usize {
        self.sweeps * self.rounds
    }
}

/// What was measured of one contender.
struct Measured {
    per_op: f64,
    p99: Option<f64>,
}

/// A case with what was measured so far, ours first.
struct Running {
    case: Case,
    iters: Vec<u64>,
    /// Rounds in a sweep.
    rounds: usize,
    per_op: Vec<Vec<f64>>,
}

impl Running {
    fn new(mut case: Case, plan: Plan) -> Self {
        let calls: Vec<Calls> = match case.unit {
            Unit::NsPerOp => case.contenders().map(|c| calibrate(c, plan)).collect(),
            Unit::Bytes => case.contenders().map(|_| Calls::COUNTED).collect(),
        };
        let iters: Vec<u64> = calls.iter().map(|calls| calls.in_round).collect();
        let slowest = calls.iter().map(|calls| calls.round_ns).fold(0.0, f64::max);
        Self {
            rounds: rounds(plan, slowest),
            per_op: vec![Vec::with_capacity(plan.rounds_in_all()); iters.len()],
            case,
            iters,
        }
    }

    /// Runs each contender once. The order turns, so that nobody always runs behind the same neighbour.
    fn round(&mut self, round: usize) {
        let mut order: Vec<usize> = (0..self.iters.len()).collect();
        order.rotate_left(round % self.iters.len());
        let items = self.case.items;
        for index in order {
            let contender = match index.checked_sub(1) {
                None => &mut self.case.ours,
                Some(peer) => &mut self.case.peers[peer],
            };
            self.per_op[index].push(per_op(contender, self.iters[index], items));
        }
    }

    fn finish(mut self, plan: Plan, cpu: &str) -> Vec<Row> {
        let mut measured = Vec::with_capacity(self.iters.len());
        let single = self.case.items == 1;
        for (contender, rounds) in self.case.contenders().zip(&self.per_op) {
            let per_op = median(rounds).unwrap_or_default();
            let p99 = (per_op >= SAMPLED_FROM_NS && single)
                .then(|| contender.sample(samples(plan, per_op)))
                .filter(|samples| samples.len() >= SAMPLES_MIN)
                .and_then(|samples| quantile(&samples, 0.99));
            measured.push(Measured { per_op, p99 });
        }
        rows(&self.case, &measured, cpu)
    }
}

/// Measures cases; one row per case and peer. `progress` is called after each sweep.
pub fn cases(cases: Vec<Case>, plan: Plan, cpu: &str, mut progress: impl FnMut()) -> Vec<Row> {
    let mut running: Vec<Running> = cases
        .into_iter()
        .map(|case| Running::new(case, plan))
        .collect();
    for _ in 0..plan.sweeps {
        for case in &mut running {
            for round in 0..case.rounds {
                case.round(round);
            }
        }
        progress();
    }
    running
        .into_iter()
        .flat_map(|case| case.finish(plan, cpu))
        .collect()
}

fn rows(case: &Case, measured: &[Measured], cpu: &str) -> Vec<Row> {
    let Some((ours, theirs)) = measured.split_first() else {
        return Vec::new();
    };
    let fdatasync_per_s = case
        .peers
        .iter()
        .zip(theirs)
        .find(|(peer, _)| peer.name == "fdatasync")
        .map(|(_, bare)| 1e9 / bare.per_op);
    case.peers
        .iter()
        .zip(theirs)
        .map(|(peer, theirs)| Row {
            pattern: case.pattern,
            operation: case.operation,
            params: case.params.clone(),
            unit: case.unit,
            threads: case.threads,
            in_flight: case.in_flight,
            ours: ours.per_op,
            ours_p99: ours.p99,
            peer: peer.name.clone(),
            peer_version: peer.version.clone(),
            theirs: theirs.per_op,
            theirs_p99: theirs.p99,
            ratio: ratio(ours.per_op, theirs.per_op),
            work: case.work,
            cpu: cpu.to_owned(),
            fdatasync_per_s,
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "iterations and items are far below 2^52"
)]
fn per_op(contender: &mut Contender, iters: u64, items: u64) -> f64 {
    contender.run(iters) / iters as f64 / items as f64
}

/// What a round of one contender is.
struct Calls {
    in_round: u64,
    round_ns: f64,
}

impl Calls {
    /// Bytes are counted, whatever the time.
    const COUNTED: Self = Self {
        in_round: 1_000,
        round_ns: 0.0,
    };
}

/// Returns the rounds of a sweep: all of the plan's, or as many as fit in its time, and one at the least.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range first"
)]
fn rounds(plan: Plan, round_ns: f64) -> usize {
    let fit = (plan.sweep_ns / round_ns.max(1.0)).clamp(1.0, 1e6) as usize;
    fit.min(plan.rounds)
}

/// Returns how many calls are timed one by one: all of the plan's, or as many as fit in a sweep's time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range first"
)]
fn samples(plan: Plan, call_ns: f64) -> u64 {
    let fit = (plan.sweep_ns / call_ns.max(1.0)).clamp(1.0, 1e9) as u64;
    fit.min(plan.samples)
}

/// Returns how many operations fill a round; warms up on the way.
///
/// The fastest of a few runs decides: one that lost its core would make every round too short to mean anything.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range first"
)]
fn calibrate(contender: &mut Contender, plan: Plan) -> Calls {
    // What fills a round with one call is called once.
    let once = contender.run(1);
    if once >= plan.round_ns {
        let again = contender.run(1).min(once);
        if again >= plan.round_ns {
            return Calls {
                in_round: 1,
                round_ns: again,
            };
        }
    }
    let mut iters = 2;
    loop {
        let each = (0..5)
            .map(|_| per_op(contender, iters, 1))
            .fold(f64::INFINITY, f64::min)
            .max(0.1);
        let wanted = (plan.round_ns / each).clamp(2.0, 1e9) as u64;
        if wanted <= iters.saturating_mul(2) {
            return Calls {
                in_round: wanted,
                round_ns: plan.round_ns,
            };
        }
        iters = wanted.min(iters.saturating_mul(16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    fn counting(order: &Rc<Cell<u64>>, seen: &Rc<Cell<u64>>) -> Contender {
        let (order, seen) = (Rc::clone(order), Rc::clone(seen));
        Contender::single("dpat-core", move || {
            seen.set(seen.get() + 1);
            order.set(order.get() + 1);
            order.get()
        })
    }

    #[test]
    fn every_peer_gets_a_row_with_the_parameters_of_the_case() {
        let order = Rc::new(Cell::new(0));
        let seen: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(0))).collect();
        let case = Case::new(
            "ids",
            "count",
            "adds one",
            counting(&order, &seen[0]),
            vec![counting(&order, &seen[1]), counting(&order, &seen[2])],
        )
        .param("size", 8);
        let plan = Plan {
            sweeps: 3,
            rounds: 5,
            round_ns: 1_000.0,
            samples: 10,
            sweep_ns: 1e9,
        };
        let rows = cases(vec![case], plan, "cpu", || ());
        assert_eq!(rows.len(), 2);
        for row in &rows {
            assert_eq!(row.params["size"], 8);
            assert!(row.ours > 0.0 && row.theirs > 0.0);
            assert_eq!(row.ratio, row.ours / row.theirs);
        }
        assert!(seen.iter().all(|seen| seen.get() >= 15 * 2));
    }

    #[test]
    fn slow_calls_get_fewer_rounds_and_one_at_the_least() {
        let plan = Plan::QUICK;
        assert_eq!(rounds(plan, plan.round_ns), plan.rounds);
        assert_eq!(rounds(plan, plan.sweep_ns / 3.5), 3);
        assert_eq!(rounds(plan, plan.sweep_ns * 10.0), 1);
        assert_eq!(samples(plan, plan.sweep_ns / 7.0), 7);
        assert_eq!(samples(plan, 1_000.0), plan.samples);
    }

    #[test]
    fn both_plans_have_an_odd_number_of_at_least_five_rounds() {
        for plan in [Plan::QUICK, Plan::FULL] {
            let rounds = plan.rounds_in_all();
            assert!(rounds >= 5 && rounds % 2 == 1);
        }
    }
}
