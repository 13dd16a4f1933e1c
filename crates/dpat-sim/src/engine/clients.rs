//! Clients: one call after the other, and exactly one answer to each.

use std::time::Duration;

use dpat_core::Deadline;
use dpat_model::{Answer, Fault, Input, NodeIx, Process, Refusal, ReqId, Script};

use super::item::Item;
use super::queue::{Due, Key};
use super::record::Text;
use super::{Engine, Proc, Tag, after};
use crate::{Call, ClientCx, Protocol, SELF_DELAY_NS, Stream, What};

type Rep<Pr> = <Proc<Pr> as Process>::Rep;

/// A client.
#[derive(Debug)]
pub(super) struct Client<R> {
    open: Option<Open<R>>,
    /// If the script says so: the only calls that it makes, in rising order.
    keep: Option<Vec<u64>>,
    /// The calls so far, those that it leaves out included.
    begun: u64,
}

/// A call that has no answer yet.
#[derive(Debug)]
struct Open<R> {
    call: u64,
    node: NodeIx,
    req: R,
    patience: Duration,
    /// When the client stops waiting; none before it has asked.
    until_ns: Option<u64>,
    /// An answer is on its way to the client.
    answered: bool,
}

impl<R> Client<R> {
    pub(super) fn new(client: u32, script: &Script) -> Self {
        let mut all: Option<Vec<u64>> = None;
        for op in &script.ops {
            match &op.fault {
                Fault::Calls { client: of, keep } if *of == u64::from(client) => match &mut all {
                    None => all = Some(keep.clone()),
                    Some(all) => all.retain(|call| keep.contains(call)),
                },
                _ => {}
            }
        }
        Self {
            open: None,
            keep: all,
            begun: 0,
        }
    }

    /// Returns how many calls have begun, those left out included.
    pub(super) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Returns the first call that it makes, not before this one.
    fn next(&self, call: u64) -> Option<u64> {
        match &self.keep {
            None => Some(call),
            Some(keep) => keep.iter().copied().find(|kept| *kept >= call),
        }
    }

    fn call(&mut self, call: u64) -> Option<&mut Open<R>> {
        self.open.as_mut().filter(|open| open.call == call)
    }
}

impl<Pr: Protocol> Engine<Pr> {
    /// Names a request so that the answer finds its client.
    fn id(&self, client: u32, call: u64) -> ReqId {
        ReqId(call * self.clients.len() as u64 + u64::from(client))
    }

    fn stream(&self, family: &'static str, client: u32, call: u64) -> Stream {
        Stream::new(self.seed, family, u64::from(client) << 40 ^ call)
    }

    /// Asks the protocol for the next call of a client.
    pub(super) fn next_call(&mut self, client: u32, call: u64) {
        let Some(call) = self.clients[client as usize].next(call) else {
            return;
        };
        let mut rng = self.stream("client", client, call);
        let mut cx = ClientCx {
            now_ns: self.world.now_ns,
            nodes: self.world.len(),
            healed: self.world.healed,
            rng: &mut rng,
            judge: &mut self.judge,
        };
        let Some(next) = self.protocol.next(client, call, &mut cx) else {
            return;
        };
        let Call {
            node,
            req,
            after: thinks,
            patience,
        } = next;
        if node.0 >= self.world.len() {
            let message = format!("client {client} asks {node}, which does not exist");
            return self.judge.fail("no-such-node", message);
        }
        let state = &mut self.clients[client as usize];
        state.begun = call + 1;
        state.open = Some(Open {
            call,
            node,
            req,
            patience,
            until_ns: None,
            answered: false,
        });
        let at_ns = after(self.world.now_ns, thinks);
        self.push(at_ns, Item::Request { client, call });
    }

