//! Random operations against a model, and the shrinker.

use std::time::Duration;

use dpat_core::{Entropy, SplitMix64};

use super::kit::{Kit, SECOND, reject, retry};
use super::model::{Model, Row, is_exact};
use super::{Harness, Pace, Violation, ensure, ensure_eq};
use crate::capability::{Capability, Survives};
use crate::error::SettleError;
use crate::message::{Delivery, Message, Outcome, Receipt};

/// How many seeds the law tries, and how many where each waits for real time.
const SEEDS: u64 = 48;
const SEEDS_REAL: u64 = 2;
const OPS: u64 = 60;

/// One random operation. What the backend does not offer is left out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // numbers that choose the arguments; times in tenths of a second
pub enum Op {
    /// [`Queue::send`](crate::Queue::send).
    Send {
        key: u64,
        priority: u8,
        delay: u64,
        ttl: u64,
        dedup: u64,
    },
    /// Time passes.
    Pass { tenths: u64 },
    /// [`Queue::receive_batch`](crate::Queue::receive_batch).
    Receive { max: usize },
    /// [`Queue::settle`](crate::Queue::settle) of an earlier delivery.
    Settle { back: usize, how: u64, delay: u64 },
    /// [`Queue::extend`](crate::Queue::extend) of an earlier delivery.
    Extend { back: usize, tenths: u64 },
    /// [`Queue::replay`](crate::Queue::replay) or [`Queue::discard`](crate::Queue::discard) of a dead letter.
    Letter { which: usize, replay: bool },
    /// [`Queue::purge`](crate::Queue::purge).
    Purge,
    /// [`Queue::set_paused`](crate::Queue::set_paused).
    Pause { paused: bool },
    /// [`Harness::reopen`].
    Reopen,
}

impl Op {
    fn draw(entropy: &SplitMix64) -> Self {
        let index = |bound: u64| usize::try_from(entropy.below(bound)).unwrap_or(0);
        // Mostly nothing.
        let sometimes = |bound: u64| match entropy.below(4) {
            0 => 1 + entropy.below(bound),
            _ => 0,
        };
        match entropy.below(64) {
            0..=19 => Self::Send {
                key: entropy.below(4),
                priority: [4, 4, 4, 0, 9][index(5)],
                delay: sometimes(30),
                ttl: sometimes(40),
                dedup: sometimes(4),
            },
            20..=25 => Self::Pass {
                tenths: entropy.below(12),
            },
            26..=40 => Self::Receive {
                max: [1, 2, 10][index(3)],
            },
            41..=55 => Self::Settle {
                back: index(6),
                how: entropy.below(5),
                delay: sometimes(15),
            },
            56..=57 => Self::Extend {
                back: index(4),
                tenths: 1 + entropy.below(30),
            },
            58..=59 => Self::Letter {
                which: index(3),
                replay: entropy.below(3) > 0,
            },
            60 => Self::Purge,
            61 => Self::Pause {
                paused: entropy.below(3) == 0,
            },
            _ => Self::Reopen,
        }
    }
}

/// Random operations have the results that a plain list of messages has.
///
/// # Errors
/// [`Violation`], with the fewest operations that show it.
pub fn random_operations_match_the_model<H: Harness>(harness: &H) -> Result<(), Violation> {
    let seeds = match harness.pace() {
        Pace::Exact => SEEDS,
        Pace::Real => SEEDS_REAL,
    };
    (0..seeds).try_for_each(|seed| check(harness, seed))
}

fn check<H: Harness>(harness: &H, seed: u64) -> Result<(), Violation> {
    let entropy = SplitMix64::stream(seed, "queue");
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

fn tenths(tenths: u64) -> Duration {
    Duration::from_millis(100 * tenths)
}

struct Run {
    model: Model,
    sent: u64,
    receipts: Vec<Receipt>,
}

fn run<H: Harness>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    let mut kit = Kit::new(harness);
    let mut run = Run {
        model: Model::default(),
        sent: 0,
        receipts: Vec::new(),
    };
    for op in ops {
        kit = run.step(kit, op)?;
    }
    run.finish(&kit)
}

fn is_real<H: Harness>(kit: &Kit<'_, H>) -> bool {
    kit.harness.pace() == Pace::Real
}

