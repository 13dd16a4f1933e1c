//! What the operations of a script do to a world.

use bytes::Bytes;
use dpat_model::{Fault, NodeIx, Peer, Script, Trigger};

use super::net::{Carried, End};
use super::ready::TaskId;
use super::record::What;
use super::sim::Struck;
use super::world::{Item, Role, TaskState, World};
use crate::disk::SimDisk;

fn ns(us: u64) -> u64 {
    us.saturating_mul(1_000)
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// The machine is gone, with what was not durable.
    Crash,
    /// The process is gone; the machine keeps what it wrote, and tells its callers.
    Kill,
    /// The machine is gone with its disk.
    Wipe,
}

impl World {
    /// Puts the operations of the script where they wait.
    pub(super) fn schedule(&mut self) {
        let script: &Script = &self.script;
        let mut timed = Vec::new();
        for (index, op) in script.ops.iter().enumerate() {
            match &op.when {
                // These hold from the start, whenever they are due.
                _ if matches!(op.fault, Fault::Calls { .. }) => {}
                Trigger::At(us) => timed.push((ns(*us), index)),
                Trigger::Event(event) => self.at_events.push((*event, index)),
                Trigger::Point { nth, .. } => self.at_points.push((index, *nth)),
            }
        }
        // Of those due together the earlier in the script comes first.
        self.at_events.sort_unstable();
        self.at_events.reverse();
        for (at, op) in timed {
            self.push(at, Item::Op(op));
        }
    }

    /// Lets the operations strike that wait for the next event.
    pub(super) fn strike_due(&mut self) {
        while let Some((event, op)) = self.at_events.last().copied() {
            if event > self.events() {
                return;
            }
            self.at_events.pop();
            self.strike(op);
        }
    }

    /// Carries out an operation of the script.
    pub(super) fn strike(&mut self, op: usize) {
        let fault = self.script.ops[op].fault.clone();
        let now = self.now_ns;
        let struck = match &fault {
            Fault::Crash { node, for_us } => self.down(*node, Death::Crash, *for_us),
            Fault::Kill { node, for_us, .. } => self.down(*node, Death::Kill, *for_us),
            Fault::Wipe { node, for_us } => self.down(*node, Death::Wipe, *for_us),
            Fault::Restart { node } => self.restart(*node),
            Fault::Pause { node, for_us } => self.pause(*node, *for_us),
            Fault::Resume { node } => self.resume(*node),
            Fault::ClockOffset { node, .. }
            | Fault::ClockDrift { node, .. }
            | Fault::ClockJump { node, .. }
            | Fault::ClockFreeze { node, .. } => {
                self.place(*node).clock.apply(now, &fault);
                self.fault_event(Some(*node), &fault);
                self.wake_timers(*node);
                true
            }
            Fault::DiskTorn { node, .. }
            | Fault::DiskLost { node, .. }
            | Fault::DiskReorder { node, .. }
            | Fault::DiskCorrupt { node, .. } => {
                self.place(*node).disk.apply(&fault);
                self.fault_event(Some(*node), &fault);
                true
            }
            Fault::DiskError { node, for_us, .. } | Fault::DiskFull { node, for_us } => {
                self.place(*node).disk.apply(&fault);
                self.fault_event(Some(*node), &fault);
                if let Some(us) = for_us {
                    let (node, fault) = (*node, fault.clone());
                    self.push(now.saturating_add(ns(*us)), Item::Disk { node, fault });
                }
                true
            }
            _ => {
                let of_links = self.links.apply(now, &fault);
                self.fault_event(None, &fault);
                if of_links {
                    self.look_at_held();
                    self.watch_links();
                }
                true
            }
        };
        if struck {
            self.struck.push(Struck { op, at_ns: now });
            self.coverage.struck(&fault);
            self.record.shade(&fault, now);
        }
    }

    fn fault_event(&mut self, node: Option<NodeIx>, fault: &Fault) {
        self.begin(What::Fault, node, None);
        self.record.fault(fault);
    }

    /// Ends the life of a node; false if it is down.
    fn down(&mut self, node: NodeIx, death: Death, for_us: Option<u64>) -> bool {
        let place = self.place(node);
        if !place.up {
            return false;
        }
        let peer = place.peer;
        place.up = false;
        place.paused = false;
        place.killed = death == Death::Kill;
        place.turns += 1;
        place.parked.clear();
        let turn = place.turns;
        let lost = std::mem::take(&mut place.backlog);
        let handler = place.handler.take();
        place.disk = match death {
            Death::Crash => place.disk.crash(),
            Death::Kill => place.disk.kill(),
            Death::Wipe => {
                let old = place.disk.crash();
                drop(old);
                SimDisk::new(u64::from(node.0) << 32 | turn)
            }
        };
        let now = self.now_ns;
        if let Some((_, end)) = self.place(node).lives.last_mut() {
            *end = Some(now);
        }
        self.after.handlers.extend(handler);
        self.begin(What::Crash, Some(node), None);
        self.record.label(match death {
            Death::Crash => "crash",
            Death::Kill => "kill",
            Death::Wipe => "wipe",
        });
        self.bury(peer, death);
        self.messages -= lost.len();
        for envelope in lost {
            if let (Carried::Request { call, .. }, Death::Kill) = (envelope.what, death) {
                let (caller, kind) = (envelope.from.node, envelope.kind);
                self.post_end(peer, caller, kind, call, End::Closed, Bytes::new());
            }
        }
        if let Some(us) = for_us {
            self.push(now.saturating_add(ns(us)), Item::Restart { node, turn });
        }
        true
    }

