//! Interleaved rounds over the contenders of a case.

use crate::harness::{Case, Contender, Unit};
use crate::report::Row;
use crate::stats::{median, quantile, ratio};

/// Single operations below this are not timed one by one: the clock would be most of it.
const SAMPLED_FROM_NS: f64 = 250.0;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Rounds per contender; odd, at least five.
    pub rounds: usize,
    /// How long a round is meant to take.
    pub round_ns: f64,
    /// Operations timed one by one for the 99th percentile.
    pub samples: u64,
}

impl Plan {
    /// The plan behind `docs/src/benchmarks.md`.
    ///
    /// Rounds are many and short, so that other work on the machine spoils a few of them instead of all.
    pub const FULL: Self = Self {
        rounds: 101,
        round_ns: 5e6,
        samples: 20_000,
    };

    /// The plan of `--quick`.
    pub const QUICK: Self = Self {
        rounds: 25,
        round_ns: 2e6,
        samples: 2_000,
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

/// What was measured of one contender.
struct Measured {
    per_op: f64,
    p99: Option<f64>,
}

/// Measures a case; one row per peer.
pub fn case(mut case: Case, plan: Plan, cpu: &str) -> Vec<Row> {
    let iters: Vec<u64> = match case.unit {
        Unit::NsPerOp => case.contenders().map(|c| calibrate(c, plan)).collect(),
        Unit::Bytes => case.contenders().map(|_| 1_000).collect(),
    };
    let mut totals = vec![Vec::with_capacity(plan.rounds); iters.len()];
    for round in 0..plan.rounds {
        // The order turns, so that nobody always runs behind the same neighbour.
        let mut order: Vec<usize> = (0..iters.len()).collect();
        order.rotate_left(round % iters.len());
        for index in order {
            let contender = match index.checked_sub(1) {
                None => &mut case.ours,
                Some(peer) => &mut case.peers[peer],
            };
            totals[index].push(per_op(contender, iters[index]));
        }
    }
    let mut measured = Vec::with_capacity(iters.len());
    for (contender, rounds) in case.contenders().zip(&totals) {
        let per_op = median(rounds).unwrap_or_default();
        let p99 = (per_op >= SAMPLED_FROM_NS)
            .then(|| quantile(&contender.sample(plan.samples), 0.99))
            .flatten();
        measured.push(Measured { per_op, p99 });
    }
    rows(&case, &measured, cpu)
}

fn rows(case: &Case, measured: &[Measured], cpu: &str) -> Vec<Row> {
    let Some((ours, theirs)) = measured.split_first() else {
        return Vec::new();
    };
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
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "iterations are far below 2^52")]
fn per_op(contender: &mut Contender, iters: u64) -> f64 {
    contender.run(iters) / iters as f64
}

/// Returns how many operations fill a round; warms up on the way.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small range first"
)]
fn calibrate(contender: &mut Contender, plan: Plan) -> u64 {
    let mut iters = 16;
    loop {
        let each = per_op(contender, iters).max(0.1);
        let wanted = (plan.round_ns / each).clamp(16.0, 1e9) as u64;
        if wanted <= iters.saturating_mul(2) {
            return wanted;
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
            rounds: 5,
            round_ns: 1_000.0,
            samples: 10,
        };
        let rows = super::case(case, plan, "cpu");
        assert_eq!(rows.len(), 2);
        for row in &rows {
            assert_eq!(row.params["size"], 8);
            assert!(row.ours > 0.0 && row.theirs > 0.0);
            assert_eq!(row.ratio, row.ours / row.theirs);
        }
        assert!(seen.iter().all(|seen| seen.get() >= 5 * 16));
    }

    #[test]
    fn both_plans_have_an_odd_number_of_at_least_five_rounds() {
        for plan in [Plan::QUICK, Plan::FULL] {
            assert!(plan.rounds >= 5 && plan.rounds % 2 == 1);
        }
    }
}
