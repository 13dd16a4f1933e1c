//! Random operations against a model, and the shrinker.

use std::collections::{BTreeMap, BTreeSet};

use dpat_core::{Entropy, SplitMix64};

use super::kit::{Hand, Kit, LEASE, at, event, number, park, retry};
use super::{End, Harness, Violation, ensure_eq};
use crate::row::{Lane, Outcome, Position, RowState, Settled, Settlement};
use crate::store::{Appended, Lag, Repair, Replay, ReplayFrom, Store};

/// How many seeds the law tries.
const SEEDS: u64 = 24;
const OPS: u64 = 60;
const KEYS: [&str; 4] = ["", "a", "b", "c"];

/// One random operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // numbers that choose the arguments
pub enum Op {
    /// Appends events in a transaction, which ends somehow.
    Append { events: u64, key: usize, end: u64 },
    /// Time passes.
    Pass { nanos: u64 },
    /// [`Store::claim`].
    Claim {
        rows_max: usize,
        lane_rows_max: usize,
    },
    /// [`Store::settle`] of some events of some claim.
    Settle { claim: u64, outcome: u64, rows: u64 },
    /// [`Store::repair`].
    Repair { which: u64, how: u64 },
    /// [`Store::replay`].
    Replay { from: u64 },
    /// [`Store::purge`].
    Purge { before: u64, max: usize },
    /// [`Harness::reopen`].
    Reopen,
}

impl Op {
    fn draw(entropy: &SplitMix64) -> Self {
        let index = |bound: u64| usize::try_from(entropy.below(bound)).unwrap_or(0);
        match entropy.below(32) {
            0..=8 => Self::Append {
                events: 1 + entropy.below(3),
                key: index(4),
                end: entropy.below(5),
            },
            9..=11 => Self::Pass {
                nanos: entropy.below(80),
            },
            12..=18 => Self::Claim {
                rows_max: [1, 2, 100][index(3)],
                lane_rows_max: [1, 2, 100][index(3)],
            },
            19..=26 => Self::Settle {
                claim: entropy.below(4),
                outcome: entropy.below(6),
                rows: entropy.next_u64(),
            },
            27 => Self::Repair {
                which: entropy.below(4),
                how: entropy.below(2),
            },
            28 => Self::Replay {
                from: entropy.below(2_000),
            },
            29 => Self::Purge {
                before: entropy.below(3_000),
                max: index(4),
            },
            _ => Self::Reopen,
        }
    }
}

/// Random operations have the results that a plain list of rows has.
///
/// # Errors
/// [`Violation`], with the fewest operations that show it.
pub fn random_operations_match_the_model<H: Harness>(harness: &H) -> Result<(), Violation> {
    (0..SEEDS).try_for_each(|seed| check(harness, seed))
}

fn check<H: Harness>(harness: &H, seed: u64) -> Result<(), Violation> {
    let entropy = SplitMix64::stream(seed, "outbox");
    let mut ops: Vec<Op> = (0..OPS).map(|_| Op::draw(&entropy)).collect();
    let Err(mut violation) = run(harness, &ops) else {
        return Ok(());
    };
    let mut index = 0;
    while index < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(index);
        match run(harness, &fewer) {
            Err(smaller) => (ops, violation) = (fewer, smaller),
            Ok(()) => index += 1,
        }
    }
    Err(Violation::new(format!("seed {seed}: {violation}; {ops:?}")))
}

/// What an outbox is: a list of rows in the order of their places.
struct Model {
    rows: BTreeMap<Position, (u64, &'static str, RowState)>,
    hands: Vec<Hand>,
    next: u64,
}

fn run<H: Harness>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let mut model = Model {
        rows: BTreeMap::new(),
        hands: Vec::new(),
        next: 1,
    };
    for op in ops {
        kit = step(kit, &mut model, op)?;
        ensure_eq!(
            harness.run(kit.outbox.lag())?,
            model.lag()?,
            format!("lag after {op:?}")
        );
    }
    // At the end everything that waits can be sent, each key in its order.
    kit.now += 1_000_000;
    let expected = model.remaining()?;
    let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in kit.send_all()? {
        sent.entry(model.lane_name(number))
            .or_default()
            .push(number);
    }
    ensure_eq!(sent, expected, "what was sent at the end");
    Ok(())
}

