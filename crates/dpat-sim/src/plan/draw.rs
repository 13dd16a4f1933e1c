//! From a plan and a seed to a script.

use dpat_model::{Delay, Fault, LinkSet, NodeIx, Nodes, Op, Script, Trigger};

use super::{Crashes, Family, Plan};
use crate::Stream;

/// The most episodes of one kind, such as partitions or the crashes of one slot.
const EPISODES_MAX: u64 = 16;
/// The most nodes that crash at the same time.
const SLOTS_MAX: u64 = 16;
/// The latest event at which a crash may strike, if it strikes at an event.
const EVENT_MAX: u64 = 1 << 14;
/// The latest passing of a point at which a crash may strike.
const NTH_MAX: u64 = 1 << 8;
/// Tells the stream that switches a family from those of the run, which count nodes.
const SWARM: u64 = u64::MAX;
/// Half of the seeds, in parts per million.
const HALF: u32 = 500_000;
/// How many episodes last until everything heals, in parts per million.
const FOR_EVER: u32 = 125_000;
/// The longest drawn mean of a delay.
const DELAY_MAX_US: u64 = 100_000;

impl Plan {
    /// Draws the script of a seed.
    ///
    /// Swarm testing (Groce et al. 2012): each family is off in half of the seeds, so that one kind of fault does not
    /// always mask another. A family draws from streams of its own; whether another is allowed, or drawn, moves
    /// nothing. `kinds` are the kinds of messages, at which crashes may be triggered.
    #[must_use]
    pub fn script(&self, protocol: &str, nodes: u32, kinds: &[&str], seed: u64) -> Script {
        let mut draw = Draw {
            plan: self,
            nodes: u64::from(nodes),
            kinds,
            seed,
            chaos_us: micros(self.chaos),
            ops: Vec::new(),
        };
        for family in self.families.iter() {
            if swarm(seed, family) {
                draw.family(family);
            }
        }
        let Draw { mut ops, .. } = draw;
        // Stable: families keep their order among equal times, and triggered operations come last.
        ops.sort_by_key(|op| match op.when {
            Trigger::At(us) => (0, us),
            _ => (1, 0),
        });
        let mut script = Script::new(protocol, Nodes::Count(nodes), seed);
        script.ops = ops;
        script
    }

    /// Returns the families that a seed draws from.
    pub fn drawn(&self, seed: u64) -> impl Iterator<Item = Family> {
        self.families
            .iter()
            .filter(move |family| swarm(seed, *family))
    }
}

fn swarm(seed: u64, family: Family) -> bool {
    Stream::new(seed, family.name(), SWARM).chance(HALF)
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

struct Draw<'a> {
    plan: &'a Plan,
    nodes: u64,
    kinds: &'a [&'a str],
    seed: u64,
    chaos_us: u64,
    ops: Vec<Op>,
}

