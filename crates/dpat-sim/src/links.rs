//! The network: what happens to a message on its way.

mod layer;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use dpat_model::{Fault, LinkSet, NodeIx};

use crate::{Families, Family, Stream};
use layer::{Effect, Layer, Rule, Scope};

/// The delay of a link without faults is uniform between this and [`DEFAULT_DELAY_MAX_NS`].
pub const DEFAULT_DELAY_MIN_NS: u64 = 500_000;
/// See [`DEFAULT_DELAY_MIN_NS`].
pub const DEFAULT_DELAY_MAX_NS: u64 = 1_500_000;
/// What a node sends to itself takes this long, whatever the faults.
pub const SELF_DELAY_NS: u64 = 1_000;

/// The links between the nodes of a run: one rule for all of them, and layers of faults over it.
///
/// Faults apply in the order in which they came; of two for the same link the later counts, partitions add up. A
/// fault with a duration ends by itself. The cost of a message does not depend on the number of nodes.
///
/// Draws come from one stream per sending node and family of faults, so that what one node sends more moves neither
/// the losses of another node nor its own delays' distribution.
///
/// # Examples
/// ```
/// use dpat_model::{Fault, NodeIx};
/// use dpat_sim::{Cause, Fate, Links};
///
/// let mut links = Links::new(7, 3);
/// let (a, b) = (NodeIx(0), NodeIx(1));
/// assert!(matches!(links.route(0, a, b, 100).first, Fate::At(at) if at > 0));
/// links.apply(0, &Fault::Isolate { node: b, for_us: Some(10) });
/// assert_eq!(links.route(9_999, a, b, 100).first, Fate::Lost(Cause::Partition));
/// assert!(matches!(links.route(10_000, a, b, 100).first, Fate::At(_)));
/// ```
#[derive(Debug)]
pub struct Links {
    nodes: u32,
    draws: Vec<Draws>,
    layers: Vec<Layer>,
    /// The rule of every link, as long as no layer is about some links only.
    common: Rule,
    plain: bool,
    sparse: bool,
    /// Counts the changes; a cached rule of an earlier one is stale.
    generation: u64,
    cache: Table<(u64, Rule)>,
    /// When a link of limited capacity has sent everything it was given.
    free_at: Table<u64>,
    next_change: u64,
    families: Families,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The message itself.
    pub first: Fate,
    /// When a copy of it arrives, if the link duplicates it.
    pub copy: Option<u64>,
}

/// What becomes of one copy of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time, in nanoseconds of the simulation.
    At(u64),
    /// It never arrives.
    Lost(Cause),
    /// It waits until the link lets it go: route it again when [`Links::is_held`] is false.
    Held,
}

/// Why a message does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The link lost it.
    Loss,
    /// A partition is between the nodes.
    Partition,
}

/// The streams of one sending node.
#[derive(Debug)]
struct Draws {
    loss: Stream,
    delay: Stream,
    duplicate: Stream,
    reorder: Stream,
}

type Table<V> = HashMap<u64, V, BuildHasherDefault<PairHasher>>;

/// Hashes a pair of node indices that is packed into one word. Tables with it are never iterated.
#[derive(Debug, Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, pair: u64) {
        let mixed = (self.0 ^ pair).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

const fn pair(from: NodeIx, to: NodeIx) -> u64 {
    (from.0 as u64) << 32 | to.0 as u64
}

impl Links {
    /// Makes links without faults.
    #[must_use]
    pub fn new(seed: u64, nodes: u32) -> Self {
        let draws = |node: u32| Draws {
            loss: Stream::new(seed, "loss", u64::from(node)),
            delay: Stream::new(seed, "delay", u64::from(node)),
            duplicate: Stream::new(seed, "duplicate", u64::from(node)),
            reorder: Stream::new(seed, "reorder", u64::from(node)),
        };
        Self {
            nodes,
            draws: (0..nodes).map(draws).collect(),
            layers: Vec::new(),
            common: Rule::DEFAULT,
            plain: true,
            sparse: false,
            generation: 0,
            cache: Table::default(),
            free_at: Table::default(),
            next_change: u64::MAX,
            families: Families::NONE,
        }
    }

    /// Applies a fault of links; false if it is something else.
    ///
    /// A fault with `for_us` ends by itself, at [`next_change`](Self::next_change).
    pub fn apply(&mut self, now_ns: u64, fault: &Fault) -> bool {
        self.advance(now_ns);
        let Some(layer) = Layer::of(now_ns, fault, self.nodes) else {
            return false;
        };
        if layer.covers_all_before() {
            self.layers.clear();
        } else {
            if layer.effect == Effect::Heal {
                self.layers.retain(|earlier| !layer.covers(earlier));
            }
            self.layers.push(layer);
        }
        self.compile();
        true
    }

    /// Ends every fault of every link.
    pub fn heal(&mut self) {
        self.layers.clear();
        self.free_at.clear();
        self.compile();
    }

    /// Returns when a fault next ends or a flapping link changes; `u64::MAX` if never.
    ///
    /// Held messages and sessions want a look then. [`route`](Self::route) sees the change by itself.
    #[must_use]
    pub const fn next_change(&self) -> u64 {
        self.next_change
    }

    /// Carries out the changes that are due; says whether there were any.
    pub fn advance(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_change {
            return false;
        }
        self.layers.retain_mut(|layer| layer.advance(now_ns));
        self.compile();
        true
    }

    /// Returns the families of faults that are in force on some link.
    #[must_use]
    pub const fn families(&self) -> Families {
        self.families
    }

