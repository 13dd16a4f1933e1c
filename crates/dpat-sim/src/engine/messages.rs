//! Messages and timers: what a node sends, and what reaches it.

use dpat_core::Instant;
use dpat_model::{Input, Link, Node, NodeIx, Peer, Process};

use super::item::{How, Item};
use super::points::Point;
use super::queue::{Due, Key};
use super::record::Text;
use super::timers::CameUp;
use super::{Engine, Msg, Proc, Tag};
use crate::{Cause, Fate, FateWord, Protocol, SentFate, What, Wire};

/// A message that a link keeps.
#[derive(Debug)]
pub(super) struct Held<M> {
    pub(super) from: Peer,
    pub(super) to: NodeIx,
    pub(super) how: How,
    pub(super) cause: u64,
    pub(super) msg: M,
}

type Codec<T> = (fn(&T, &mut Vec<u8>), fn(&[u8]) -> Result<T, String>);

impl<Pr: Protocol> Engine<Pr> {
    /// Sends a message; false if the node is down afterwards.
    #[inline]
    pub(super) fn send(&mut self, at: NodeIx, to: NodeIx, msg: Msg<Pr>) -> bool {
        let from = self.world.nodes[at.index()].peer;
        if self.points.any() {
            self.pass(Point::Send(Pr::kind(&msg)));
            if !self.world.nodes[at.index()].is_life(from) {
                return false;
            }
        }
        if to.0 >= self.world.len() {
            let message = format!("{at} sent to {to}, which does not exist");
            self.judge.fail("no-such-node", message);
            return true;
        }
        let msg = if self.wire.is_some() {
            match self.through_bytes(msg, |wire| (wire.encode_msg, wire.decode_msg)) {
                Some(msg) => msg,
                None => return true,
            }
        } else {
            msg
        };
        if self.sessions.is_some() && at != to && Proc::<Pr>::link(&msg) == Link::Session {
            self.send_on_session(from, to, msg);
            return true;
        }
        let bytes = if self.links.needs_sizes() {
            self.size(&msg)
        } else {
            0
        };
        let now_ns = self.world.now_ns;
        let route = self.links.route(now_ns, at, to, bytes);
        if self.scribe.is_some() {
            self.note_sent(to, &msg, route.first);
        }
        if let Some(at_ns) = route.copy {
            let (how, msg) = (How::Copy, msg.clone());
            self.push(at_ns, Item::Message { to, from, how, msg });
        }
        self.on_its_way(from, to, How::Datagram, msg, route.first);
        true
    }

    /// Queues a message, keeps it, or forgets it.
    #[inline]
    pub(super) fn on_its_way(
        &mut self,
        from: Peer,
        to: NodeIx,
        how: How,
        msg: Msg<Pr>,
        fate: Fate,
    ) {
        match fate {
            Fate::At(at_ns) => self.push(at_ns, Item::Message { to, from, how, msg }),
            Fate::Lost(_) => {}
            Fate::Held => {
                self.aside += 1;
                let cause = self.current;
                self.held.push(Held {
                    from,
                    to,
                    how,
                    cause,
                    msg,
                });
            }
        }
    }

    /// A message arrives.
    #[inline]
    pub(super) fn message(
        &mut self,
        key: Key,
        cause: u64,
        to: NodeIx,
        from: Peer,
        how: How,
        msg: Msg<Pr>,
    ) {
        let kind = Pr::kind(&msg);
        let place = &self.world.nodes[to.index()];
        if place.paused || place.node.as_ref().is_some_and(Node::is_backlogged) {
            let item = Item::Message { to, from, how, msg };
            return self.put_aside(to, Due { key, cause, item });
        }
        if self.points.any() {
            self.pass(Point::Deliver(kind));
        }
        let Some(process) = self.world.process(to) else {
            return self.lose(cause, to, from, kind, &msg);
        };
        let phase = Pr::phase(process);
        if self.links.is_cut(self.world.now_ns, from.node, to) || self.is_stale(from, to, how) {
            return self.lose(cause, to, from, kind, &msg);
        }
        let copy = how == How::Copy;
        let tag = if copy { Tag::Duplicate } else { Tag::Deliver };
        self.begin(tag, Some(to), cause, || {
            Text::message::<Pr>(&msg, from, cause)
        });
        if self.hashing {
            self.digest(&from);
            self.digest(&msg);
        }
        self.delivered += 1;
        let families = self.links.families().union(self.suffered);
        self.coverage.delivered(kind, phase, families);
        self.feed(to, Input::Msg { from, msg });
        self.end(Some(to), What::Deliver { from, kind, copy });
    }

    /// A message is lost on arrival.
    #[cold]
    fn lose(&mut self, cause: u64, to: NodeIx, from: Peer, kind: usize, msg: &Msg<Pr>) {
        self.begin(Tag::Lost, Some(to), cause, || {
            Text::message::<Pr>(msg, from, cause)
        });
        self.digest(&from);
        self.digest(msg);
        self.end(Some(to), What::Lost { from, kind });
    }

