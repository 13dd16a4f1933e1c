//! One fault of links, and what all of them come to for one link.

use dpat_model::{Delay, Fault, LinkSet, NodeIx};

use super::{DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, hears, reversed};
use crate::{Family, Stream};

/// What is done to the messages of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) cut: bool,
    pub(super) held: bool,
    /// In parts per million.
    pub(super) loss: u32,
    /// In parts per million.
    pub(super) duplicate: u32,
    delay: Option<Delay>,
    pub(super) reorder: Option<(u32, Delay)>,
    pub(super) bytes_per_s: Option<u64>,
}

impl Rule {
    pub(super) const DEFAULT: Self = Self {
        cut: false,
        held: false,
        loss: 0,
        duplicate: 0,
        delay: None,
        reorder: None,
        bytes_per_s: None,
    };

    /// Applies the layers whose scope is meant, in their order.
    pub(super) fn fold(layers: &[Layer], mut meant: impl FnMut(&Scope) -> bool) -> Self {
        let mut rule = Self::DEFAULT;
        for layer in layers.iter().filter(|layer| meant(&layer.scope)) {
            match layer.effect {
                Effect::Cut => rule.cut = true,
                Effect::Flap { down, .. } => rule.cut |= down,
                Effect::Hold => rule.held = true,
                Effect::Release => rule.held = false,
                Effect::Heal => rule = Self::DEFAULT,
                Effect::Loss(per_million) => rule.loss = per_million,
                Effect::Delay(delay) => rule.delay = Some(delay),
                Effect::Duplicate(per_million) => rule.duplicate = per_million,
                Effect::Reorder(per_million, longer) => rule.reorder = Some((per_million, longer)),
                Effect::Capacity(bytes_per_s) => rule.bytes_per_s = Some(bytes_per_s),
            }
        }
        rule
    }

    pub(super) fn draw_delay(&self, stream: &mut Stream) -> u64 {
        match &self.delay {
            Some(delay) => stream.delay(delay),
            None => stream.between(DEFAULT_DELAY_MIN_NS, DEFAULT_DELAY_MAX_NS),
        }
    }
}

/// A fault that is in force.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) scope: Scope,
    pub(super) effect: Effect,
    pub(super) until: u64,
}

/// The directed links that a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Set(LinkSet),
    /// A set and the links in the other direction.
    Both(LinkSet),
    /// From a group to the rest and back, but not of the node that sees both sides.
    Groups {
        /// By node.
        inside: Vec<bool>,
        bridge: Option<NodeIx>,
    },
    Ring {
        nodes: u32,
    },
}

impl Scope {
    pub(super) const ALL: Self = Self::Set(LinkSet::ALL);

    fn both(link: LinkSet) -> Self {
        if link == LinkSet::ALL {
            Self::ALL
        } else {
            Self::Both(link)
        }
    }

    fn groups(nodes: u32, group: &[NodeIx], bridge: Option<NodeIx>) -> Self {
        let inside = (0..nodes).map(|node| group.contains(&NodeIx(node)));
        Self::Groups {
            inside: inside.collect(),
            bridge,
        }
    }

    pub(super) fn contains(&self, from: NodeIx, to: NodeIx) -> bool {
        match self {
            Self::Set(link) => link.contains(from, to),
            Self::Both(link) => link.contains(from, to) || reversed(*link).contains(from, to),
            Self::Groups { inside, bridge } => {
                let side = |node: NodeIx| inside.get(node.index());
                side(from) != side(to) && *bridge != Some(from) && *bridge != Some(to)
            }
            Self::Ring { nodes } => !hears(*nodes, from, to),
        }
    }
}

/// What a fault does to the links of its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Cut,
    Flap {
        down: bool,
        toggle_at: u64,
        down_ns: u64,
        up_ns: u64,
    },
    Hold,
    Release,
    Heal,
    Loss(u32),
    Delay(Delay),
    Duplicate(u32),
    Reorder(u32, Delay),
    Capacity(u64),
}

