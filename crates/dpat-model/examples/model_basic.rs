//! A register on a primary and a backup, run by a small executor that reorders, loses and crashes by seed.
//!
//! An acknowledged write is on both nodes, so it survives the crash of either. Run with
//! `cargo run -p dpat-model --example model_basic`.
#![allow(clippy::print_stdout)] // it is a program

use std::time::Duration;

use dpat_core::{Clock, Deadline, Entropy, Instant, SplitMix64, Wall};
use dpat_model::{
    Answer, Breach, Cx, Digest, Draw, Input, Limits, Lsn, MemLog, Node, NodeIx, Output, Peer,
    Process, Reading, ReqId,
};

const PRIMARY: NodeIx = NodeIx(0);
const BACKUP: NodeIx = NodeIx(1);

/// One of the two nodes.
#[derive(Clone, Debug)]
struct Register {
    value: u64,
    /// At the primary: the write that waits for the backup.
    waiting: Option<(ReqId, u64)>,
}

#[derive(Clone, Debug)]
enum Message {
    Store(u64),
    Stored(u64),
}

impl Process for Register {
    type Config = ();
    type Snapshot = u64;
    type Req = u64;
    type Rep = ();
    type Msg = Message;
    type Rec = u64;
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, _config: &(), snapshot: Option<&u64>) -> Self {
        let value = snapshot.copied().unwrap_or(0);
        let waiting = None;
        Self { value, waiting }
    }

    fn apply(&mut self, _at: Lsn, value: &u64) {
        self.value = *value;
    }

    fn snapshot(&self) -> u64 {
        self.value
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Req { id, req: value, .. } => {
                cx.log(self, value);
                self.waiting = Some((id, value));
                cx.send(BACKUP, Message::Store(value));
                cx.arm((), Duration::from_millis(20));
            }
            // Lost, perhaps: send again until it is acknowledged.
            Input::Timer(()) => {
                if let Some((_, value)) = self.waiting {
                    cx.send(BACKUP, Message::Store(value));
                    cx.arm((), Duration::from_millis(20));
                }
            }
            Input::Msg { from, msg } => match msg {
                Message::Store(value) => {
                    if value > self.value {
                        cx.log(self, value);
                    }
                    cx.send(from.node, Message::Stored(value)); // waits for the record
                }
                Message::Stored(value) => {
                    if let Some((id, _)) = self.waiting.take_if(|(_, wanted)| *wanted == value) {
                        cx.disarm(());
                        cx.reply(id, ());
                    }
                }
            },
            _ => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.value);
        digest.volatile(&self.waiting);
    }
}

/// Both nodes, and what is under way between them.
struct System {
    entropy: SplitMix64,
    now: Instant,
    nodes: Vec<Node<Register>>,
    logs: Vec<MemLog<Register>>,
    network: Vec<(Peer, NodeIx, Message)>,
    acknowledged: u64,
    unknown: u64,
}

impl Clock for System {
    fn now(&self) -> Instant {
        self.now
    }
    fn wall(&self) -> Wall {
        Wall::MIN
    }
}

impl System {
    fn new(seed: u64) -> Result<Self, Breach> {
        let mut system = Self {
            entropy: SplitMix64::new(seed),
            now: Instant::MIN,
            nodes: Vec::new(),
            logs: vec![MemLog::default(), MemLog::default()],
            network: Vec::new(),
            acknowledged: 0,
            unknown: 0,
        };
        for node in [PRIMARY, BACKUP] {
            let me = Peer {
                node,
                incarnation: 0,
            };
            let booted = system.logs[node.index()].boot(me, &(), Limits::default());
            system.nodes.push(booted);
            system.step(node, Input::Start)?;
        }
        Ok(system)
    }

    fn step(&mut self, at: NodeIx, input: Input<Register>) -> Result<(), Breach> {
        let (now, wall) = (self.now(), self.wall());
        let mut out = Vec::new();
        let node = &mut self.nodes[at.index()];
        node.step(
            Reading { now, wall },
            input,
            &mut Draw(&self.entropy),
            &mut out,
        )?;
        self.carry_out(at, out);
        Ok(())
    }

    fn carry_out(&mut self, at: NodeIx, out: Vec<Output<Register>>) {
        let from = self.nodes[at.index()].me();
        for output in out {
            match self.logs[at.index()].take(output) {
                Some(Output::Send { to, msg, .. }) => self.network.push((from, to, msg)),
                Some(Output::Reply { answer, .. }) => match answer {
                    Answer::Reply(()) => self.acknowledged += 1,
                    _ => self.unknown += 1,
                },
                _ => {} // timers are asked for with `next_timer`
            }
        }
    }

    /// Does one thing that can happen, chosen by the seed.
    fn happen(&mut self) -> Result<(), Breach> {
        let at = NodeIx(u32::from(self.entropy.below(2) == 1));
        match self.entropy.below(10) {
            // A sync of the disk ends.
            0..=2 => {
                let last = self.nodes[at.index()].last();
                self.logs[at.index()].sync(last);
                self.step(at, Input::Durable(last))?;
            }
            // A timer is due.
            3 => {
                if let Some((due, ())) = self.nodes[at.index()].next_timer() {
                    self.now = self.now.max(due);
                    self.step(at, Input::Timer(()))?;
                }
            }
            // A crash, of the backup: the disk keeps some of what was not synced.
            4 => {
                let mut out = Vec::new();
                let node = &mut self.nodes[BACKUP.index()];
                let mut me = node.me();
                me.incarnation += 1;
                let span = node.last().0 - node.durable().0;
                let kept = Lsn(node.durable().0 + self.entropy.below(span + 1));
                node.halt(&mut out);
                self.logs[BACKUP.index()].crash(kept);
                *node = self.logs[BACKUP.index()].boot(me, &(), Limits::default());
                self.carry_out(BACKUP, out);
                self.step(BACKUP, Input::Start)?;
            }
            // A message arrives, one of all that are under way; every fifth is lost.
            kind => {
                let count = self.network.len() as u64;
                let index = usize::try_from(self.entropy.below(count)).unwrap_or(0);
                if index < self.network.len() {
                    let (from, to, msg) = self.network.swap_remove(index);
                    if kind != 9 {
                        self.step(to, Input::Msg { from, msg })?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Breach> {
    let (mut crashes, mut events) = (0, 0);
    for seed in 0..100 {
        let mut system = System::new(seed)?;
        for value in 1..=20 {
            let (id, deadline) = (ReqId(value), Deadline::NEVER);
            let req = value;
            system.step(PRIMARY, Input::Req { id, deadline, req })?;
            while system.acknowledged + system.unknown < value {
                system.happen()?;
                events += 1;
            }
            // What was acknowledged would survive the loss of the primary, even if the backup crashed now.
            let mut disk = system.logs[BACKUP.index()].clone();
            disk.crash(Lsn::ZERO);
            let survivor = disk.boot(system.nodes[1].me(), &(), Limits::default());
            assert!(
                survivor.process().value >= value,
                "seed {seed} lost {value}"
            );
        }
        crashes += system.nodes[BACKUP.index()].me().incarnation;
    }
    println!("100 seeds, {events} events, {crashes} crashes: no acknowledged write was lost");
    Ok(())
}