    /// Decides about a message of so many bytes.
    #[inline]
    pub fn route(&mut self, now_ns: u64, from: NodeIx, to: NodeIx, bytes: usize) -> Route {
        if now_ns >= self.next_change {
            self.advance(now_ns);
        }
        if from == to {
            return Route::at(now_ns + SELF_DELAY_NS);
        }
        if self.plain {
            let delay = &mut self.draws[from.index()].delay;
            let takes = delay.between(DEFAULT_DELAY_MIN_NS, DEFAULT_DELAY_MAX_NS);
            return Route::at(now_ns + takes);
        }
        self.route_with_faults(now_ns, from, to, bytes)
    }

    /// Says whether a partition is between two nodes in this direction.
    #[inline]
    pub fn is_cut(&mut self, now_ns: u64, from: NodeIx, to: NodeIx) -> bool {
        if now_ns >= self.next_change {
            self.advance(now_ns);
        }
        !self.plain && from != to && self.rule(from, to).cut
    }

    /// Says whether the link keeps what it is given.
    #[inline]
    pub fn is_held(&mut self, now_ns: u64, from: NodeIx, to: NodeIx) -> bool {
        if now_ns >= self.next_change {
            self.advance(now_ns);
        }
        !self.plain && from != to && self.rule(from, to).held
    }

    /// Says whether some link has a limited capacity, so that the size of messages matters.
    #[must_use]
    pub const fn needs_sizes(&self) -> bool {
        self.families.has(Family::Capacity)
    }

    fn route_with_faults(&mut self, now_ns: u64, from: NodeIx, to: NodeIx, bytes: usize) -> Route {
        let rule = self.rule(from, to);
        if rule.cut {
            return Route::only(Fate::Lost(Cause::Partition));
        }
        if rule.held {
            return Route::only(Fate::Held);
        }
        let sent = match rule.bytes_per_s {
            Some(rate) => self.transmit(now_ns, pair(from, to), bytes, rate),
            None => now_ns,
        };
        let draws = &mut self.draws[from.index()];
        let arrival = |draws: &mut Draws| {
            let mut at = sent.saturating_add(rule.draw_delay(&mut draws.delay));
            if let Some((per_million, longer)) = &rule.reorder {
                if draws.reorder.chance(*per_million) {
                    at = at.saturating_add(draws.reorder.delay(longer));
                }
            }
            at
        };
        let first = if rule.loss > 0 && draws.loss.chance(rule.loss) {
            Fate::Lost(Cause::Loss)
        } else {
            Fate::At(arrival(draws))
        };
        let twice = rule.duplicate > 0 && draws.duplicate.chance(rule.duplicate);
        let copy = (twice && first != Fate::Lost(Cause::Loss)).then(|| arrival(draws));
        Route { first, copy }
    }

    /// Queues a message on a link of limited capacity and returns when its last byte is sent.
    fn transmit(&mut self, now_ns: u64, link: u64, bytes: usize, bytes_per_s: u64) -> u64 {
        let takes = u128::from(bytes as u64) * 1_000_000_000 / u128::from(bytes_per_s.max(1));
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        let free_at = self.free_at.entry(link).or_insert(0);
        *free_at = now_ns.max(*free_at).saturating_add(takes);
        *free_at
    }

    fn rule(&mut self, from: NodeIx, to: NodeIx) -> Rule {
        if !self.sparse {
            return self.common;
        }
        let (generation, layers) = (self.generation, &self.layers);
        let fold = || Rule::fold(layers, |scope| scope.contains(from, to));
        let cached = self
            .cache
            .entry(pair(from, to))
            .or_insert_with(|| (generation, fold()));
        if cached.0 != generation {
            *cached = (generation, fold());
        }
        cached.1
    }

    fn compile(&mut self) {
        self.generation += 1;
        self.sparse = self.layers.iter().any(|layer| layer.scope != Scope::ALL);
        self.common = Rule::fold(&self.layers, |scope| *scope == Scope::ALL);
        self.plain = self.layers.is_empty();
        self.families = Families::NONE;
        for layer in &self.layers {
            if let Some(family) = layer.family() {
                self.families.insert(family);
            }
        }
        let changes = self.layers.iter().map(Layer::next_change);
        self.next_change = changes.min().unwrap_or(u64::MAX);
        if self.plain {
            self.free_at.clear();
        }
    }
}

impl Route {
    const fn at(at_ns: u64) -> Self {
        Self::only(Fate::At(at_ns))
    }

    const fn only(first: Fate) -> Self {
        Self { first, copy: None }
    }
}

/// Says which nodes a partition of the ring kind lets through: every node hears a majority, no two the same one.
fn hears(nodes: u32, from: NodeIx, to: NodeIx) -> bool {
    // Itself and `others` neighbours are a majority; the odd one is on the right.
    let others = nodes / 2;
    let (left, right) = (others / 2, others - others / 2);
    let ahead = (from.0 + nodes - to.0) % nodes;
    ahead <= right || nodes - ahead <= left
}

/// The links of a set in both directions.
const fn reversed(link: LinkSet) -> LinkSet {
    LinkSet {
        from: link.to,
        to: link.from,
    }
}

/// Returns when a fault of links that strikes now ends by itself; none if it is something else.
pub(crate) fn until(now_ns: u64, fault: &Fault) -> Option<u64> {
    Layer::of(now_ns, fault, 0).map(|layer| layer.until)
}

/// Returns the directed links that a fault is about.
pub(crate) fn meant(fault: &Fault, nodes: u32) -> Vec<(u32, u32)> {
    let Some(layer) = Layer::of(0, fault, nodes) else {
        return Vec::new();
    };
    let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    let meant =
        pairs.filter(|(from, to)| from != to && layer.scope.contains(NodeIx(*from), NodeIx(*to)));
    meant.collect()
}