fn step<'h, H: Harness>(
    mut kit: Kit<'h, H>,
    model: &mut Model,
    op: &Op,
) -> Result<Kit<'h, H>, Violation> {
    let harness = kit.harness;
    let now = at(kit.now);
    match *op {
        Op::Pass { nanos } => kit.now += nanos,
        Op::Reopen => return Ok(kit.reopened()),
        Op::Append { events, key, end } => {
            let key = KEYS[key];
            let end = match end {
                0 => End::Rollback,
                1 => End::Crash,
                _ => End::Commit,
            };
            let numbers = model.next..model.next + events;
            model.next += events;
            let events = numbers.clone().map(|number| event(number, key));
            let events = events.collect::<Result<Vec<_>, _>>()?;
            let appended = harness.in_tx(&kit.outbox, now, &events, end)?;
            for (number, appended) in numbers.zip(appended) {
                let Appended::New(position) = appended else {
                    return Err(Violation::new(format!("{number} is no duplicate")));
                };
                if end == End::Commit {
                    let row = (number, key, RowState::appended(now));
                    model.rows.insert(position, row);
                }
            }
        }
        Op::Claim {
            rows_max,
            lane_rows_max,
        } => {
            let mut claim = kit.ask();
            (claim.rows_max, claim.lane_rows_max) = (rows_max, lane_rows_max);
            let hand = kit.claim_as(&claim)?;
            model.claimed(&claim, &hand)?;
            model.hands.push(hand);
        }
        Op::Settle {
            claim,
            outcome,
            rows,
        } => {
            let outcome = match outcome {
                0 => retry(kit.now + 50),
                1 => Outcome::Release,
                2 => park(true),
                3 => park(false),
                _ => Outcome::Sent,
            };
            let settlements = model.some(claim, rows, &outcome);
            let settled = kit.settle_all(&settlements)?;
            for (settlement, settled) in settlements.iter().zip(settled) {
                let row = model.rows.get_mut(&settlement.position);
                let token = settlement.token;
                let expected = row.map_or(Settled::Lost, |(_, _, row)| {
                    row.settle(token, &outcome, now)
                });
                ensure_eq!(settled, expected, format!("{settlement:?}"));
            }
        }
        Op::Repair { which, how } => {
            let parked = harness.run(kit.outbox.parked(None, 99))?;
            let listed: Vec<Position> = parked.iter().map(|parked| parked.position).collect();
            ensure_eq!(listed, model.parked(), "parked events");
            let which = usize::try_from(which).unwrap_or(0);
            if let Some(position) = listed.get(which) {
                let repair = match how {
                    0 => Repair::Retry,
                    _ => Repair::Discard,
                };
                harness.run(kit.outbox.repair(now, *position, &repair))?;
                match repair {
                    Repair::Discard => drop(model.rows.remove(position)),
                    _ => {
                        let row = model.rows.get_mut(position);
                        row.map(|(_, _, row)| row.retry(now));
                    }
                }
            }
        }
        Op::Replay { from } => {
            let replay = Replay {
                from: ReplayFrom::Time(at(from)),
                topic: None,
                after: None,
                max: 1_000,
            };
            let replayed = harness.run(kit.outbox.replay(now, &replay))?;
            let young = model
                .rows
                .values_mut()
                .filter(|(_, _, row)| row.appended_at() >= at(from));
            let expected = young.map(|(_, _, row)| u64::from(row.replay(now))).sum();
            ensure_eq!((replayed.rows, replayed.next), (expected, None), "replayed");
        }
        Op::Purge { before, max } => {
            let purged = harness.run(kit.outbox.purge(at(before), max))?;
            let mut old: Vec<_> = model
                .rows
                .iter()
                .filter_map(|(position, (_, _, row))| Some((row.sent_at()?, *position)))
                .filter(|(sent, _)| *sent < at(before))
                .collect();
            old.sort_unstable();
            old.truncate(max);
            ensure_eq!(purged, old.len(), "purged");
            for (_, position) in old {
                model.rows.remove(&position);
            }
        }
    }
    Ok(kit)
}

impl Model {
    fn lane(&self, position: Position) -> Result<Option<Lane>, Violation> {
        let Some((number, key, _)) = self.rows.get(&position) else {
            return Ok(None);
        };
        Ok(Some(Lane::of(&event(*number, key)?, position)))
    }

    fn lane_name(&self, number: u64) -> String {
        let row = self.rows.values().find(|(other, _, _)| *other == number);
        match row.map(|(_, key, _)| *key) {
            None | Some("") => format!("#{number}"),
            Some(key) => key.to_owned(),
        }
    }

