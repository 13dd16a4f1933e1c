//! Faults: what a script says, and what it means for one request.
//!
//! A fault of a single request is drawn from a hash of seed, operation, order, step and sending, so that the same
//! seed gives the same faults, however the requests are timed. Kills and hangs follow a timetable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dpat_core::{Entropy, SplitMix64};
use serde::{Deserialize, Serialize};

use super::config::{Config, Faults, Scenario};
use super::domain::{CARD_LIMIT_CENTS, Fnv, Order};
use super::input::explain;
use super::service::ports::{Peer, Step};
use super::workflow::COMPLETED;

/// The version of the script's form.
pub const VERSION: u32 = 1;
/// What a script for the shop says in `protocol`.
pub const PROTOCOL: &str = "shop";
/// How many nodes the shop has.
pub const NODES: u32 = 5;
/// Most operations in one script.
pub const OPS_MAX: usize = 10_000;
const MILLION: u32 = 1_000_000;

/// A plan of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawScript")]
pub struct Script {
    /// Version of the form.
    pub version: u32,
    /// Which system it is for.
    pub protocol: String,
    /// How many nodes it is for.
    pub nodes: u32,
    /// Seed of the draws.
    pub seed: u64,
    /// What happens.
    pub ops: Vec<Op>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    version: u32,
    protocol: String,
    nodes: u32,
    seed: u64,
    ops: Vec<Op>,
}

impl TryFrom<RawScript> for Script {
    type Error = String;

    fn try_from(raw: RawScript) -> Result<Self, String> {
        if raw.version != VERSION {
            return Err(format!("version: must be {VERSION}, is {}", raw.version));
        }
        if raw.protocol != PROTOCOL {
            return Err(format!("protocol: must be {PROTOCOL}, is {}", raw.protocol));
        }
        if raw.nodes != NODES {
            return Err(format!("nodes: must be {NODES}, is {}", raw.nodes));
        }
        if raw.ops.len() > OPS_MAX {
            return Err(format!(
                "ops: must be at most {OPS_MAX}, are {}",
                raw.ops.len()
            ));
        }
        Ok(Self {
            version: raw.version,
            protocol: raw.protocol,
            nodes: raw.nodes,
            seed: raw.seed,
            ops: raw.ops,
        })
    }
}

/// What kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Do {
    /// Answer with an error before anything happens.
    Error,
    /// Do the work, then close the connection without an answer.
    Drop,
    /// Answer late.
    Latency,
    /// Take requests and never answer.
    Hang,
    /// Kill the node and start it again on its store.
    Kill,
}

impl Do {
    /// Returns the name used in scripts and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Drop => "drop",
            Self::Latency => "latency",
            Self::Hang => "hang",
            Self::Kill => "kill",
        }
    }
}

/// One operation of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawOp")]
pub struct Op {
    /// From when on, in microseconds after the start of the run; not with `on_event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
    /// At which point of an order's flow; a kill only, and with `order_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_event: Option<String>,
    /// What.
    #[serde(rename = "do")]
    pub action: Do,
    /// Where.
    pub node: Peer,
    /// The one order that is hit, at its first sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// The one step that is hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// How many of a million requests are hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_million: Option<u32>,
    /// For how long: a hang, the time a killed node stays away, or the window of the other faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_us: Option<u64>,
    /// How much later a late answer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_us: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOp {
    at_us: Option<u64>,
    on_event: Option<String>,
    #[serde(rename = "do")]
    action: Do,
    node: Peer,
    order_id: Option<String>,
    step: Option<Step>,
    per_million: Option<u32>,
    for_us: Option<u64>,
    add_us: Option<u64>,
}

impl TryFrom<RawOp> for Op {
    type Error = String;

    fn try_from(raw: RawOp) -> Result<Self, String> {
        let op = Self {
            at_us: raw.at_us,
            on_event: raw.on_event,
            action: raw.action,
            node: raw.node,
            order_id: raw.order_id,
            step: raw.step,
            per_million: raw.per_million,
            for_us: raw.for_us,
            add_us: raw.add_us,
        };
        op.check()?;
        Ok(op)
    }
}

