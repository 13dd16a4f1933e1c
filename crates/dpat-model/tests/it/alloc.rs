use std::time::Duration;

use dpat_core::{Deadline, SplitMix64};
use dpat_model::{
    Cx, Digest, Draw, Either, Input, Limits, Lsn, Mux, Node, NodeIx, Output, Peer, Process,
    Reading, ReqId,
};
use dpat_testkit::allocations;

/// Uses every kind of effect.
#[derive(Clone, Debug)]
struct Busy(u64);

impl Process for Busy {
    type Config = ();
    type Snapshot = u64;
    type Req = u64;
    type Rep = u64;
    type Msg = u64;
    type Rec = u64;
    type Timer = u8;
    type Work = u64;
    type Done = u64;
    const CHOOSES: bool = true;

    fn boot(_me: Peer, _config: &(), snapshot: Option<&u64>) -> Self {
        Self(snapshot.copied().unwrap_or(0))
    }
    fn apply(&mut self, _at: Lsn, record: &u64) {
        self.0 ^= record;
    }
    fn snapshot(&self) -> u64 {
        self.0
    }
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Req { id, req, .. } => {
                cx.log(self, req);
                cx.reply(id, self.0);
            }
            Input::Msg { from, msg } => {
                cx.log(self, msg);
                cx.send(from.node, self.0);
                cx.send_early(from.node, 1);
                let after = Duration::from_nanos(u64::from(cx.choose(9)));
                cx.arm((msg % 4) as u8, after);
                cx.disarm((msg % 3) as u8);
                cx.work(msg);
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.0);
    }
}

/// Feeds a request, a message, a sync, a timer and a result.
fn round<P: Process<Timer: Copy>>(
    node: &mut Node<P>,
    out: &mut Vec<Output<P>>,
    number: u64,
    req: P::Req,
    msg: P::Msg,
    done: impl Fn(u64) -> P::Done,
) {
    let entropy = SplitMix64::new(number);
    let mut feed = |input, out: &mut Vec<Output<P>>| {
        node.step(Reading::default(), input, &mut Draw(&entropy), out)
            .unwrap();
        (node.last(), node.next_timer())
    };
    let (id, deadline) = (ReqId(number), Deadline::NEVER);
    feed(Input::Req { id, deadline, req }, out);
    let from = Peer::default();
    let (last, timer) = feed(Input::Msg { from, msg }, out);
    feed(Input::Durable(last), out);
    if let Some((_, key)) = timer {
        feed(Input::Timer(key), out);
    }
    for output in out.drain(..) {
        if let Output::Work { token, .. } = output {
            let result = done(number);
            feed(Input::Done { token, result }, &mut Vec::new());
        }
    }
}

fn started<P: Process>(config: &P::Config) -> Node<P> {
    let mut node = Node::boot(Peer::default(), config, None, [], Limits::default());
    let entropy = SplitMix64::new(0);
    node.step(
        Reading::default(),
        Input::Start,
        &mut Draw(&entropy),
        &mut Vec::new(),
    )
    .unwrap();
    node
}

#[test]
fn a_step_in_steady_state_allocates_nothing() {
    let mut node = started::<Busy>(&());
    let mut out = Vec::new();
    let mut run = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            round(&mut node, &mut out, number, number, number, |n| n);
        }
    };
    run(0..200);
    let ((), count) = allocations(|| run(200..2200));
    assert_eq!(count, 0);
}

#[test]
fn a_mux_in_steady_state_allocates_nothing() {
    let mut node = started::<Mux<Busy, Busy>>(&((), ()));
    let mut out = Vec::new();
    let mut run = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let (req, msg) = (Either::Left(number), Either::Right(number));
            round(&mut node, &mut out, number, req, msg, Either::Right);
        }
    };
    run(0..200);
    let ((), count) = allocations(|| run(200..2200));
    assert_eq!(count, 0);
    assert_eq!(NodeIx(0), node.me().node);
}