impl Draw<'_> {
    fn family(&mut self, family: Family) {
        match family {
            Family::Delay => self.delay(),
            Family::Loss => self.loss(),
            Family::Duplicate => self.duplicate(),
            Family::Reorder => self.reorder(),
            Family::Capacity => self.capacity(),
            Family::Partition => self.partition(),
            Family::Hold => self.hold(),
            Family::Crash => self.crash(),
            Family::Pause => self.pause(),
            Family::Clock => self.clock(),
            Family::Disk => self.disk(),
        }
    }

    fn stream(&self, draws: &'static str, index: u64) -> Stream {
        Stream::new(self.seed, draws, index)
    }

    fn push(&mut self, at_us: u64, fault: Fault) {
        let when = Trigger::At(at_us);
        self.ops.push(Op { when, fault });
    }

    /// A base rule for all links, and now and then another one for some links.
    fn delay(&mut self) {
        let mut stream = self.stream("draw.delay", 0);
        let delay = self.distribution(&mut stream);
        let (link, for_us) = (LinkSet::ALL, None);
        let base = Fault::Delay {
            link,
            delay,
            for_us,
        };
        self.push(0, base);
        self.link_episodes(&mut stream, |draw, stream, link, for_us| Fault::Delay {
            link,
            delay: draw.distribution(stream),
            for_us,
        });
    }

    fn loss(&mut self) {
        let mut stream = self.stream("draw.loss", 0);
        let rate = |stream: &mut Stream| rate(stream, 1_000, 300_000);
        let (link, for_us) = (LinkSet::ALL, None);
        let per_million = rate(&mut stream);
        let base = Fault::Loss {
            link,
            per_million,
            for_us,
        };
        self.push(0, base);
        self.link_episodes(&mut stream, |_, stream, link, for_us| Fault::Loss {
            link,
            per_million: rate(stream) * 3,
            for_us,
        });
    }

    fn duplicate(&mut self) {
        let mut stream = self.stream("draw.duplicate", 0);
        let (link, for_us) = (LinkSet::ALL, None);
        let per_million = rate(&mut stream, 1_000, 500_000);
        let base = Fault::Duplicate {
            link,
            per_million,
            for_us,
        };
        self.push(0, base);
    }

    fn reorder(&mut self) {
        let mut stream = self.stream("draw.reorder", 0);
        let (link, for_us) = (LinkSet::ALL, None);
        let per_million = rate(&mut stream, 1_000, 500_000);
        let delay = self.distribution(&mut stream);
        let base = Fault::Reorder {
            link,
            per_million,
            delay,
            for_us,
        };
        self.push(0, base);
    }

    fn capacity(&mut self) {
        let mut stream = self.stream("draw.capacity", 0);
        self.link_episodes(&mut stream, |_, stream, link, for_us| Fault::Capacity {
            link,
            bytes_per_s: spread(stream, 1 << 12, 1 << 24),
            for_us,
        });
    }

    fn hold(&mut self) {
        let mut stream = self.stream("draw.hold", 0);
        self.link_episodes(&mut stream, |_, _, link, for_us| Fault::Hold {
            link,
            for_us,
        });
    }

    fn partition(&mut self) {
        if self.nodes < 2 {
            return;
        }
        let mut stream = self.stream("draw.partition", 0);
        let stream = &mut stream;
        for _ in 0..spread(stream, 1, EPISODES_MAX) {
            let at_us = stream.below(self.chaos_us);
            let for_us = self.for_us(stream, at_us, self.chaos_us / 2);
            let shapes = if self.nodes > 2 { 7 } else { 5 };
            let fault = match stream.below(shapes) {
                0 => Fault::Isolate {
                    node: self.node(stream),
                    for_us,
                },
                1 => Fault::Halves {
                    group: self.group(stream),
                    for_us,
                },
                2 => Fault::OneWay {
                    link: self.link(stream),
                    for_us,
                },
                3 => Fault::Cut {
                    link: self.link(stream),
                    for_us,
                },
                4 => Fault::Flap {
                    link: self.link(stream),
                    down_us: spread(stream, 1_000, self.chaos_us / 8),
                    up_us: spread(stream, 1_000, self.chaos_us / 8),
                    for_us,
                },
                5 => Fault::Ring { for_us },
                _ => Fault::Bridge {
                    node: self.node(stream),
                    group: self.group(stream),
                    for_us,
                },
            };
            self.push(at_us, fault);
        }
    }

    /// Crashes are drawn in slots. In each at most one node is down at any time, so that no more nodes are down than
    /// there are slots.
    fn crash(&mut self) {
        let slots = u64::from(self.plan.down_max).min(self.nodes).min(SLOTS_MAX);
        if slots == 0 {
            return;
        }
        let used = 1 + self.stream("draw.crash.slots", 0).below(slots);
        for slot in 0..used {
            let mut stream = self.stream("draw.crash", slot);
            let stream = &mut stream;
            if stream.below(3) == 0 {
                self.triggered_crashes(stream, slots);
            } else {
                self.timed_crashes(stream);
            }
        }
    }

    /// Nobody knows when these strike: only one fits into a slot, unless every node may be down anyway.
    fn triggered_crashes(&mut self, stream: &mut Stream, slots: u64) {
        let free = slots == self.nodes && self.plan.crashes == Crashes::Recovery;
        let crashes = spread(stream, 1, EPISODES_MAX);
        for _ in 0..if free { crashes } else { 1 } {
            let when = self.trigger(stream);
            let for_us = self.down_us(stream);
            let fault = self.crash_of(stream, for_us);
            self.ops.push(Op { when, fault });
        }
    }

    fn timed_crashes(&mut self, stream: &mut Stream) {
        let gap = spread(stream, self.chaos_us / 64, self.chaos_us);
        let mut at_us = 0_u64;
        for _ in 0..EPISODES_MAX {
            at_us = at_us.saturating_add(stream.below(gap.saturating_mul(2)));
            if at_us >= self.chaos_us {
                return;
            }
            let for_us = self.down_us(stream);
            let fault = self.crash_of(stream, for_us);
            self.push(at_us, fault);
            let Some(down) = for_us else { return };
            // Later than the restart, whichever of the two comes first at equal times.
            at_us = at_us.saturating_add(down).saturating_add(1);
        }
    }

    fn crash_of(&self, stream: &mut Stream, for_us: Option<u64>) -> Fault {
        let node = self.node(stream);
        let kind = stream.below(4);
        if kind == 0 && self.plan.kill {
            let order_id = None;
            return Fault::Kill {
                node,
                order_id,
                for_us,
            };
        }
        if kind == 1 && self.plan.wipe {
            return Fault::Wipe { node, for_us };
        }
        Fault::Crash { node, for_us }
    }

    fn down_us(&self, stream: &mut Stream) -> Option<u64> {
        let down = spread(stream, 1_000, self.chaos_us / 4);
        let stays = stream.chance(FOR_EVER) || self.plan.crashes == Crashes::Stop;
        (!stays).then_some(down)
    }

    /// An event or a point: times alone rarely fall between a write and the message after it.
    fn trigger(&self, stream: &mut Stream) -> Trigger {
        let point = match (stream.below(6), self.kinds.len() as u64) {
            (0 | 1, _) => return Trigger::Event(spread(stream, 1, EVENT_MAX)),
            (2, _) | (_, 0) => "log".to_owned(),
            (3, _) => "durable".to_owned(),
            (4, kinds) => format!("send.{}", self.kinds[index(stream.below(kinds))]),
            (_, kinds) => format!("deliver.{}", self.kinds[index(stream.below(kinds))]),
        };
        Trigger::Point {
            name: point,
            nth: spread(stream, 1, NTH_MAX),
        }
    }

    fn pause(&mut self) {
        let mut stream = self.stream("draw.pause", 0);
        for _ in 0..spread(&mut stream, 1, EPISODES_MAX) {
            let at_us = stream.below(self.chaos_us);
            let node = self.node(&mut stream);
            let for_us = self.for_us(&mut stream, at_us, self.chaos_us / 4);
            self.push(at_us, Fault::Pause { node, for_us });
        }
    }

    fn clock(&mut self) {
        let offset_max = micros(self.plan.clock_offset_max);
        let drift_max = u64::from(self.plan.clock_drift_max_per_million);
        for node in 0..self.nodes {
            let mut stream = self.stream("draw.clock", node);
            let stream = &mut stream;
            let node = node_ix(node);
            if offset_max > 0 {
                let offset_us = signed(stream, offset_max);
                self.push(0, Fault::ClockOffset { node, offset_us });
            }
            if drift_max > 0 {
                let drift_per_million = signed(stream, drift_max);
                let drift = Fault::ClockDrift {
                    node,
                    drift_per_million,
                };
                self.push(0, drift);
            }
            let jumps = if offset_max > 0 { stream.below(4) } else { 0 };
            for _ in 0..jumps {
                let (at_us, jump_us) = (stream.below(self.chaos_us), signed(stream, offset_max));
                self.push(at_us, Fault::ClockJump { node, jump_us });
            }
            if self.plan.clock_freeze && stream.below(4) == 0 {
                let at_us = stream.below(self.chaos_us);
                let for_us = self.for_us(stream, at_us, self.chaos_us / 4);
                self.push(at_us, Fault::ClockFreeze { node, for_us });
            }
        }
    }

    fn disk(&mut self) {
        for node in 0..self.nodes {
            let mut stream = self.stream("draw.disk", node);
            let stream = &mut stream;
            let node = node_ix(node);
            let per_million = rate(stream, 10_000, 1_000_000);
            self.push(0, Fault::DiskTorn { node, per_million });
            let per_million = rate(stream, 10_000, 1_000_000);
            self.push(0, Fault::DiskLost { node, per_million });
            let per_million = rate(stream, 10_000, 1_000_000);
            self.push(0, Fault::DiskReorder { node, per_million });
            if !self.plan.disk_errors {
                continue;
            }
            if stream.below(4) == 0 {
                let at_us = stream.below(self.chaos_us);
                let for_us = self.for_us(stream, at_us, self.chaos_us / 4);
                let per_million = rate(stream, 1_000, 500_000);
                let error = Fault::DiskError {
                    node,
                    per_million,
                    for_us,
                };
                self.push(at_us, error);
            }
            if stream.below(4) == 0 {
                let at_us = stream.below(self.chaos_us);
                let for_us = self.for_us(stream, at_us, self.chaos_us / 4);
                self.push(at_us, Fault::DiskFull { node, for_us });
            }
        }
    }

    /// Faults of some links, each for a while.
    fn link_episodes(
        &mut self,
        stream: &mut Stream,
        fault: impl Fn(&Self, &mut Stream, LinkSet, Option<u64>) -> Fault,
    ) {
        if self.nodes < 2 {
            return;
        }
        for _ in 0..spread(stream, 1, EPISODES_MAX) {
            let at_us = stream.below(self.chaos_us);
            let link = self.link(stream);
            let for_us = self.for_us(stream, at_us, self.chaos_us / 4);
            let fault = fault(self, stream, link, for_us);
            self.push(at_us, fault);
        }
    }

    /// How long an episode lasts; one that would outlive the phase says so.
    fn for_us(&self, stream: &mut Stream, at_us: u64, max_us: u64) -> Option<u64> {
        let for_us = spread(stream, 1_000, max_us);
        let stays = stream.chance(FOR_EVER);
        (!stays && at_us.saturating_add(for_us) < self.chaos_us).then_some(for_us)
    }

    fn distribution(&self, stream: &mut Stream) -> Delay {
        let bound = self.plan.delay_max.map(micros);
        // Half of the bound, since a reordered message is delayed twice.
        let longest = bound.map_or(DELAY_MAX_US, |bound| bound / 2);
        let mean = spread(stream, 100, longest.max(1));
        let kinds = if bound.is_some() { 3 } else { 4 };
        match stream.below(kinds) {
            0 => Delay::Constant(mean),
            1 => Delay::Uniform(mean / 10, mean),
            2 => Delay::Bimodal {
                fast_us: mean / 10,
                slow_us: mean.saturating_mul(10).min(longest),
                slow_per_million: rate(stream, 1_000, 200_000),
            },
            _ => Delay::Exponential(mean),
        }
    }

    fn node(&self, stream: &mut Stream) -> NodeIx {
        node_ix(stream.below(self.nodes))
    }

    /// Some nodes, not all; needs two.
    fn group(&self, stream: &mut Stream) -> Vec<NodeIx> {
        let mut group: Vec<NodeIx> = (0..self.nodes)
            .filter(|_| stream.below(2) == 0)
            .map(node_ix)
            .collect();
        if group.is_empty() || group.len() as u64 == self.nodes {
            group = vec![self.node(stream)];
        }
        group
    }

    /// One link, or all from or to a node; needs two nodes.
    fn link(&self, stream: &mut Stream) -> LinkSet {
        let from = stream.below(self.nodes);
        let to = (from + 1 + stream.below(self.nodes - 1)) % self.nodes;
        let shape = stream.below(3);
        LinkSet {
            from: (shape != 1).then_some(node_ix(from)),
            to: (shape != 2).then_some(node_ix(to)),
        }
    }
}

/// A value whose magnitude is uniform: small ones are as likely as large ones. Whole numbers only, so that every
/// machine draws the same.
fn spread(stream: &mut Stream, low: u64, high: u64) -> u64 {
    let low = low.max(1);
    let high = high.max(low);
    let magnitude = stream.between(u64::from(low.ilog2()), u64::from(high.ilog2()));
    let start = 1_u64 << magnitude;
    stream.between(start.max(low), (start | (start - 1)).min(high))
}

#[allow(clippy::cast_possible_truncation, reason = "at most a million")]
fn rate(stream: &mut Stream, low: u32, high: u32) -> u32 {
    spread(stream, u64::from(low), u64::from(high)) as u32
}

fn signed(stream: &mut Stream, max: u64) -> i64 {
    let amount = i64::try_from(spread(stream, 1, max)).unwrap_or(i64::MAX);
    if stream.below(2) == 0 {
        amount
    } else {
        -amount
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "there are at most 10 000 nodes"
)]
fn node_ix(node: u64) -> NodeIx {
    NodeIx(node as u32)
}

fn index(below: u64) -> usize {
    usize::try_from(below).unwrap_or_default()
}