    /// Takes the tasks of a dead life away; a killed process leaves its callers with closed connections.
    fn bury(&mut self, peer: Peer, death: Death) {
        let of_node = |task: &&TaskState| task.node == peer.node;
        let tasks = self.tasks.iter().flatten().filter(of_node);
        let ids: Vec<TaskId> = tasks.map(|task| task.id).collect();
        let mut roles = Vec::new();
        for id in ids {
            if let Some(task) = self.remove_task(id) {
                roles.push(task.role);
                self.after.graves.extend(task.program);
            }
        }
        // Whoever passed a point that it did not survive.
        if let Some(running) = self.running.filter(|running| running.node == peer.node) {
            self.running = None;
            self.close_task(running.id);
            roles.push(running.role);
        }
        if death != Death::Kill {
            return;
        }
        for role in roles {
            if let Role::Serving { caller, kind, call } = role {
                self.post_end(peer, caller, kind, call, End::Closed, Bytes::new());
            }
        }
    }

    /// Starts a node again; false if it is up.
    pub(super) fn restart(&mut self, node: NodeIx) -> bool {
        if self.place(node).up {
            return false;
        }
        let begun = !self.place(node).lives.is_empty();
        let what = if begun { What::Restart } else { What::Start };
        self.begin(what, Some(node), None);
        let now = self.now_ns;
        let place = self.place(node);
        place.up = true;
        place.turns += 1;
        place.peer.incarnation += u64::from(begun);
        place.lives.push((now, None));
        self.after.boots.push(node);
        true
    }

    fn pause(&mut self, node: NodeIx, for_us: Option<u64>) -> bool {
        let place = self.place(node);
        if !place.up || place.paused {
            return false;
        }
        place.paused = true;
        place.turns += 1;
        let turn = place.turns;
        self.begin(What::Pause, Some(node), None);
        if let Some(us) = for_us {
            let at = self.now_ns.saturating_add(ns(us));
            self.push(at, Item::Resume { node, turn });
        }
        true
    }

    pub(super) fn resume(&mut self, node: NodeIx) -> bool {
        let place = self.place(node);
        if !place.paused {
            return false;
        }
        place.paused = false;
        place.turns += 1;
        let parked = std::mem::take(&mut place.parked);
        let backlog = std::mem::take(&mut place.backlog);
        self.begin(What::Resume, Some(node), None);
        for (task, cause) in parked {
            self.ready.wake(task, cause);
        }
        self.messages -= backlog.len();
        let now = self.now_ns;
        for envelope in backlog {
            self.messages += 1;
            self.push(now, Item::Arrive(envelope));
        }
        true
    }

    /// Wakes every timer of a node: its clock has changed, so that they are due at another time.
    fn wake_timers(&mut self, node: NodeIx) {
        let of_node = |item: &Item| matches!(item, Item::Timer { node: of, .. } if *of == node);
        let event = self.event();
        for key in self.queue.keys(of_node) {
            if let Some(waker) = self.take_timer(key) {
                self.after.wakers.push((waker, event));
            }
        }
    }

    /// Ends every fault: links, clocks, disks and pauses; nodes that are down start again if `restart` says so.
    ///
    /// What is left of the script does not strike.
    pub(super) fn heal(&mut self, restart: bool) {
        self.healed = true;
        self.begin(What::Heal, None, None);
        self.at_events.clear();
        self.at_points.clear();
        let now = self.now_ns;
        let of_script = |item: &Item| {
            matches!(
                item,
                Item::Op(_) | Item::Restart { .. } | Item::Resume { .. } | Item::Disk { .. }
            )
        };
        for key in self.queue.keys(of_script) {
            self.queue.remove(key);
        }
        self.links.heal();
        self.look_at_held();
        for node in (0..self.nodes).map(NodeIx) {
            if self.place(node).clock.is_faulty(now) {
                self.place(node).clock.heal(now);
                self.wake_timers(node);
            }
            let disk = &self.place(node).disk;
            disk.set_errors(0);
            disk.set_full(false);
            self.resume(node);
            if restart {
                self.restart(node);
            }
        }
        self.record.heal(now);
    }
}