impl Op {
    fn check(&self) -> Result<(), String> {
        match (&self.on_event, self.at_us) {
            (None, None) => return Err("at_us: either this or on_event is needed".to_owned()),
            (Some(_), Some(_)) => {
                return Err("on_event: not together with at_us".to_owned());
            }
            (Some(event), None) => {
                if event != COMPLETED {
                    return Err(format!("on_event: must be {COMPLETED}, is {event}"));
                }
                if self.action != Do::Kill || self.node != Peer::Order {
                    return Err(
                        "on_event: only a kill of the order node can wait for it".to_owned()
                    );
                }
                if self.order_id.is_none() {
                    return Err("order_id: needed with on_event".to_owned());
                }
            }
            (None, Some(_)) => {}
        }
        match self.action {
            Do::Error | Do::Drop | Do::Latency => {
                match (self.per_million, &self.order_id) {
                    (Some(rate), None) if rate <= MILLION => {}
                    (None, Some(_)) => {}
                    (Some(rate), None) => {
                        return Err(format!("per_million: must be at most {MILLION}, is {rate}"));
                    }
                    _ => {
                        return Err("per_million: either this or order_id is needed".to_owned());
                    }
                }
                if (self.action == Do::Latency) != self.add_us.is_some() {
                    return Err("add_us: needed with latency, and only there".to_owned());
                }
            }
            Do::Hang | Do::Kill => {
                if self.for_us.is_none() {
                    return Err("for_us: needed with hang and kill".to_owned());
                }
                if self.per_million.is_some() || self.step.is_some() || self.add_us.is_some() {
                    return Err(
                        "per_million, step, add_us: a hang or a kill is of the whole node"
                            .to_owned(),
                    );
                }
                if self.order_id.is_some() && self.on_event.is_none() {
                    return Err("order_id: a hang or a timed kill is of no order".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Returns when the operation ends, in microseconds after the start of the run.
    fn end_us(&self) -> u64 {
        match (self.at_us, self.for_us) {
            (Some(at), Some(length)) => at.saturating_add(length),
            _ => u64::MAX,
        }
    }

    fn covers(&self, at_us: u64) -> bool {
        self.at_us.is_some_and(|from| from <= at_us) && at_us < self.end_us()
    }

    /// Returns how long the operation lasts.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_micros(self.for_us.unwrap_or(0))
    }

    fn timed(action: Do, node: Peer, at_us: u64, for_us: Option<u64>) -> Self {
        Self {
            at_us: Some(at_us),
            on_event: None,
            action,
            node,
            order_id: None,
            step: None,
            per_million: None,
            for_us,
            add_us: None,
        }
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Pass,
    /// It is answered with an error, and has no effect.
    Error,
    /// It has its effect, and no answer.
    Drop,
    /// It is served later.
    Late(Duration),
    /// It is never served; the connection is closed at that time.
    Hang {
        /// In microseconds after the start of the run.
        until_us: u64,
    },
}

/// Which request, as a script sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Where it arrives.
    pub node: Peer,
    /// For what.
    pub step: Step,
    /// Which order.
    pub order_id: &'a str,
    /// Which sending, from 0.
    pub attempt: u32,
    /// When it arrives, in microseconds after the start of the run.
    pub at_us: u64,
}

impl Script {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self {
            version: VERSION,
            protocol: PROTOCOL.to_owned(),
            nodes: NODES,
            seed: 0,
            ops: Vec::new(),
        }
    }

    /// Decides what happens to a request: the first operation that hits it.
    #[must_use]
    pub fn fate(&self, subject: Subject<'_>) -> Fate {
        let hang = self.ops.iter().find(|op| {
            op.action == Do::Hang && op.node == subject.node && op.covers(subject.at_us)
        });
        if let Some(op) = hang {
            return Fate::Hang {
                until_us: op.end_us(),
            };
        }
        for (number, op) in self.ops.iter().enumerate() {
            if !self.hits(number, op, subject) {
                continue;
            }
            match op.action {
                Do::Error => return Fate::Error,
                Do::Drop => return Fate::Drop,
                Do::Latency => {
                    return Fate::Late(Duration::from_micros(op.add_us.unwrap_or(0)));
                }
                Do::Hang | Do::Kill => {}
            }
        }
        Fate::Pass
    }

    fn hits(&self, number: usize, op: &Op, subject: Subject<'_>) -> bool {
        if op.node != subject.node
            || op.step.is_some_and(|step| step != subject.step)
            || !op.covers(subject.at_us)
        {
            return false;
        }
        match (&op.order_id, op.per_million) {
            (Some(order_id), _) => order_id == subject.order_id && subject.attempt == 0,
            (None, Some(rate)) => {
                let mut hash = Fnv::default();
                hash.number(self.seed);
                hash.number(number as u64);
                hash.text(subject.order_id);
                hash.text(subject.step.name());
                hash.number(u64::from(subject.attempt));
                hash.finish() % u64::from(MILLION) < u64::from(rate)
            }
            (None, None) => false,
        }
    }

    /// Says whether the order node dies at this point, and for how long.
    #[must_use]
    pub fn dies_at(&self, point: &str, order_id: &str) -> Option<Duration> {
        let op = self.ops.iter().find(|op| {
            op.on_event.as_deref() == Some(point) && op.order_id.as_deref() == Some(order_id)
        })?;
        Some(op.length())
    }

    /// Returns the timed operations of a kind.
    pub fn timed(&self, action: Do) -> impl Iterator<Item = (u64, &Op)> {
        let of_kind = move |op: &&Op| op.action == action;
        self.ops
            .iter()
            .filter(of_kind)
            .filter_map(|op| Some((op.at_us?, op)))
    }

    /// Returns the orders that the script names.
    pub fn orders(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().filter_map(|op| op.order_id.as_deref())
    }
}

/// Returns the plan of a configuration; `orders` are the orders of the run, in order.
#[must_use]
pub fn plan(config: &Config, orders: impl Iterator<Item = Order>) -> Script {
    let length = u64::try_from(config.length().as_micros()).unwrap_or(u64::MAX);
    match (&config.faults, config.scenario) {
        (Faults::None, _) => Script::none(),
        (Faults::Script(script), _) => script.clone(),
        (Faults::Seeded, Scenario::Shop) => seeded(config, orders, config.orders),
        (Faults::Seeded, Scenario::RetryStorm) => {
            let mut op = Op::timed(Do::Error, Peer::Payment, length / 5, Some(length / 2));
            op.step = Some(Step::Charge);
            op.per_million = Some(700_000);
            Script {
                seed: config.seed,
                ops: vec![op],
                ..Script::none()
            }
        }
        (Faults::Seeded, Scenario::CascadingFailure) => {
            let hang = (length / 10 * 3).clamp(2_500_000, 10_000_000);
            Script {
                seed: config.seed,
                ops: vec![Op::timed(Do::Hang, Peer::Payment, length / 4, Some(hang))],
                ..Script::none()
            }
        }
    }
}

/// A script that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It is no script.
    #[error("{}:{line}:{column}: {field}: {reason}", .file.display())]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// The field that is wrong.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("{}:1:1: file: {source}", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads a script from a file.
///
/// # Errors
/// [`ScriptError`].
pub fn read(file: &Path) -> Result<Script, ScriptError> {
    let text = std::fs::read(file).map_err(|source| ScriptError::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        let (field, reason) = explain(&text, &error);
        ScriptError::Invalid {
            file: file.to_owned(),
            line: error.line().max(1),
            column: error.column().max(1),
            field,
            reason,
        }
    })
}

/// Draws the plan of a run: every kind of fault, and at least one of each that a pattern is there for.
///
/// `orders` are the orders of the run, in order.
fn seeded(config: &Config, orders: impl Iterator<Item = Order>, count: u64) -> Script {
    let entropy = SplitMix64::stream(config.seed, "faults");
    let length = u64::try_from(config.length().as_micros()).unwrap_or(u64::MAX);
    // A few per cent up or down, so that seeds differ.
    let at = |percent: u64| {
        let jitter = entropy.below(length / 25 + 1);
        length / 100 * percent + jitter
    };
    let down = (length / 16).clamp(200_000, 2_000_000);
    let hang = (length / 10).clamp(1_500_000, 3_000_000);
    let mut ops = Vec::new();
    targeted(&mut ops, &entropy, orders, count);
    for node in [Peer::Order, Peer::Inventory, Peer::Payment, Peer::Shipping] {
        let mut rate = |action, per_million, add_us| {
            let mut op = Op::timed(action, node, 0, None);
            op.per_million = Some(per_million);
            op.add_us = add_us;
            ops.push(op);
        };
        rate(Do::Error, 15_000, None);
        rate(Do::Drop, 8_000, None);
        rate(Do::Latency, 20_000, Some(20_000 + entropy.below(40_000)));
    }
    ops.push(Op::timed(Do::Kill, Peer::Inventory, at(15), Some(down)));
    ops.push(Op::timed(Do::Hang, Peer::Payment, at(32), Some(hang)));
    ops.push(Op::timed(Do::Kill, Peer::Shipping, at(66), Some(down)));
    ops.push(Op::timed(Do::Kill, Peer::Payment, at(76), Some(down)));
    ops.push(Op::timed(Do::Kill, Peer::Gateway, at(88), Some(down / 2)));
    Script {
        version: VERSION,
        protocol: PROTOCOL.to_owned(),
        nodes: NODES,
        seed: entropy.next_u64(),
        ops,
    }
}

/// Picks one order each for a lost request, a lost answer, and a kill between commit and event.
fn targeted(
    ops: &mut Vec<Op>,
    entropy: &SplitMix64,
    orders: impl Iterator<Item = Order>,
    count: u64,
) {
    let near = |percent: u64| count * percent / 100 + entropy.below(count / 25 + 1);
    let mut wanted = vec![
        (near(6), Do::Error),
        (near(9), Do::Drop),
        (near(55), Do::Kill),
    ];
    wanted.reverse();
    for (index, order) in (0_u64..).zip(orders) {
        let Some((from, action)) = wanted.last().copied() else {
            return;
        };
        // Only an order that nothing but a fault can stop shows what the pattern is for.
        let plain = order.payment_cents <= CARD_LIMIT_CENTS
            && order
                .items
                .iter()
                .all(|item| !item.sku.starts_with("rare-"));
        if index < from || !plain {
            continue;
        }
        wanted.pop();
        let mut op = Op::timed(action, Peer::Payment, 0, None);
        op.order_id = Some(order.order_id);
        op.step = Some(Step::Charge);
        if action == Do::Kill {
            op.at_us = None;
            op.on_event = Some(COMPLETED.to_owned());
            op.node = Peer::Order;
            op.step = None;
            op.for_us = Some(300_000);
        }
        ops.push(op);
    }
}