impl Layer {
    /// Makes the layer of a fault; none if it is no fault of links.
    pub(super) fn of(now_ns: u64, fault: &Fault, nodes: u32) -> Option<Self> {
        let set = Scope::Set;
        let (scope, effect, for_us) = match fault {
            Fault::Isolate { node, for_us } => {
                let scope = Scope::groups(nodes, &[*node], None);
                (scope, Effect::Cut, *for_us)
            }
            Fault::Halves { group, for_us } => {
                (Scope::groups(nodes, group, None), Effect::Cut, *for_us)
            }
            Fault::Ring { for_us } => (Scope::Ring { nodes }, Effect::Cut, *for_us),
            Fault::Bridge {
                node,
                group,
                for_us,
            } => {
                let scope = Scope::groups(nodes, group, Some(*node));
                (scope, Effect::Cut, *for_us)
            }
            Fault::OneWay { link, for_us } => (set(*link), Effect::Cut, *for_us),
            Fault::Cut { link, for_us } => (Scope::both(*link), Effect::Cut, *for_us),
            Fault::Flap {
                link,
                down_us,
                up_us,
                for_us,
            } => {
                let down_ns = down_us.saturating_mul(1000);
                let effect = Effect::Flap {
                    down: true,
                    toggle_at: now_ns.saturating_add(down_ns),
                    down_ns,
                    up_ns: up_us.saturating_mul(1000),
                };
                (Scope::both(*link), effect, *for_us)
            }
            Fault::Hold { link, for_us } => (set(*link), Effect::Hold, *for_us),
            Fault::Release { link } => (set(*link), Effect::Release, None),
            Fault::Heal { link } => (set(*link), Effect::Heal, None),
            Fault::Loss {
                link,
                per_million,
                for_us,
            } => (set(*link), Effect::Loss(*per_million), *for_us),
            Fault::Delay {
                link,
                delay,
                for_us,
            } => (set(*link), Effect::Delay(*delay), *for_us),
            Fault::Duplicate {
                link,
                per_million,
                for_us,
            } => (set(*link), Effect::Duplicate(*per_million), *for_us),
            Fault::Reorder {
                link,
                per_million,
                delay,
                for_us,
            } => (set(*link), Effect::Reorder(*per_million, *delay), *for_us),
            Fault::Capacity {
                link,
                bytes_per_s,
                for_us,
            } => (set(*link), Effect::Capacity(*bytes_per_s), *for_us),
            _ => return None,
        };
        let until = for_us.map_or(u64::MAX, |us| {
            now_ns.saturating_add(us.saturating_mul(1000))
        });
        Some(Self {
            scope,
            effect,
            until,
        })
    }

    /// Says whether nothing of the earlier layers is left.
    pub(super) fn covers_all_before(&self) -> bool {
        self.effect == Effect::Heal && self.scope == Scope::ALL
    }

    /// Says whether every link of an earlier layer is one of this layer, so far as that is quick to see.
    pub(super) fn covers(&self, earlier: &Self) -> bool {
        let (Scope::Set(ours), Scope::Set(theirs)) = (&self.scope, &earlier.scope) else {
            return false;
        };
        let covers = |ours: Option<NodeIx>, theirs| ours.is_none() || ours == theirs;
        covers(ours.from, theirs.from) && covers(ours.to, theirs.to)
    }

    /// Moves on to a time; false if the fault is over.
    pub(super) fn advance(&mut self, now_ns: u64) -> bool {
        if now_ns >= self.until {
            return false;
        }
        if let Effect::Flap {
            down,
            toggle_at,
            down_ns,
            up_ns,
        } = &mut self.effect
        {
            // Whole periods that nobody looked at are skipped.
            if let Some(late) = now_ns.checked_sub(*toggle_at) {
                let period = down_ns.saturating_add(*up_ns).max(1);
                *toggle_at += late / period * period;
            }
            while *toggle_at <= now_ns {
                *down = !*down;
                let phase = if *down { *down_ns } else { *up_ns };
                *toggle_at = toggle_at.saturating_add(phase.max(1));
            }
        }
        true
    }

    pub(super) fn next_change(&self) -> u64 {
        match self.effect {
            Effect::Flap { toggle_at, .. } => self.until.min(toggle_at),
            _ => self.until,
        }
    }

    pub(super) const fn family(&self) -> Option<Family> {
        match self.effect {
            Effect::Cut | Effect::Flap { .. } => Some(Family::Partition),
            Effect::Hold => Some(Family::Hold),
            Effect::Release | Effect::Heal => None,
            Effect::Loss(_) => Some(Family::Loss),
            Effect::Delay(_) => Some(Family::Delay),
            Effect::Duplicate(_) => Some(Family::Duplicate),
            Effect::Reorder(..) => Some(Family::Reorder),
            Effect::Capacity(_) => Some(Family::Capacity),
        }
    }
}