    /// A request reaches its node.
    pub(super) fn request(&mut self, key: Key, cause: u64, client: u32, call: u64) {
        let now_ns = self.world.now_ns;
        let mut rng = self.stream("asked", client, call);
        // A request that waited for a paused node may have been given up.
        let Some(open) = self.clients[client as usize].call(call) else {
            return;
        };
        let at = open.node;
        if open.until_ns.is_none() {
            let until_ns = after(now_ns, open.patience);
            open.until_ns = Some(until_ns);
            let mut cx = ClientCx {
                now_ns,
                nodes: self.world.len(),
                healed: self.world.healed,
                rng: &mut rng,
                judge: &mut self.judge,
            };
            self.protocol.asked(client, call, &open.req, &mut cx);
            if until_ns != u64::MAX {
                self.push(until_ns, Item::Patience { client, call });
            }
        }
        let place = &self.world.nodes[at.index()];
        if place.paused {
            let item = Item::Request { client, call };
            return self.put_aside(at, Due { key, cause, item });
        }
        let Some(open) = self.clients[client as usize].call(call) else {
            return;
        };
        let req = open.req.clone();
        let left = match open.until_ns {
            None | Some(u64::MAX) => None,
            Some(until_ns) => Some(Duration::from_nanos(until_ns.saturating_sub(now_ns))),
        };
        let deadline = left.map_or(Deadline::NEVER, |left| {
            Deadline::at(place.clock.reading(now_ns).now + left)
        });
        let id = self.id(client, call);
        self.begin(Tag::Request, Some(at), cause, || Text::debug(&req));
        self.digest(&(client, call, &req));
        if self.world.is_up(at) {
            self.feed(at, Input::Req { id, deadline, req });
        } else {
            self.reply(id, Answer::NotDone(Refusal::Down));
        }
        self.end(Some(at), What::Request { client, call });
    }

    /// Sends the answer of a node to the client that waits for it.
    pub(super) fn reply(&mut self, id: ReqId, answer: Answer<Rep<Pr>>) {
        let clients = self.clients.len().max(1) as u64;
        let call = id.0 / clients;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "below the number of clients"
        )]
        let client = (id.0 % clients) as u32;
        let Some(open) = self.clients.get_mut(client as usize) else {
            return;
        };
        let Some(open) = open.call(call).filter(|open| !open.answered) else {
            return; // the client gave up
        };
        open.answered = true;
        let at_ns = self.world.now_ns.saturating_add(SELF_DELAY_NS);
        let item = Item::Answer {
            client,
            call,
            answer,
        };
        self.push(at_ns, item);
    }

    /// A request that waited at a node which crashed may have reached it, as far as anybody knows.
    pub(super) fn leave_in_doubt(&mut self, client: u32, call: u64) {
        self.reply(self.id(client, call), Answer::Unknown);
    }

    /// An answer reaches its client.
    pub(super) fn answer(&mut self, cause: u64, client: u32, call: u64, answer: Answer<Rep<Pr>>) {
        let Some(open) = self.clients[client as usize].call(call) else {
            return;
        };
        let at = open.node;
        self.begin(Tag::Answer, Some(at), cause, || Text::debug(&answer));
        self.digest(&(client, call, &answer));
        self.conclude(client, call, &answer);
        self.end(
            Some(at),
            What::Answer {
                client,
                call,
                answer: &answer,
            },
        );
    }

    /// Tells the protocol how a call ended, and begins the next.
    fn conclude(&mut self, client: u32, call: u64, answer: &Answer<Rep<Pr>>) {
        let Some(open) = self.clients[client as usize].open.take() else {
            return;
        };
        let mut rng = self.stream("answered", client, call);
        let mut cx = ClientCx {
            now_ns: self.world.now_ns,
            nodes: self.world.len(),
            healed: self.world.healed,
            rng: &mut rng,
            judge: &mut self.judge,
        };
        self.protocol
            .answered(client, call, &open.req, answer, &mut cx);
        self.next_call(client, call + 1);
    }

    /// A client loses patience: its node is told, and unless that makes it answer, nobody knows what happened.
    pub(super) fn lose_patience(&mut self, cause: u64, client: u32, call: u64) {
        let id = self.id(client, call);
        let Some(open) = self.clients[client as usize].call(call) else {
            return;
        };
        if open.answered {
            return;
        }
        let at = open.node;
        self.begin(Tag::Cancel, Some(at), cause, || Text::of(client));
        self.digest(&(client, call));
        let place = &self.world.nodes[at.index()];
        if place.paused {
            let peer = place.peer;
            let seq = self.queue.reserve();
            let key = Key {
                at_ns: self.world.now_ns,
                seq,
            };
            let item = Item::Cancel { peer, id };
            let cause = self.current;
            self.put_aside(at, Due { key, cause, item });
        } else {
            self.feed(at, Input::Cancel(id));
        }
        let answered = self.clients[client as usize]
            .call(call)
            .is_none_or(|open| open.answered);
        if !answered {
            self.conclude(client, call, &Answer::Unknown);
        }
        self.end(Some(at), What::Cancel { client, call });
    }
}
