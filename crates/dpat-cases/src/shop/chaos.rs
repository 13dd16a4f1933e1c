//! Faults: what a script means for the shop, and for one request.
//!
//! A fault of a single request is drawn from a hash of seed, operation, order, step and sending, so that the same
//! seed gives the same faults, however the requests are timed. Kills and hangs follow a timetable.

mod fate;

pub use fate::{Fate, RequestFaults, Subject};

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dpat_core::{Entropy, SplitMix64};
use dpat_model::{Accept, Fault, InputError, LinkSet, MILLION, NodeIx, Op, Script, Trigger};

use super::config::{Config, Faults, Nodes, Scenario};
use super::domain::{CARD_LIMIT_CENTS, Order};
use super::service::ports::{Peer, Step};
use super::service::shipping::RECEIVED;
use super::workflow::COMPLETED;

/// What a script for the shop says in `protocol`.
pub const PROTOCOL: &str = "shop";
/// The services as scripts name them; a script may also number them, in this order.
pub const NODES: [&str; 5] = ["gateway", "order", "inventory", "payment", "shipping"];

/// A kind of fault that a run reports by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Answered with an error before anything happened.
    Error,
    /// The work was done, and the connection closed without an answer.
    Drop,
    /// Answered late.
    Latency,
    /// Taken and never answered.
    Hang,
    /// The node was killed and started again on its store.
    Kill,
}

impl Do {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Drop,
        Self::Latency,
        Self::Hang,
        Self::Kill,
    ];

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

/// Returns the service that a script means.
///
/// # Panics
/// If the script is not for five nodes; scripts that were read are.
#[must_use]
pub fn peer(node: NodeIx) -> Peer {
    let found = Peer::ALL.into_iter().find(|peer| self::node(*peer) == node);
    found.expect("a script for the five services names no other")
}

/// Returns how a script numbers a service.
#[must_use]
pub const fn node(peer: Peer) -> NodeIx {
    NodeIx(match peer {
        Peer::Gateway => 0,
        Peer::Order => 1,
        Peer::Inventory => 2,
        Peer::Payment => 3,
        Peer::Shipping => 4,
    })
}

/// Makes a script without faults.
#[must_use]
pub fn none(seed: u64) -> Script {
    let names = NODES.iter().map(|name| (*name).to_owned()).collect();
    Script::new(PROTOCOL, dpat_model::Nodes::Named(names), seed)
}

/// A fault of single requests, as far as all of them have it in common.
struct Request<'a> {
    kind: Do,
    node: NodeIx,
    step: Option<&'a str>,
    order_id: Option<&'a str>,
    per_million: Option<u32>,
    add_us: u64,
    for_us: Option<u64>,
}

fn request(fault: &Fault) -> Option<Request<'_>> {
    macro_rules! of {
        ($kind:ident, $fault:ident $(, $add:ident)?) => {
            if let Fault::$fault {
                node,
                step,
                order_id,
                per_million,
                for_us,
                $($add,)?
            } = fault
            {
                let add_us = 0;
                $(let add_us = add_us + $add;)?
                return Some(Request {
                    kind: Do::$kind,
                    node: *node,
                    step: step.as_deref(),
                    order_id: order_id.as_deref(),
                    per_million: *per_million,
                    add_us,
                    for_us: *for_us,
                });
            }
        };
    }
    of!(Error, Error);
    of!(Drop, Drop);
    of!(Latency, Latency, add_us);
    of!(Hang, Hang);
    None
}

impl Request<'_> {
    /// Says whether it is of the whole node.
    fn is_of_all(&self) -> bool {
        self.step.is_none() && self.order_id.is_none() && self.per_million.is_none()
    }
}

