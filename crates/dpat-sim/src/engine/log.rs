//! The log of a node: when it becomes durable, and what a crash leaves of it.

use dpat_model::{Lsn, MILLION, MemLog, NodeIx, Output, Peer, Process};

use super::item::Item;
use super::points::Point;
use super::record::Text;
use super::{Engine, Proc, Tag};
use crate::{Protocol, Stream, What};

/// A sync takes a time that is uniform between these two.
pub const SYNC_MIN_NS: u64 = 100_000;
/// See [`SYNC_MIN_NS`].
pub const SYNC_MAX_NS: u64 = 1_000_000;
/// The process hears of a sync at most this much later.
const HEARD_MAX_NS: u64 = 50_000;

/// The disk of a node, as far as its log is concerned.
#[derive(Debug)]
pub(super) struct Disk {
    /// In parts per million of the unsynced records, each.
    pub(super) torn: u32,
    pub(super) lost: u32,
    pub(super) reordered: u32,
    /// In parts per million of writes and syncs, until a time.
    pub(super) error: (u32, u64),
    pub(super) full_until: u64,
    latency: Stream,
    errors: Stream,
    crashes: Stream,
}

impl Disk {
    pub(super) fn new(seed: u64, node: u64) -> Self {
        Self {
            torn: 0,
            lost: 0,
            reordered: 0,
            error: (0, 0),
            full_until: 0,
            latency: Stream::new(seed, "sync", node),
            errors: Stream::new(seed, "disk-error", node),
            crashes: Stream::new(seed, "crash", node),
        }
    }

    pub(super) const fn heal(&mut self) {
        (self.torn, self.lost, self.reordered) = (0, 0, 0);
        self.error = (0, 0);
        self.full_until = 0;
    }

    /// Says whether something is wrong with it at this time.
    pub(super) const fn is_faulty(&self, now_ns: u64) -> bool {
        self.loses() || (self.error.0 > 0 && now_ns < self.error.1) || now_ns < self.full_until
    }

    const fn loses(&self) -> bool {
        self.torn > 0 || self.lost > 0 || self.reordered > 0
    }

    /// Says whether a write or a sync fails. `space` says whether it needs any.
    fn fails(&mut self, now_ns: u64, space: bool) -> bool {
        let (per_million, until) = self.error;
        (space && now_ns < self.full_until)
            || (per_million > 0 && now_ns < until && self.errors.chance(per_million))
    }

    /// Draws how much of a log survives a crash.
    ///
    /// A record that is torn, lost, or overtaken by later ones ends what recovery can read. On a disk without such
    /// faults every length between the durable and the written one is as likely.
    fn surviving(&mut self, durable: Lsn, last: Lsn) -> Lsn {
        if !self.loses() {
            return Lsn(self.crashes.between(durable.0, last.0));
        }
        let mut broken = |_: &u64| {
            let crashes = &mut self.crashes;
            crashes.chance(self.torn)
                || crashes.chance(self.lost)
                || crashes.chance(self.reordered.min(MILLION))
        };
        let first = (durable.0 + 1..=last.0).find(|at| broken(at));
        first.map_or(last, |at| Lsn(at - 1))
    }

    /// Leaves of a log what survives a crash.
    pub(super) fn crash<P: Process>(&mut self, log: &mut MemLog<P>) {
        let kept = self.surviving(log.durable(), log.last());
        log.crash(kept);
    }
}

impl<Pr: Protocol> Engine<Pr> {
    /// Writes a record or a snapshot; false if the node is down afterwards.
    pub(super) fn write(&mut self, at: NodeIx, output: Output<Proc<Pr>>) -> bool {
        if self.points.any() && matches!(output, Output::Log { .. }) {
            let life = self.world.nodes[at.index()].peer;
            self.pass(Point::Log);
            if !self.world.nodes[at.index()].is_life(life) {
                return false;
            }
        }
        let output = match output {
            Output::Log { at, record } if self.wire.is_some() => {
                let record = self.through_bytes(record, |wire| (wire.encode_rec, wire.decode_rec));
                let Some(record) = record else {
                    return false;
                };
                Output::Log { at, record }
            }
            other => other,
        };
        let place = &mut self.world.nodes[at.index()];
        if place.disk.fails(self.world.now_ns, true) {
            self.halt_by_disk(at);
            return false;
        }
        place.log.take(output);
        place.dirty = true;
        true
    }

    /// Begins a sync of everything written, unless one is under way.
    #[inline]
    pub(super) fn sync_if_dirty(&mut self, at: NodeIx) {
        let place = &mut self.world.nodes[at.index()];
        if place.dirty && !place.syncing {
            place.dirty = false;
            place.syncing = true;
            let (peer, upto) = (place.peer, place.log.last());
            let takes = place.disk.latency.between(SYNC_MIN_NS, SYNC_MAX_NS);
            let at_ns = self.world.now_ns.saturating_add(takes);
            self.push(at_ns, Item::Synced { peer, upto });
        }
    }

    /// The disk has finished a sync. The process hears of it later, so that a crash can fall between.
    pub(super) fn synced(&mut self, cause: u64, peer: Peer, upto: Lsn) {
        let at = peer.node;
        let place = &mut self.world.nodes[at.index()];
        if !place.is_life(peer) {
            return;
        }
        place.syncing = false;
        if place.disk.fails(self.world.now_ns, false) {
            self.halt_by_disk(at);
            return;
        }
        place.log.sync(upto);
        let heard = place.disk.latency.below(HEARD_MAX_NS);
        self.begin(Tag::Synced, Some(at), cause, || Text::of(upto.0));
        self.digest(&upto);
        let at_ns = self.world.now_ns.saturating_add(heard);
        self.push(at_ns, Item::Durable { peer, upto });
        self.sync_if_dirty(at);
        self.end(Some(at), What::Synced(upto));
    }

    fn halt_by_disk(&mut self, at: NodeIx) {
        self.nested(|engine| {
            engine.begin(Tag::Crash, Some(at), engine.current, || {
                Text::of("I/O error")
            });
            engine.crash(at, super::faults::Loses::Unsynced);
            engine.end(Some(at), What::Crash);
        });
    }
}
