//! Faults: which can be produced, when they strike, and what they do to nodes.

use dpat_model::{Fault, Input, Lsn, MILLION, MemLog, NodeIx, Peer, Script, Trigger};

use super::item::Item;
use super::points::Point;
use super::record::Text;
use super::{Engine, Tag};
use crate::{Family, Protocol, SpecError, What};

/// Refuses what the engine cannot produce.
pub(super) fn check(script: &Script) -> Result<(), SpecError> {
    for (op, one) in script.ops.iter().enumerate() {
        let reason = match &one.fault {
            Fault::Error { .. }
            | Fault::Drop { .. }
            | Fault::Garble { .. }
            | Fault::Latency { .. }
            | Fault::Hang { .. } => "is for services, not for processes",
            Fault::DiskCorrupt { .. } => "is for disks of bytes, not for logs of records",
            Fault::Kill {
                order_id: Some(_), ..
            } => "with an order_id is for services, not for processes",
            _ => continue,
        };
        let fault = one.fault.name();
        return Err(SpecError::Refused { op, fault, reason });
    }
    Ok(())
}

/// Returns the operations that are due at a time, with that time.
pub(super) fn timed(script: &Script) -> Vec<(usize, u64)> {
    let ops = script.ops.iter().enumerate();
    let timed = ops.filter_map(|(op, one)| match one.when {
        _ if matches!(one.fault, Fault::Calls { .. }) => None,
        Trigger::At(us) => Some((op, us.saturating_mul(1000))),
        Trigger::Event(_) | Trigger::Point { .. } => None,
    });
    timed.collect()
}

/// What the end of a life costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loses {
    /// Nothing that was written.
    Nothing,
    /// A suffix of what was not synced.
    Unsynced,
    /// Everything.
    Disk,
}

impl<Pr: Protocol> Engine<Pr> {
    /// Counts the passing of a point and lets strike what waited for it.
    #[inline]
    pub(super) fn pass(&mut self, point: Point) {
        if self.points.any() {
            self.pass_slowly(point);
        }
    }

    #[cold]
    fn pass_slowly(&mut self, point: Point) {
        for op in self.points.pass(point) {
            self.nested(|engine| engine.strike(op));
        }
    }

    /// Lets an operation of the script strike. One that changes nothing is an event all the same.
    #[cold]
    pub(super) fn strike(&mut self, op: usize) {
        let fault = self.script.ops[op].fault.clone();
        let now_ns = self.world.now_ns;
        let end =
            |for_us: Option<u64>| for_us.map(|us| now_ns.saturating_add(us.saturating_mul(1000)));
        match fault {
            Fault::Crash { node, for_us } => {
                self.take_down(op, node, Loses::Unsynced, end(for_us));
            }
            Fault::Kill { node, for_us, .. } => {
                self.take_down(op, node, Loses::Nothing, end(for_us));
            }
            Fault::Wipe { node, for_us } => self.take_down(op, node, Loses::Disk, end(for_us)),
            Fault::Restart { node } => {
                let place = &self.world.nodes[node.index()];
                if place.started && place.node.is_none() {
                    self.coverage.struck(&fault);
                    self.start(node, Tag::Restart, self.current);
                } else {
                    self.note_fault(op);
                }
            }
            Fault::Pause { node, for_us } => self.pause(op, node, end(for_us)),
            Fault::Resume { node } => {
                if self.world.is_paused(node) {
                    self.coverage.struck(&fault);
                    self.resume(node);
                } else {
                    self.note_fault(op);
                }
            }
            _ => {
                self.begin_fault(Tag::Fault, op, None);
                self.coverage.struck(&fault);
                self.apply(&fault);
                self.recount();
                self.end(None, What::Fault(&fault));
            }
        }
    }

