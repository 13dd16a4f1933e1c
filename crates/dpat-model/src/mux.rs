//! Two processes on one node.

use crate::{Admit, Cx, Digest, Input, Link, Lsn, Output, Peer, Process};

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Either<L, R> {
    /// The first child's.
    Left(L),
    /// The second child's.
    Right(R),
}

/// Two child processes that share a node: its log, its crashes, its connections.
///
/// Requests, messages, timers and results go to the child that they belong to; starts, peers, positions, cancels and
/// drains go to both, the left one first. A snapshot that either asks for contains both. Nest it for more than two.
/// For a parent that names its own enums, use [`Cx::child`] in the same way.
#[derive(Debug)]
pub struct Mux<A: Process, B: Process> {
    /// The first child.
    pub left: A,
    /// The second child.
    pub right: B,
    from_left: Vec<Output<A>>,
    from_right: Vec<Output<B>>,
}

impl<A: Process, B: Process> Clone for Mux<A, B> {
    fn clone(&self) -> Self {
        Self::new(self.left.clone(), self.right.clone())
    }
}

impl<A: Process, B: Process> Mux<A, B> {
    const fn new(left: A, right: B) -> Self {
        Self {
            left,
            right,
            from_left: Vec::new(),
            from_right: Vec::new(),
        }
    }

    fn left(&mut self, input: Input<A>, cx: &mut Cx<'_, Self>) {
        use Either::Left;
        cx.child(
            &mut self.from_left,
            |output| output.lift(Left, Left, Left, Left, Left),
            |cx| self.left.step(input, cx),
        );
    }

    fn right(&mut self, input: Input<B>, cx: &mut Cx<'_, Self>) {
        use Either::Right;
        cx.child(
            &mut self.from_right,
            |output| output.lift(Right, Right, Right, Right, Right),
            |cx| self.right.step(input, cx),
        );
    }
}

impl<A: Process, B: Process> Process for Mux<A, B> {
    type Config = (A::Config, B::Config);
    type Snapshot = (A::Snapshot, B::Snapshot);
    type Req = Either<A::Req, B::Req>;
    type Rep = Either<A::Rep, B::Rep>;
    type Msg = Either<A::Msg, B::Msg>;
    type Rec = Either<A::Rec, B::Rec>;
    type Timer = Either<A::Timer, B::Timer>;
    type Work = Either<A::Work, B::Work>;
    type Done = Either<A::Done, B::Done>;

    const CHOOSES: bool = A::CHOOSES || B::CHOOSES;

    fn boot(me: Peer, config: &Self::Config, snapshot: Option<&Self::Snapshot>) -> Self {
        Self::new(
            A::boot(me, &config.0, snapshot.map(|both| &both.0)),
            B::boot(me, &config.1, snapshot.map(|both| &both.1)),
        )
    }

    fn apply(&mut self, at: Lsn, record: &Self::Rec) {
        match record {
            Either::Left(record) => self.left.apply(at, record),
            Either::Right(record) => self.right.apply(at, record),
        }
    }

    fn snapshot(&self) -> Self::Snapshot {
        (self.left.snapshot(), self.right.snapshot())
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        use Either::{Left, Right};
        macro_rules! both {
            ($($input:tt)*) => {{
                self.left(Input::$($input)*, cx);
                self.right(Input::$($input)*, cx);
            }};
        }
        match input {
            Input::Start => both!(Start),
            Input::Cancel(id) => both!(Cancel(id)),
            Input::PeerUp(peer) => both!(PeerUp(peer)),
            Input::PeerDown(peer) => both!(PeerDown(peer)),
            Input::Durable(at) => both!(Durable(at)),
            Input::Drain { deadline } => both!(Drain { deadline }),
            Input::Req { id, deadline, req } => match req {
                Left(req) => self.left(Input::Req { id, deadline, req }, cx),
                Right(req) => self.right(Input::Req { id, deadline, req }, cx),
            },
            Input::Msg { from, msg } => match msg {
                Left(msg) => self.left(Input::Msg { from, msg }, cx),
                Right(msg) => self.right(Input::Msg { from, msg }, cx),
            },
            Input::Timer(Left(key)) => self.left(Input::Timer(key), cx),
            Input::Timer(Right(key)) => self.right(Input::Timer(key), cx),
            Input::Done { token, result } => match result {
                Left(result) => self.left(Input::Done { token, result }, cx),
                Right(result) => self.right(Input::Done { token, result }, cx),
            },
        }
    }

    fn admit(&self, req: &Self::Req) -> Admit {
        match req {
            Either::Left(req) => self.left.admit(req),
            Either::Right(req) => self.right.admit(req),
        }
    }

    fn link(msg: &Self::Msg) -> Link {
        match msg {
            Either::Left(msg) => A::link(msg),
            Either::Right(msg) => B::link(msg),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        self.left.digest(digest);
        self.right.digest(digest);
    }
}