/// How long a pass is: where time is real nothing, or so long that no lease is near its end.
fn passing<H: Harness>(kit: &Kit<'_, H>, time: u64) -> Duration {
    match (is_real(kit), time) {
        (false, time) => tenths(time),
        (true, 0..6) => Duration::ZERO,
        (true, _) => 2 * kit.setup.visibility,
    }
}

fn number(delivery: &Delivery) -> u64 {
    super::kit::text(delivery).parse().unwrap_or(u64::MAX)
}

impl Run {
    fn step<'h, H: Harness>(&mut self, kit: Kit<'h, H>, op: &Op) -> Result<Kit<'h, H>, Violation> {
        let model = &mut self.model;
        match *op {
            Op::Send { .. } => self.send(&kit, op)?,
            Op::Pass { tenths: time } => {
                let time = passing(&kit, time);
                kit.pass(time);
                model.pass(time);
            }
            Op::Receive { max } => self.receive(&kit, max)?,
            Op::Settle { back, how, delay } => self.settle(&kit, back, how, delay)?,
            Op::Extend { back, tenths: time } => {
                let Some(receipt) = self.earlier(back) else {
                    return Ok(kit);
                };
                if kit.has(Capability::Extend) && kit.has(Capability::FencedSettle) {
                    let extended = kit.run(kit.queue().extend(vec![receipt], tenths(time)));
                    let extended = extended.into_iter().next().is_some_and(|one| one.is_ok());
                    let expected = self.model.extend(receipt, tenths(time));
                    ensure_eq!(extended, expected, format!("{op:?} worked"));
                }
            }
            Op::Letter { which, replay } => {
                let dead = model.dead();
                if !kit.has(Capability::DeadLetters) {
                    return Ok(kit);
                }
                let listed = kit.run(kit.queue().dead_letters(None, 100))?;
                let listed: Vec<_> = listed.iter().map(|letter| letter.id).collect();
                let expected: Vec<_> = dead.iter().map(|(_, id)| *id).collect();
                ensure_eq!(listed, expected, "dead letters");
                if let Some((number, id)) = dead.get(which) {
                    if replay {
                        ensure!(
                            kit.run(kit.queue().replay(*id))?,
                            "{number} is not replayed"
                        );
                        model.replay(*number);
                    } else {
                        ensure!(kit.run(kit.queue().discard(*id))?, "{number} is not there");
                        model.discard(*number);
                    }
                }
            }
            Op::Purge => {
                if kit.has(Capability::Inspect) {
                    ensure_eq!(kit.run(kit.queue().purge())?, model.purge(), "purged");
                }
            }
            Op::Pause { paused } => {
                if kit.has(Capability::Pause) {
                    kit.run(kit.queue().set_paused(paused))?;
                    model.paused = paused;
                }
            }
            Op::Reopen => {
                if kit.offered().survives >= Survives::ProcessKill {
                    model.reopen();
                    let kit = kit.reopened();
                    if is_real(&kit) {
                        // A server keeps the leases of the dead.
                        let leases = 2 * kit.setup.visibility;
                        kit.pass(leases);
                        model.pass(leases);
                    }
                    return Ok(kit);
                }
            }
        }
        Ok(kit)
    }

    fn earlier(&self, back: usize) -> Option<Receipt> {
        let at = self.receipts.len().checked_sub(back + 1)?;
        self.receipts.get(at).copied()
    }

    fn send<H: Harness>(&mut self, kit: &Kit<'_, H>, op: &Op) -> Result<(), Violation> {
        let Op::Send {
            key,
            priority,
            delay,
            ttl,
            dedup,
        } = *op
        else {
            return Ok(());
        };
        let number = self.sent;
        self.sent += 1;
        let mut row = Row::new(number, crate::message::MessageId::new(0));
        let mut message = Message::new(number.to_string());
        if key > 0 && kit.has(Capability::OrderedKeys) {
            message = message.key(key.to_string());
            row.key = Some(key);
        }
        if kit.has(Capability::Priority) {
            message = message.priority(priority);
            row.priority = priority;
        }
        if delay > 0 && kit.has(Capability::Delay) {
            message = message.delay(tenths(delay));
            row.not_before = self.model.now + tenths(delay);
        }
        if ttl > 0 && kit.has(Capability::Ttl) {
            message = message.ttl(tenths(ttl));
            row.expires = self.model.now.max(row.not_before) + tenths(ttl);
        }
        let dedup = Some(dedup).filter(|key| *key > 0 && kit.has(Capability::Dedup));
        if let Some(dedup) = dedup {
            message = message.dedup(dedup.to_string());
        }
        let sent = kit.try_send(message)?;
        let known = dedup.and_then(|key| self.model.duplicate(key));
        ensure_eq!(
            sent.is_duplicate(),
            known.is_some(),
            format!("{op:?} is a duplicate")
        );
        if let Some(known) = known {
            ensure_eq!(sent.id, known, "the id of a duplicate");
            return Ok(());
        }
        if let Some(key) = dedup {
            self.model.remember(key, sent.id, kit.setup.dedup_window);
        }
        row.id = sent.id;
        self.model.send(row);
        Ok(())
    }

    fn receive<H: Harness>(&mut self, kit: &Kit<'_, H>, max: usize) -> Result<(), Violation> {
        let expected = self.model.deliverable();
        let received = kit.receive(max)?;
        let got: Vec<u64> = received.iter().map(number).collect();
        let most = expected.len().min(max);
        // A server hands lapsed ones out as it notices them.
        if is_exact(&kit.offered()) && !is_real(kit) {
            ensure_eq!(got, expected[..most], "received");
        } else {
            let allowed = got.iter().all(|number| expected.contains(number));
            ensure!(allowed && got.len() == most, "{got:?} of {expected:?}");
        }
        for delivery in &received {
            let number = number(delivery);
            self.model
                .claim(number, delivery.receipt, kit.setup.visibility);
            self.receipts.push(delivery.receipt);
            let Some(row) = self.model.row(number) else {
                return Err(Violation::new(format!("{number} was not sent")));
            };
            ensure_eq!(delivery.id(), row.id, format!("the id of {number}"));
            ensure_eq!(
                (delivery.count, delivery.attempt),
                (row.count, row.count - row.base),
                format!("count and attempt of {number}")
            );
        }
        Ok(())
    }

    fn settle<H: Harness>(
        &mut self,
        kit: &Kit<'_, H>,
        back: usize,
        how: u64,
        delay: u64,
    ) -> Result<(), Violation> {
        let Some(receipt) = self.earlier(back) else {
            return Ok(());
        };
        if !kit.has(Capability::FencedSettle) {
            return Ok(());
        }
        let delay = if kit.has(Capability::Delay) { delay } else { 0 };
        let outcome = match how {
            0 => retry(tenths(delay)),
            1 if kit.has(Capability::DeadLetters) => reject("no"),
            _ => Outcome::Done,
        };
        let settled = match kit.settle(receipt, outcome.clone()) {
            Ok(()) => true,
            Err(SettleError::Stale) => false,
            Err(error) => return Err(error.into()),
        };
        let expected = self.model.settle(receipt, &outcome);
        ensure_eq!(
            settled,
            expected,
            format!("{outcome:?} of {receipt:?} worked")
        );
        Ok(())
    }

    /// At the end everything that is left comes, and once it is done, nothing.
    fn finish<H: Harness>(&mut self, kit: &Kit<'_, H>) -> Result<(), Violation> {
        if self.model.paused {
            kit.run(kit.queue().set_paused(false))?;
            self.model.paused = false;
        }
        let all = match is_real(kit) {
            true => 3 * kit.setup.visibility,
            false => 100 * SECOND,
        };
        kit.pass(all);
        self.model.pass(all);
        while self.model.live() > 0 {
            let before = self.receipts.len();
            self.receive(kit, 10)?;
            let new = self.receipts[before..].to_vec();
            ensure!(
                !new.is_empty(),
                "{} messages do not come",
                self.model.live()
            );
            for receipt in new {
                kit.settle(receipt, Outcome::Done)?;
                self.model.settle(receipt, &Outcome::Done);
            }
        }
        ensure_eq!(kit.receive(10)?.len(), 0, "what was received at the end");
        Ok(())
    }
}
