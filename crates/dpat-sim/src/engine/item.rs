//! What can wait in the queue.

use dpat_model::{Answer, Lsn, NodeIx, Peer, Process, ReqId, Token};

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Item<P: Process> {
    /// A message arrives.
    Message {
        to: NodeIx,
        from: Peer,
        how: How,
        msg: P::Msg,
    },
    /// A timer may be due.
    Timer { peer: Peer, key: P::Timer },
    /// A node starts for the first time.
    Start(NodeIx),
    /// A client's request reaches its node.
    Request { client: u32, call: u64 },
    /// A client loses patience.
    Patience { client: u32, call: u64 },
    /// A paused node hears, late, that a client lost patience.
    Cancel { peer: Peer, id: ReqId },
    /// An answer reaches its client.
    Answer {
        client: u32,
        call: u64,
        answer: Answer<P::Rep>,
    },
    /// Outside work comes to an end.
    Done {
        node: NodeIx,
        token: Token,
        result: P::Done,
    },
    /// The disk has finished a sync.
    Synced { peer: Peer, upto: Lsn },
    /// The process hears of it.
    Durable { peer: Peer, upto: Lsn },
    /// Two nodes try to open a session.
    Open {
        nodes: [NodeIx; 2],
        pair: usize,
        epoch: u64,
    },
    /// A node hears that a session began.
    Up { to: Peer, from: Peer, epoch: u64 },
    /// A node hears that a session ended.
    Down { to: Peer, from: Peer },
    /// An operation of the script is due.
    Op(usize),
    /// A node that is down since this life starts again.
    Restart(Peer),
    /// A pause ends.
    Resume { node: NodeIx, pause: u64 },
    /// A fault ends by itself.
    Change,
    /// The safety phase ends.
    Heal,
    /// The run ends.
    End,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Datagram,
    /// The second copy of a datagram.
    Copy,
    /// On a session, as long as it is still that one.
    Session {
        epoch: u64,
    },
}