    /// Sends on its way what links no longer keep, in order.
    pub(super) fn release(&mut self) {
        let now_ns = self.world.now_ns;
        let mut kept = Vec::new();
        for held in std::mem::take(&mut self.held) {
            if self.links.is_held(now_ns, held.from.node, held.to) {
                kept.push(held);
                continue;
            }
            self.aside -= 1;
            let Held {
                from,
                to,
                how,
                cause,
                msg,
            } = held;
            self.nested(|engine| {
                engine.current = cause; // the trace shows who sent it
                if let How::Session { epoch } = how {
                    engine.send_again_on_session(from, to, epoch, msg);
                } else {
                    let size = engine.size(&msg);
                    let route = engine.links.route(now_ns, from.node, to, size);
                    engine.on_its_way(from, to, how, msg, route.first);
                }
            });
        }
        self.held.append(&mut kept);
    }

    /// Passes a value through bytes and back; none if that fails, which is a violation.
    pub(super) fn through_bytes<T>(
        &mut self,
        value: T,
        codec: impl FnOnce(&Wire<Proc<Pr>>) -> Codec<T>,
    ) -> Option<T> {
        let Some(wire) = &self.wire else {
            return Some(value);
        };
        let (encode, decode) = codec(wire);
        let (first, second) = &mut self.bytes;
        first.clear();
        second.clear();
        encode(&value, first);
        let message = match decode(first) {
            Ok(read) => {
                encode(&read, second);
                if first == second {
                    return Some(read);
                }
                format!("what was read from {first:02x?} is written as {second:02x?}")
            }
            Err(error) => format!("what was written as {first:02x?} cannot be read: {error}"),
        };
        self.judge.fail("codec", message);
        None
    }

    /// Returns the size of a message, in bytes if the protocol says how they look, in memory otherwise.
    pub(super) fn size(&mut self, msg: &Msg<Pr>) -> usize {
        let Some(wire) = self.wire.or_else(Pr::wire) else {
            return size_of::<Msg<Pr>>();
        };
        self.bytes.0.clear();
        (wire.encode_msg)(msg, &mut self.bytes.0);
        self.bytes.0.len()
    }

    #[cold]
    pub(super) fn note_sent(&mut self, to: NodeIx, msg: &Msg<Pr>, fate: Fate) {
        let fate = match fate {
            Fate::At(at_ns) => SentFate::At(at_ns),
            Fate::Lost(Cause::Loss) => SentFate::Word(FateWord::Lost),
            Fate::Lost(Cause::Partition) => SentFate::Word(FateWord::Partition),
            Fate::Held => SentFate::Word(FateWord::Held),
        };
        self.note_sent_as(to, msg, fate);
    }

    #[cold]
    pub(super) fn note_sent_as(&mut self, to: NodeIx, msg: &Msg<Pr>, fate: SentFate) {
        if let Some(scribe) = &mut self.scribe {
            let kind = Pr::KINDS.get(Pr::kind(msg)).copied().unwrap_or_default();
            scribe.sent(self.current, to, kind, fate);
        }
    }

    /// Arms a timer of a node.
    #[inline]
    pub(super) fn arm(&mut self, at: NodeIx, timer: <Proc<Pr> as Process>::Timer, local: Instant) {
        let seq = self.queue.reserve();
        let place = &mut self.world.nodes[at.index()];
        let at_ns = place.clock.true_time_of(local, self.world.now_ns);
        let due = Key { at_ns, seq };
        if let Some(key) = place.timers.arm(timer, local, due) {
            let item = Item::Timer {
                peer: place.peer,
                key: timer,
            };
            self.queue.push_at(key, self.current, item);
            if self.queue.len() + self.aside >= super::QUEUE_MAX {
                self.overflow();
            }
        }
    }

    /// A timer may be due.
    #[inline]
    pub(super) fn timer(
        &mut self,
        key: Key,
        cause: u64,
        peer: Peer,
        timer: <Proc<Pr> as Process>::Timer,
    ) {
        let at = peer.node;
        let place = &mut self.world.nodes[at.index()];
        if !place.is_life(peer) {
            return;
        }
        let item = Item::Timer { peer, key: timer };
        if place.paused {
            return self.put_aside(at, Due { key, cause, item });
        }
        match place.timers.came_up(timer, key) {
            CameUp::Stale => {}
            CameUp::Later(key) => self.queue.push_at(key, cause, item),
            CameUp::Fire => {
                self.begin(Tag::Timer, Some(at), cause, || Text::debug(&timer));
                self.digest(&timer);
                self.feed(at, Input::Timer(timer));
                self.end(Some(at), What::Timer(timer));
            }
        }
    }

    /// Moves the timers of a node to where its changed clock has them.
    pub(super) fn move_timers(&mut self, at: NodeIx) {
        let now_ns = self.world.now_ns;
        let place = &mut self.world.nodes[at.index()];
        let (peer, clock, queue) = (place.peer, &place.clock, &mut self.queue);
        let cause = self.current;
        place.timers.move_all(
            |local| clock.true_time_of(local, now_ns),
            |key, due| queue.push_at(due, cause, Item::Timer { peer, key }),
        );
    }
}