    /// Of each lane, the first that can be claimed now, up to a limit.
    fn claimable(
        &self,
        claim: &crate::store::Claim,
    ) -> Result<BTreeMap<Lane, Vec<u64>>, Violation> {
        let mut lanes: BTreeMap<Lane, Vec<u64>> = BTreeMap::new();
        let mut closed: BTreeSet<Lane> = BTreeSet::new();
        for (position, (number, _, row)) in &self.rows {
            let Some(lane) = self.lane(*position)? else {
                continue;
            };
            let Some(due) = row.due() else { continue };
            let open = lanes.get(&lane).map_or(0, Vec::len) < claim.lane_rows_max;
            if closed.contains(&lane) {
                continue;
            }
            match open && due <= claim.now {
                true => lanes.entry(lane).or_default().push(*number),
                false => drop(closed.insert(lane)),
            }
        }
        Ok(lanes)
    }

    /// A claim gets what can be claimed, of each lane the first, and as much as it asks for.
    fn claimed(&mut self, claim: &crate::store::Claim, hand: &Hand) -> Result<(), Violation> {
        let claimable = self.claimable(claim)?;
        let mut got: BTreeMap<Lane, Vec<u64>> = BTreeMap::new();
        for row in &hand.rows {
            let lane = Lane::of(&row.event, row.position);
            got.entry(lane).or_default().push(number(&row.event));
        }
        for (lane, numbers) in &got {
            let allowed = claimable.get(lane).map_or(&[][..], Vec::as_slice);
            let first = allowed.get(..numbers.len()).unwrap_or(allowed);
            ensure_eq!(numbers, first, "events of a lane");
        }
        let most: usize = claimable.values().map(Vec::len).sum();
        ensure_eq!(
            hand.rows.len(),
            most.min(claim.rows_max),
            "number of claimed events"
        );
        for row in &hand.rows {
            if let Some((_, _, known)) = self.rows.get_mut(&row.position) {
                let (attempts, replays) = (known.attempts(), known.replays());
                ensure_eq!((row.attempts, row.replays), (attempts, replays), "counts");
                ensure_eq!(
                    known.claim(claim.token, claim.now, LEASE),
                    true,
                    "claimed twice"
                );
                ensure_eq!(
                    Some(row.first_claim),
                    known.first_claim(),
                    "the first claim"
                );
            }
        }
        Ok(())
    }

    /// Some events of some earlier claim.
    fn some(&self, claim: u64, rows: u64, outcome: &Outcome) -> Vec<Settlement> {
        let back = usize::try_from(claim).unwrap_or(0) + 1;
        let Some(hand) = self
            .hands
            .len()
            .checked_sub(back)
            .and_then(|index| self.hands.get(index))
        else {
            return Vec::new();
        };
        let chosen = |(index, _): &(usize, _)| rows >> (index % 64) & 1 == 1;
        let rows = hand.rows.iter().enumerate().filter(chosen);
        rows.map(|(_, row)| Settlement {
            position: row.position,
            token: hand.token,
            outcome: outcome.clone(),
        })
        .collect()
    }

    fn parked(&self) -> Vec<Position> {
        let parked = |row: &RowState| !row.is_backlog() && row.sent_at().is_none();
        let rows = self.rows.iter().filter(|(_, (_, _, row))| parked(row));
        rows.map(|(position, _)| *position).collect()
    }

    fn lag(&self) -> Result<Lag, Violation> {
        let mut lag = Lag {
            parked: self.parked().len() as u64,
            ..Lag::default()
        };
        for (number, key, row) in self.rows.values() {
            if row.is_backlog() {
                lag.backlog_rows += 1;
                lag.backlog_bytes += event(*number, key)?.encode().len() as u64;
                lag.oldest.get_or_insert(row.entered_at());
            }
            lag.sent += u64::from(row.sent_at().is_some());
        }
        Ok(lag)
    }

    /// By lane, what can still be sent when all leases have ended and all retries are due.
    fn remaining(&self) -> Result<BTreeMap<String, Vec<u64>>, Violation> {
        let mut lanes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut closed: BTreeSet<String> = BTreeSet::new();
        for (number, _, row) in self.rows.values() {
            let name = self.lane_name(*number);
            if closed.contains(&name) {
                continue;
            }
            match row.due() {
                None => {}
                Some(dpat_core::Wall::MAX) => drop(closed.insert(name)),
                Some(_) => lanes.entry(name).or_default().push(*number),
            }
        }
        Ok(lanes)
    }
}