    /// Applies a fault of links, clocks or disks.
    fn apply(&mut self, fault: &Fault) {
        let now_ns = self.world.now_ns;
        if self.links.apply(now_ns, fault) {
            self.shade_links(fault);
            self.look_again();
            return;
        }
        let until = |for_us: Option<u64>| {
            for_us.map_or(u64::MAX, |us| {
                now_ns.saturating_add(us.saturating_mul(1000))
            })
        };
        match *fault {
            Fault::ClockOffset { node, .. }
            | Fault::ClockDrift { node, .. }
            | Fault::ClockJump { node, .. } => {
                self.turn_clock(node, fault);
                self.shade_node(Family::Clock.name(), node, u64::MAX);
            }
            Fault::ClockFreeze { node, for_us } => {
                self.turn_clock(node, fault);
                self.shade_node(Family::Clock.name(), node, until(for_us));
                self.look_again_at(until(for_us));
            }
            Fault::DiskTorn { node, per_million } => {
                self.world.nodes[node.index()].disk.torn = per_million;
            }
            Fault::DiskLost { node, per_million } => {
                self.world.nodes[node.index()].disk.lost = per_million;
            }
            Fault::DiskReorder { node, per_million } => {
                self.world.nodes[node.index()].disk.reordered = per_million.min(MILLION);
            }
            Fault::DiskError {
                node,
                per_million,
                for_us,
            } => {
                let until = until(for_us);
                self.world.nodes[node.index()].disk.error = (per_million, until);
                self.shade_node(Family::Disk.name(), node, until);
                self.look_again_at(until);
            }
            Fault::DiskFull { node, for_us } => {
                let until = until(for_us);
                self.world.nodes[node.index()].disk.full_until = until;
                self.shade_node(Family::Disk.name(), node, until);
                self.look_again_at(until);
            }
            _ => {}
        }
    }

    fn turn_clock(&mut self, node: NodeIx, fault: &Fault) {
        let now_ns = self.world.now_ns;
        self.world.nodes[node.index()].clock.apply(now_ns, fault);
        self.move_timers(node);
    }

    /// Links have changed: sessions may begin or end, and held messages go.
    pub(super) fn look_again(&mut self) {
        self.look_again_at(self.links.next_change());
        if !self.held.is_empty() {
            self.release();
        }
        self.look_at_sessions();
    }

    fn look_again_at(&mut self, at_ns: u64) {
        if at_ns != u64::MAX {
            self.push(at_ns, Item::Change);
        }
    }

    /// A fault of links has ended by itself, or a flapping one has changed.
    #[cold]
    pub(super) fn links_change(&mut self) {
        if self.links.advance(self.world.now_ns) {
            self.look_again();
        }
    }

    /// Begins an event that an operation of the script makes.
    fn begin_fault(&mut self, tag: Tag, op: usize, node: Option<NodeIx>) {
        let script = &self.script;
        let text = || Text::fault(&script.ops[op].fault);
        let text = self.scribe.is_some().then(text);
        self.begin(tag, node, self.current, || text.unwrap_or_default());
        self.digest(&op);
    }

    /// An operation of the script that changes nothing.
    fn note_fault(&mut self, op: usize) {
        let fault = self.script.ops[op].fault.clone();
        self.begin_fault(Tag::Fault, op, None);
        self.end(None, What::Fault(&fault));
    }

    fn take_down(&mut self, op: usize, node: NodeIx, loses: Loses, restart: Option<u64>) {
        let place = &self.world.nodes[node.index()];
        if !place.started || (place.node.is_none() && loses != Loses::Disk) {
            return self.note_fault(op);
        }
        self.begin_fault(Tag::Crash, op, Some(node));
        let fault = self.script.ops[op].fault.clone();
        self.coverage.struck(&fault);
        self.crash(node, loses);
        if let Some(at_ns) = restart {
            let peer = self.world.nodes[node.index()].peer;
            self.push(at_ns, Item::Restart(peer));
        }
        self.end(Some(node), What::Crash);
    }

    /// Ends the life of a node. Callers have open requests answered, the log cut, and sessions broken.
    pub(super) fn crash(&mut self, at: NodeIx, loses: Loses) {
        self.audit(at);
        let place = &mut self.world.nodes[at.index()];
        let peer = place.peer;
        if let Some(mut node) = place.node.take() {
            let mut open = Vec::new();
            node.halt(&mut open);
            for output in open {
                if let dpat_model::Output::Reply { id, answer } = output {
                    self.reply(id, answer);
                }
            }
        }
        let place = &mut self.world.nodes[at.index()];
        match loses {
            Loses::Nothing => place.log.crash(Lsn(u64::MAX)),
            Loses::Unsynced => place.disk.crash(&mut place.log),
            Loses::Disk => place.log = MemLog::default(),
        }
        (place.paused, place.dirty, place.syncing) = (false, false, false);
        place.timers.clear();
        self.aside -= place.backlog.len();
        for due in std::mem::take(&mut place.backlog) {
            if let Item::Request { client, call } = due.item {
                self.leave_in_doubt(client, call);
            }
        }
        if let Some(scribe) = &mut self.scribe {
            scribe.node_ends(at, self.world.now_ns);
            scribe.open_shade("down", at, self.world.now_ns, u64::MAX);
        }
        self.break_sessions_of(peer);
        self.recount();
    }