/// Refuses what the shop cannot do; `simulated` is whether it runs in the simulator.
///
/// # Errors
/// The field and the reason.
pub fn accept(op: &Op, simulated: bool) -> Result<(), (&'static str, String)> {
    let refuse = |field, reason: &str| Err((field, reason.to_owned()));
    if let Some(request) = request(&op.fault) {
        if !matches!(op.when, Trigger::At(_)) {
            return refuse("on_event", "a fault of requests begins at a time");
        }
        if request
            .step
            .is_some_and(|step| Step::by_name(step).is_none())
        {
            let names = Step::ALL.map(Step::name).join(", ");
            return Err(("step", format!("must be one of {names}")));
        }
        if request.kind == Do::Hang && request.for_us.is_none() {
            return refuse("for_us", "needed with hang");
        }
        return Ok(());
    }
    match &op.fault {
        Fault::Kill {
            node,
            order_id,
            for_us,
        } => match &op.when {
            _ if for_us.is_none() && !simulated => refuse("for_us", "needed with kill"),
            Trigger::Point { name, .. } => {
                let passes = match name.as_str() {
                    COMPLETED => Peer::Order,
                    RECEIVED => Peer::Shipping,
                    _ => {
                        let reason = format!("must be {COMPLETED:?} or {RECEIVED:?}");
                        return Err(("on_event", reason));
                    }
                };
                if *node != self::node(passes) {
                    let reason = format!("only the {passes} node passes this point");
                    return Err(("node", reason));
                }
                if order_id.is_none() && !simulated {
                    return refuse("order_id", "needed with a named on_event");
                }
                Ok(())
            }
            _ if order_id.is_some() => refuse("order_id", "needs a named on_event"),
            Trigger::Event(_) if !simulated => refuse("on_event", "needs a simulated run"),
            _ => Ok(()),
        },
        Fault::Calls { client, .. } if *client == 0 => Ok(()),
        Fault::Calls { .. } => refuse("client", "the customers are client 0"),
        fault => match refuses(fault) {
            Some(reason) => refuse("do", reason),
            None if simulated => Ok(()),
            None => refuse("do", "needs a simulated run"),
        },
    }
}

/// Refuses a fault that no run of the shop can have, and says why.
#[must_use]
pub fn refuses(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Garble { .. } => Some("the shop does not garble answers"),
        Fault::DiskTorn { .. }
        | Fault::DiskLost { .. }
        | Fault::DiskReorder { .. }
        | Fault::DiskCorrupt { .. }
        | Fault::DiskError { .. }
        | Fault::DiskFull { .. } => Some("the stores of the shop are not on a simulated disk"),
        Fault::ClockOffset { .. }
        | Fault::ClockDrift { .. }
        | Fault::ClockJump { .. }
        | Fault::ClockFreeze { .. } => Some("the clocks of the shop cannot be changed"),
        _ => None,
    }
}

/// Returns which orders are sent, by their numbers from 0: all, unless the script says otherwise.
pub fn kept(script: &Script) -> impl Fn(u64) -> bool {
    let lists = script.ops.iter().filter_map(|op| match &op.fault {
        Fault::Calls { keep, .. } => Some(keep.clone()),
        _ => None,
    });
    let lists: Vec<Vec<u64>> = lists.collect();
    move |number| lists.iter().all(|keep| keep.binary_search(&number).is_ok())
}

/// Says whether the node that passes this point dies there, and for how long.
#[must_use]
pub fn dies_at(script: &Script, point: &str, order_id: &str) -> Option<Duration> {
    script
        .ops
        .iter()
        .find_map(|op| match (&op.when, &op.fault) {
            (
                Trigger::Point { name, .. },
                Fault::Kill {
                    order_id: Some(id),
                    for_us,
                    ..
                },
            ) if name == point && id == order_id => {
                Some(Duration::from_micros(for_us.unwrap_or(0)))
            }
            _ => None,
        })
}

/// A fault of a whole node that follows a timetable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Which service.
    pub peer: Peer,
    /// From when on, in microseconds after the start of the run.
    pub at_us: u64,
    /// For how long, in microseconds.
    pub for_us: u64,
}

