//! Sessions: ordered links between two lives, of which a prefix arrives.

use dpat_model::{Input, NodeIx, Peer};

use super::item::{How, Item};
use super::queue::{Due, Key};
use super::record::Text;
use super::{Engine, Msg, Tag};
use crate::{Cause, Fate, FateWord, Protocol, SentFate, Stream, What};

/// Two nodes that could have a session try after a time that is uniform between these two.
const CONNECT_NS: (u64, u64) = (1_000_000, 5_000_000);
/// The time after which a node hears of a session that began.
const UP_NS: (u64, u64) = (100_000, 1_000_000);
/// The time after which a node hears of a session that ended.
const DOWN_NS: (u64, u64) = (1_000_000, 50_000_000);
/// A lost message is sent again after this time, and so on.
const RETRANSMIT_NS: u64 = 5_000_000;
/// The session ends when so many attempts are lost.
const ATTEMPTS_MAX: u32 = 12;

/// The sessions between all pairs of nodes.
#[derive(Debug)]
pub(super) struct Sessions {
    nodes: usize,
    pairs: Vec<Pair>,
    times: Stream,
}

/// Two nodes, the lower one first.
#[derive(Clone, Debug, Default)]
struct Pair {
    /// Counts the attempts; what belongs to an earlier one is void.
    epoch: u64,
    state: State,
    /// The life at the other side that each side believes to have a session with.
    told: [Option<Peer>; 2],
    /// Nothing arrives at each side before this time.
    floor: [u64; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
}

impl Sessions {
    pub(super) fn new(seed: u64, nodes: u32) -> Self {
        let nodes = nodes as usize;
        Self {
            nodes,
            pairs: vec![Pair::default(); nodes * nodes.saturating_sub(1) / 2],
            times: Stream::new(seed, "session", 0),
        }
    }

    fn index(&self, one: NodeIx, other: NodeIx) -> usize {
        let (low, high) = (
            one.index().min(other.index()),
            one.index().max(other.index()),
        );
        low * (2 * self.nodes - low - 1) / 2 + high - low - 1
    }

    fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        self.times.between(low, high)
    }
}

/// Which side of its pair with another node a node is.
const fn side(node: NodeIx, other: NodeIx) -> usize {
    (node.0 > other.0) as usize
}

impl<Pr: Protocol> Engine<Pr> {
    fn pair(&mut self, one: NodeIx, other: NodeIx) -> Option<&mut Pair> {
        let sessions = self.sessions.as_mut()?;
        let index = sessions.index(one, other);
        sessions.pairs.get_mut(index)
    }

    /// Says whether two nodes are up and hear each other.
    fn can_meet(&mut self, one: NodeIx, other: NodeIx) -> bool {
        let now_ns = self.world.now_ns;
        self.world.is_up(one)
            && self.world.is_up(other)
            && !self.links.is_cut(now_ns, one, other)
            && !self.links.is_cut(now_ns, other, one)
    }

    /// Begins and ends sessions as links allow.
    pub(super) fn look_at_sessions(&mut self) {
        if self.sessions.is_some() {
            for one in self.world.nodes() {
                for other in one.0 + 1..self.world.len() {
                    self.look_at_pair(one, NodeIx(other));
                }
            }
        }
    }

    /// Begins the sessions of a node.
    pub(super) fn look_at_sessions_of(&mut self, node: NodeIx) {
        if self.sessions.is_some() {
            for other in self.world.nodes().filter(|other| *other != node) {
                self.look_at_pair(node, other);
            }
        }
    }

    fn look_at_pair(&mut self, one: NodeIx, other: NodeIx) {
        let can = self.can_meet(one, other);
        let Some(pair) = self.pair(one, other) else {
            return;
        };
        match pair.state {
            State::Closed if can && pair.told == [None, None] => {
                pair.state = State::Opening;
                pair.epoch += 1;
                let epoch = pair.epoch;
                let Some(sessions) = &mut self.sessions else {
                    return;
                };
                let pair = sessions.index(one, other);
                let takes = sessions.between(CONNECT_NS);
                let at_ns = self.world.now_ns.saturating_add(takes);
                let nodes = [one.min(other), one.max(other)];
                self.push(at_ns, Item::Open { nodes, pair, epoch });
            }
            State::Open | State::Opening if !can => self.break_session(one, other),
            _ => {}
        }
    }

    /// Two nodes open a session, if they still can.
    pub(super) fn open_session(&mut self, nodes: [NodeIx; 2], index: usize, epoch: u64) {
        let [low, high] = nodes;
        let (now_ns, can) = (self.world.now_ns, self.can_meet(low, high));
        let held = self.links.is_held(now_ns, low, high) || self.links.is_held(now_ns, high, low);
        let lives = nodes.map(|node| self.world.nodes[node.index()].peer);
        let Some(sessions) = &mut self.sessions else {
            return;
        };
        let times = [sessions.between(UP_NS), sessions.between(UP_NS)];
        let times = times.map(|takes| now_ns.saturating_add(takes));
        let pair = &mut sessions.pairs[index];
        if pair.epoch != epoch || pair.state != State::Opening {
            return;
        }
        if !can || held {
            pair.state = State::Closed;
            return;
        }
        pair.state = State::Open;
        pair.floor = times;
        let [first, second] = lives;
        for (to, from, at_ns) in [(first, second, times[0]), (second, first, times[1])] {
            self.push(at_ns, Item::Up { to, from, epoch });
        }
    }