    /// Starts a node, for the first time or again.
    pub(super) fn start(&mut self, at: NodeIx, tag: Tag, cause: u64) {
        let again = matches!(tag, Tag::Restart);
        let config = self.protocol.config(at);
        let place = &mut self.world.nodes[at.index()];
        if again {
            place.peer.incarnation += 1;
        }
        let node = place
            .log
            .boot(place.peer, &config, dpat_model::Limits::default());
        place.node = Some(node.with_rule(self.rule));
        place.started = true;
        let peer: Peer = place.peer;
        if let Some(scribe) = &mut self.scribe {
            scribe.node_ends(at, self.world.now_ns);
        }
        self.begin(tag, Some(at), cause, || Text::of(peer));
        self.digest(&peer);
        self.recount_if(again);
        self.feed(at, Input::Start);
        self.look_at_sessions_of(at);
        self.end(Some(at), if again { What::Restart } else { What::Start });
    }

    fn recount_if(&mut self, wanted: bool) {
        if wanted || !self.suffered.is_empty() {
            self.recount();
        }
    }

    fn pause(&mut self, op: usize, node: NodeIx, end: Option<u64>) {
        let place = &mut self.world.nodes[node.index()];
        if place.node.is_none() || place.paused {
            return self.note_fault(op);
        }
        place.paused = true;
        place.pauses += 1;
        let pause = place.pauses;
        self.begin_fault(Tag::Pause, op, Some(node));
        let fault = self.script.ops[op].fault.clone();
        self.coverage.struck(&fault);
        if let Some(at_ns) = end {
            self.push(at_ns, Item::Resume { node, pause });
        }
        self.shade_node(Family::Pause.name(), node, u64::MAX);
        self.recount();
        self.end(Some(node), What::Pause);
    }

    /// Lets a paused node go on with what waited for it.
    pub(super) fn resume(&mut self, node: NodeIx) {
        self.begin(Tag::Resume, Some(node), self.current, Text::default);
        self.world.nodes[node.index()].paused = false;
        self.take_up(node);
        if let Some(scribe) = &mut self.scribe {
            scribe.node_ends(node, self.world.now_ns);
        }
        self.recount();
        self.end(Some(node), What::Resume);
    }

    /// Ends every fault: the liveness phase begins.
    pub(super) fn heal(&mut self) {
        let now_ns = self.world.now_ns;
        self.begin(Tag::Heal, None, self.current, Text::default);
        self.world.healed = true;
        self.points.clear();
        self.stop_at = self.events_max;
        self.links.heal();
        for at in self.world.nodes() {
            let place = &mut self.world.nodes[at.index()];
            place.disk.heal();
            place.clock.heal(now_ns);
            self.move_timers(at);
        }
        if let Some(scribe) = &mut self.scribe {
            scribe.heal(now_ns);
        }
        self.look_again();
        self.recount();
        self.end(None, What::Heal);
        for at in self.world.nodes() {
            let place = &self.world.nodes[at.index()];
            if place.paused {
                self.resume(at);
            } else if place.node.is_none() && self.plan.restarts_at_heal() {
                self.push(now_ns, Item::Restart(place.peer));
            }
        }
    }

    /// Compares the durable state of a node with a replay of its log.
    fn audit(&mut self, at: NodeIx) {
        let place = &self.world.nodes[at.index()];
        let Some(node) = &place.node else { return };
        // In the middle of a step, records that were applied may not be written yet.
        if node.last() != place.log.last() {
            return;
        }
        let config = self.protocol.config(at);
        if let Err(diverged) = place.log.audit(&config, node) {
            self.judge
                .fail("durable-state", format!("{at}: {diverged}"));
        }
    }

    /// Audits every node that is up.
    pub(super) fn audit_all(&mut self) {
        self.world.nodes().for_each(|at| self.audit(at));
    }

    fn shade_node(&mut self, what: &'static str, node: NodeIx, until_ns: u64) {
        if let Some(scribe) = &mut self.scribe {
            scribe.open_shade(what, node, self.world.now_ns, until_ns);
        }
    }

    fn shade_links(&mut self, fault: &Fault) {
        if let Some(scribe) = &mut self.scribe {
            scribe.shade_links(fault, self.world.now_ns, self.world.len());
        }
    }
}