/// Returns the kills that follow the timetable.
pub fn kills(script: &Script) -> impl Iterator<Item = Timed> {
    script
        .ops
        .iter()
        .filter_map(|op| match (&op.when, &op.fault) {
            (Trigger::At(at_us), Fault::Kill { node, for_us, .. }) => Some(Timed {
                peer: peer(*node),
                at_us: *at_us,
                for_us: for_us.unwrap_or(0),
            }),
            _ => None,
        })
}

/// Returns the times at which a whole service hangs.
pub fn hangs(script: &Script) -> impl Iterator<Item = Timed> {
    script.ops.iter().filter_map(|op| {
        let request = request(&op.fault)?;
        match op.when {
            Trigger::At(at_us) if request.kind == Do::Hang && request.is_of_all() => Some(Timed {
                peer: peer(request.node),
                at_us,
                for_us: request.for_us.unwrap_or(0),
            }),
            _ => None,
        }
    })
}

/// Returns the order that an operation names.
fn order_of(op: &Op) -> Option<(Do, &str)> {
    if let Some(request) = request(&op.fault) {
        return Some((request.kind, request.order_id?));
    }
    match &op.fault {
        Fault::Kill {
            order_id: Some(id), ..
        } => Some((Do::Kill, id)),
        _ => None,
    }
}

/// Returns the orders that the script names.
pub fn orders(script: &Script) -> impl Iterator<Item = &str> {
    let named = script.ops.iter().filter_map(order_of);
    named.map(|(_, order_id)| order_id)
}

/// Says whether the script means this one order with a fault of this kind.
#[must_use]
pub fn means(script: &Script, kind: Do, order_id: &str) -> bool {
    let mut named = script.ops.iter().filter_map(order_of);
    named.any(|named| named == (kind, order_id))
}

/// Returns the plan of a configuration; `orders` are the orders of the run, in order.
#[must_use]
pub fn plan(config: &Config, orders: impl Iterator<Item = Order>) -> Script {
    let length = u64::try_from(config.length().as_micros()).unwrap_or(u64::MAX);
    let payment = node(Peer::Payment);
    let one = |at_us, fault| {
        let mut script = none(config.seed);
        let when = Trigger::At(at_us);
        script.ops.push(Op { when, fault });
        script
    };
    match (&config.faults, config.scenario) {
        (Faults::None, _) => none(0),
        (Faults::Script(script), _) => script.clone(),
        (Faults::Seeded, Scenario::Shop) => seeded(config, orders, config.orders),
        (Faults::Seeded, Scenario::RetryStorm) => one(
            length / 5,
            Fault::Error {
                node: payment,
                step: Some(Step::Charge.name().to_owned()),
                order_id: None,
                per_million: Some(700_000),
                for_us: Some(length / 2),
            },
        ),
        (Faults::Seeded, Scenario::CascadingFailure) => {
            let for_us = (length / 10 * 3).clamp(2_500_000, 10_000_000);
            one(length / 4, hang(payment, for_us))
        }
        (Faults::Seeded, Scenario::PoisonMessage) => {
            let mut script = none(config.seed);
            let hit = [config.orders / 5, config.orders / 2, config.orders * 4 / 5];
            let mut plain = orders.filter(is_plain);
            let mut passed = 0;
            for from in hit {
                let skip = usize::try_from(from - passed).unwrap_or(0);
                let Some(order) = plain.nth(skip) else { break };
                passed = from + 1;
                let when = Trigger::At(0);
                let fault = Fault::Error {
                    node: node(Peer::Shipping),
                    step: Some(Step::Pack.name().to_owned()),
                    order_id: Some(order.order_id),
                    per_million: Some(MILLION),
                    for_us: None,
                };
                script.ops.push(Op { when, fault });
            }
            script
        }
        (Faults::Seeded, Scenario::SlowConsumer) => one(length / 5, slow_packing(length / 2)),
    }
}