    /// A node hears that a session began.
    pub(super) fn session_up(&mut self, key: Key, cause: u64, to: Peer, from: Peer, epoch: u64) {
        if self.is_stale(from, to.node, How::Session { epoch }) {
            return;
        }
        let place = &self.world.nodes[to.node.index()];
        if !place.is_life(to) {
            return;
        }
        if place.paused {
            let item = Item::Up { to, from, epoch };
            return self.put_aside(to.node, Due { key, cause, item });
        }
        if let Some(pair) = self.pair(to.node, from.node) {
            pair.told[side(to.node, from.node)] = Some(from);
        }
        self.begin(Tag::Up, Some(to.node), cause, || Text::of(from));
        self.digest(&from);
        self.feed(to.node, Input::PeerUp(from));
        self.end(Some(to.node), What::Up(from));
    }

    /// A node hears that a session ended.
    pub(super) fn session_down(&mut self, key: Key, cause: u64, to: Peer, from: Peer) {
        let place = &self.world.nodes[to.node.index()];
        if !place.is_life(to) {
            return;
        }
        if place.paused {
            let item = Item::Down { to, from };
            return self.put_aside(to.node, Due { key, cause, item });
        }
        if let Some(pair) = self.pair(to.node, from.node) {
            pair.told[side(to.node, from.node)] = None;
        }
        self.begin(Tag::Down, Some(to.node), cause, || Text::of(from));
        self.digest(&from);
        self.feed(to.node, Input::PeerDown(from));
        self.look_at_pair(to.node, from.node);
        self.end(Some(to.node), What::Down(from));
    }

    /// Ends a session at once: what is under way on it never arrives. Each side hears of it after a while.
    fn break_session(&mut self, one: NodeIx, other: NodeIx) {
        let Some(pair) = self.pair(one, other) else {
            return;
        };
        let was_open = pair.state == State::Open;
        pair.state = State::Closed;
        pair.epoch += 1;
        let told = pair.told;
        if !was_open {
            return;
        }
        for (to, from) in [(one, other), (other, one)] {
            let Some(from) = told[side(to, from)] else {
                continue;
            };
            let Some(sessions) = &mut self.sessions else {
                return;
            };
            let at_ns = self.world.now_ns.saturating_add(sessions.between(DOWN_NS));
            let to = self.world.nodes[to.index()].peer;
            self.push(at_ns, Item::Down { to, from });
        }
    }

    /// A life has ended, and with it its sessions.
    pub(super) fn break_sessions_of(&mut self, peer: Peer) {
        if self.sessions.is_none() {
            return;
        }
        for other in self.world.nodes().filter(|other| *other != peer.node) {
            self.break_session(peer.node, other);
            if let Some(pair) = self.pair(peer.node, other) {
                pair.told[side(peer.node, other)] = None;
            }
        }
    }

    /// Says whether a message belongs to a session that has ended.
    #[inline]
    pub(super) fn is_stale(&mut self, from: Peer, to: NodeIx, how: How) -> bool {
        let How::Session { epoch } = how else {
            return false;
        };
        let pair = self.pair(from.node, to);
        pair.is_none_or(|pair| pair.epoch != epoch || pair.state != State::Open)
    }

    /// Sends on the session to a node, if the sender believes in one.
    pub(super) fn send_on_session(&mut self, from: Peer, to: NodeIx, msg: Msg<Pr>) {
        let session = self.pair(from.node, to).and_then(|pair| {
            let believed = pair.told[side(from.node, to)].is_some();
            (believed && pair.state == State::Open).then_some(pair.epoch)
        });
        let Some(epoch) = session else {
            return self.note_sent_as(to, &msg, SentFate::Word(FateWord::NoSession));
        };
        self.send_with_epoch(from, to, epoch, msg, true);
    }

    /// Sends what a link has kept, if the session is still that one.
    pub(super) fn send_again_on_session(
        &mut self,
        from: Peer,
        to: NodeIx,
        epoch: u64,
        msg: Msg<Pr>,
    ) {
        if !self.is_stale(from, to, How::Session { epoch }) {
            self.send_with_epoch(from, to, epoch, msg, false);
        }
    }

    fn send_with_epoch(&mut self, from: Peer, to: NodeIx, epoch: u64, msg: Msg<Pr>, new: bool) {
        let bytes = if self.links.needs_sizes() {
            self.size(&msg)
        } else {
            0
        };
        let now_ns = self.world.now_ns;
        let mut fate = Fate::Lost(Cause::Loss);
        let mut late = 0;
        for _ in 0..ATTEMPTS_MAX {
            fate = self.links.route(now_ns, from.node, to, bytes).first;
            if fate != Fate::Lost(Cause::Loss) {
                break;
            }
            late += RETRANSMIT_NS;
        }
        if let (Fate::At(at_ns), Some(pair)) = (fate, self.pair(from.node, to)) {
            let floor = &mut pair.floor[side(to, from.node)];
            *floor = at_ns.saturating_add(late).max(*floor);
            fate = Fate::At(*floor);
        }
        if new && self.scribe.is_some() {
            self.note_sent(to, &msg, fate);
        }
        if let Fate::Lost(_) = fate {
            return self.break_session(from.node, to);
        }
        self.on_its_way(from, to, How::Session { epoch }, msg, fate);
    }
}