/// Only an order that nothing but a fault can stop shows what a pattern is for.
fn is_plain(order: &Order) -> bool {
    let rare = |item: &super::domain::Item| item.sku.starts_with("rare-");
    order.payment_cents <= CARD_LIMIT_CENTS && !order.items.iter().any(rare)
}

/// Packing takes longer than the orders leave it.
fn slow_packing(for_us: u64) -> Fault {
    Fault::Latency {
        node: node(Peer::Shipping),
        step: Some(Step::Pack.name().to_owned()),
        order_id: None,
        per_million: None,
        add_us: 400_000,
        for_us: Some(for_us.clamp(1_000_000, 5_000_000)),
    }
}

fn hang(node: NodeIx, for_us: u64) -> Fault {
    Fault::Hang {
        node,
        step: None,
        order_id: None,
        per_million: None,
        for_us: Some(for_us),
    }
}

/// A script that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It is no script, or not one for this run.
    #[error(transparent)]
    Invalid(#[from] InputError),
    /// The file cannot be read.
    #[error("{}:1:1: file: {source}", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads a script from a file; `simulated` is whether it is for the simulator.
///
/// # Errors
/// [`ScriptError`].
pub fn read(file: &Path, simulated: bool) -> Result<Script, ScriptError> {
    let unreadable = |source| ScriptError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let mut text = String::new();
    // One byte more than is allowed tells a file that is too large.
    let limit = Script::MAX_BYTES as u64 + 1;
    File::open(file)
        .and_then(|opened| opened.take(limit).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(parse(&text, &file.display().to_string(), simulated)?)
}

/// Reads a script; `file` is the name that errors carry.
///
/// # Errors
/// [`InputError`].
pub fn parse(text: &str, file: &str, simulated: bool) -> Result<Script, InputError> {
    let accept = Accept {
        protocol: Some(PROTOCOL),
        names: &NODES,
        op: &|op| accept(op, simulated),
        ..Accept::default()
    };
    Script::parse_for(text, file, &accept)
}

/// Scripts inside other values, in their own form.
pub mod as_json {
    use dpat_model::Script;
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::{Error as _, Serialize, Serializer};
    use serde_json::Value;

    /// Writes the script as the object that it is in a file.
    ///
    /// # Errors
    /// Whatever the serializer reports.
    pub fn serialize<S: Serializer>(script: &Script, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&script.to_json()).map_err(S::Error::custom)?;
        value.serialize(serializer)
    }

    /// Reads the object.
    ///
    /// # Errors
    /// Whatever a script may not be.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Script, D::Error> {
        let value = Value::deserialize(deserializer)?;
        super::parse(&value.to_string(), "script", true).map_err(D::Error::custom)
    }
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
    let hang_us = (length / 10).clamp(1_500_000, 3_000_000);
    let mut ops = Vec::new();
    targeted(&mut ops, (config.seed, &entropy), orders, count);
    let mut put = |at_us, fault| {
        let when = Trigger::At(at_us);
        ops.push(Op { when, fault });
    };
    for peer in [Peer::Order, Peer::Inventory, Peer::Payment, Peer::Shipping] {
        let node = node(peer);
        let (step, order_id, for_us) = (None, None, None);
        put(
            0,
            Fault::Error {
                node,
                step: step.clone(),
                order_id: order_id.clone(),
                per_million: Some(15_000),
                for_us,
            },
        );
        put(
            0,
            Fault::Drop {
                node,
                step: step.clone(),
                order_id: order_id.clone(),
                per_million: Some(8_000),
                for_us,
            },
        );
        put(
            0,
            Fault::Latency {
                node,
                step,
                order_id,
                per_million: Some(20_000),
                add_us: 20_000 + entropy.below(40_000),
                for_us,
            },
        );
    }
    let kill = |peer, for_us| Fault::Kill {
        node: node(peer),
        order_id: None,
        for_us: Some(for_us),
    };
    put(length / 100 * 4, slow_packing(length / 5));
    put(at(15), kill(Peer::Inventory, down));
    put(at(32), hang(node(Peer::Payment), hang_us));
    put(at(66), kill(Peer::Shipping, down));
    put(at(76), kill(Peer::Payment, down));
    put(at(88), kill(Peer::Gateway, down / 2));
    if config.nodes == Nodes::Simulated {
        simulated(config.seed, length, down, &mut put);
    }
    let mut script = none(entropy.next_u64());
    script.ops = ops;
    script
}

/// Adds what only a simulated machine and network can suffer, and keeps the rest as it is.
fn simulated(seed: u64, length: u64, down: u64, put: &mut impl FnMut(u64, Fault)) {
    let entropy = SplitMix64::stream(seed, "simulated faults");
    let at = |percent: u64| length / 100 * percent + entropy.below(length / 25 + 1);
    let link = LinkSet::ALL;
    let for_us = None;
    put(
        0,
        Fault::Loss {
            link,
            per_million: 1_000,
            for_us,
        },
    );
    put(
        0,
        Fault::Duplicate {
            link,
            per_million: 5_000,
            for_us,
        },
    );
    let for_us = Some(down);
    put(
        at(6),
        Fault::Isolate {
            node: node(Peer::Inventory),
            for_us,
        },
    );
    put(
        at(24),
        Fault::Crash {
            node: node(Peer::Shipping),
            for_us,
        },
    );
    put(
        at(48),
        Fault::Cut {
            link: LinkSet::one(node(Peer::Order), node(Peer::Payment)),
            for_us,
        },
    );
    put(
        at(58),
        Fault::Crash {
            node: node(Peer::Order),
            for_us,
        },
    );
}

/// What hits one order.
#[derive(Clone, Copy)]
enum Target {
    LostRequest,
    LostAnswer,
    Kill(Peer, &'static str),
}

/// Picks one order each for a lost request, a lost answer, a kill between commit and event, and one between the receipt of an
/// event and its effect.
fn targeted(
    ops: &mut Vec<Op>,
    (seed, entropy): (u64, &SplitMix64),
    orders: impl Iterator<Item = Order>,
    count: u64,
) {
    let near = |percent: u64| count * percent / 100 + entropy.below(count / 25 + 1);
    let mut wanted = vec![
        (near(6), Target::LostRequest),
        (near(9), Target::LostAnswer),
        (near(55), Target::Kill(Peer::Order, COMPLETED)),
    ];
    // Further kinds of faults do not change the former.
    let later = SplitMix64::stream(seed, "shipment faults");
    let received = count * 78 / 100 + later.below(count / 25 + 1);
    wanted.push((received, Target::Kill(Peer::Shipping, RECEIVED)));
    wanted.reverse();
    for (index, order) in (0_u64..).zip(orders) {
        let Some((from, action)) = wanted.last().copied() else {
            return;
        };
        if index < from || !is_plain(&order) {
            continue;
        }
        wanted.pop();
        let order_id = Some(order.order_id);
        let step = Some(Step::Charge.name().to_owned());
        let (node, per_million, for_us) = (node(Peer::Payment), None, None);
        let fault = match action {
            Target::LostRequest => Fault::Error {
                node,
                step,
                order_id,
                per_million,
                for_us,
            },
            Target::LostAnswer => Fault::Drop {
                node,
                step,
                order_id,
                per_million,
                for_us,
            },
            Target::Kill(peer, _) => Fault::Kill {
                node: self::node(peer),
                order_id,
                for_us: Some(300_000),
            },
        };
        let when = match action {
            Target::Kill(_, name) => Trigger::Point {
                name: name.to_owned(),
                nth: 1,
            },
            _ => Trigger::At(0),
        };
        ops.push(Op { when, fault });
    }
}
