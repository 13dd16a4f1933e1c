//! Exploration: state counts known by hand, and mutants found.

use std::borrow::Cow;
use std::collections::BTreeSet;

use dpat_model::explore::{Explorable, Explore, Network, World};
use dpat_model::{Answer, CommitRule, Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use stateright::actor::{Actor, ActorModel, Id, Out};
use stateright::{Checker, Model, Property, StateRecorder};

/// Two nodes count up in turns.
#[derive(Clone, Debug)]
struct PingPong {
    received: u64,
}

const MAX: u64 = 5;

impl Process for PingPong {
    type Config = ();
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = u64;
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, _config: &(), _snapshot: Option<&()>) -> Self {
        Self { received: 0 }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start if cx.me().node == NodeIx(0) => cx.send(NodeIx(1), 0),
            // numbers alternate between the nodes, so the next one is known
            Input::Msg { from, msg } if msg / 2 == self.received => {
                self.received += 1;
                if msg < MAX {
                    cx.send(from.node, msg + 1);
                }
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.received);
    }
}

fn states<P>(explore: Explore<P>) -> usize
where
    P: Explorable,
    Explore<P>: Send + Sync + 'static,
    World<P>: Send + Sync,
{
    let checker = explore.checker().spawn_bfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

#[test]
fn two_processes_have_the_states_counted_by_hand() {
    let system = || Explore::<PingPong>::new(vec![(), ()]);
    // messages 0 to 5 under way, one at a time, and the end
    assert_eq!(states(system()), 7);
    assert_eq!(states(system().network(Network::Ordered)), 7);
    // sent messages stay: what was delivered again changes nothing
    assert_eq!(states(system().network(Network::Duplicating)), 7);
    // and each of the six may be lost, which ends the game
    assert_eq!(states(system().lossy()), 13);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Add,
    Read,
    Guess,
}

/// A counter whose answer shows its value.
#[derive(Clone, Debug)]
struct Counter {
    value: u64,
    guess: u32,
}

impl Process for Counter {
    type Config = ();
    type Snapshot = u64;
    type Req = Ask;
    type Rep = u64;
    type Msg = ();
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();
    const CHOOSES: bool = true;

    fn boot(_me: Peer, _config: &(), snapshot: Option<&u64>) -> Self {
        let value = snapshot.copied().unwrap_or(0);
        Self { value, guess: 0 }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {
        self.value += 1;
    }
    fn snapshot(&self) -> u64 {
        self.value
    }
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let Input::Req { id, req, .. } = input else {
            return;
        };
        match req {
            Ask::Add => drop(cx.log(self, ())),
            Ask::Read => {}
            Ask::Guess => self.guess = cx.choose(2) * 3 + cx.choose(3),
        }
        cx.reply(id, self.value);
    }
    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.value);
        digest.volatile(&self.guess);
    }
}

#[test]
fn every_choice_is_a_branch() {
    let system = Explore::<Counter>::new(vec![()]).request(NodeIx(0), Ask::Guess);
    // before the request, and six ways after it
    assert_eq!(states(system), 7);
}

#[test]
fn syncs_and_crashes_are_events() {
    let add = || Explore::<Counter>::new(vec![()]).request(NodeIx(0), Ask::Add);
    // before and after
    assert_eq!(states(add()), 2);
    // not asked, logged and held, durable and answered
    assert_eq!(states(add().explore_syncs()), 3);
    // and after a crash: the same three, if it came before the request (the last also if it came after the answer);
    // with the answer unknown, the record lost or kept
    assert_eq!(states(add().explore_syncs().crashes(1)), 3 + 3 + 2);
}

/// What a caller was told is never taken back.
fn told_values_survive() -> Property<Explore<Counter>> {
    Property::always("told values survive", |_, world: &World<Counter>| {
        let value = world.processes().map(|counter| counter.value).sum::<u64>();
        world.answers().iter().all(|(_, answer)| match answer {
            Answer::Reply(told) => *told <= value,
            _ => true,
        })
    })
}

fn found(rule: CommitRule, asks: &[Ask]) -> Vec<&'static str> {
    let mut system = Explore::new(vec![()])
        .explore_syncs()
        .crashes(1)
        .rule(rule)
        .property(told_values_survive());
    for ask in asks {
        system = system.request(NodeIx(0), ask.clone());
    }
    let checker = system.checker().spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_keys().collect();
    found.sort_unstable();
    found
}

#[test]
fn a_read_of_an_unsynced_write_is_found() {
    let asks = [Ask::Add, Ask::Read];
    assert!(found(CommitRule::ByPosition, &asks).is_empty());
    assert_eq!(found(CommitRule::ByStep, &asks), ["told values survive"]);
    assert_eq!(found(CommitRule::Never, &asks), ["told values survive"]);
    // an executor that commits by step needs the second step to be found
    assert!(found(CommitRule::ByStep, &[Ask::Add]).is_empty());
    assert_eq!(
        found(CommitRule::Never, &[Ask::Add]),
        ["told values survive"]
    );
}

#[test]
fn a_crash_answers_open_requests_with_unknown() {
    let unknown = Property::sometimes("unknown", |_, world: &World<Counter>| {
        world.answers() == [(ReqId(0), Answer::Unknown)]
    });
    let system = Explore::new(vec![()])
        .explore_syncs()
        .crashes(1)
        .request(NodeIx(0), Ask::Add)
        .property(unknown);
    states(system);
}

/// Messages go round; each node counts what it receives, up to a limit.
#[derive(Clone, Debug)]
struct Round(u64);

const NODES: u32 = 2;
const HOPS: u32 = 2;
const COUNT_MAX: u64 = 2;

impl Process for Round {
    type Config = ();
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = (u32, u32);
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, _config: &(), _snapshot: Option<&()>) -> Self {
        Self(0)
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let me = cx.me().node.0;
        let next = NodeIx((me + 1) % NODES);
        match input {
            Input::Start => cx.send(next, (me, 0)),
            Input::Msg { msg, .. } => {
                self.0 = (self.0 + 1).min(COUNT_MAX);
                if msg.1 < HOPS {
                    cx.send(next, (msg.0, msg.1 + 1));
                }
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.0);
    }
}

/// The same as an actor of stateright.
struct RoundActor;

impl Actor for RoundActor {
    type Msg = (u32, u32);
    type State = u64;
    type Timer = ();
    type Random = ();
    type Storage = ();

    fn on_start(&self, id: Id, _storage: &Option<()>, out: &mut Out<Self>) -> u64 {
        let me = usize::from(id) as u32;
        out.send(Id::from(((me + 1) % NODES) as usize), (me, 0));
        0
    }

    fn on_msg(
        &self,
        id: Id,
        state: &mut Cow<'_, u64>,
        _from: Id,
        msg: (u32, u32),
        out: &mut Out<Self>,
    ) {
        let me = usize::from(id) as u32;
        *state.to_mut() = (**state + 1).min(COUNT_MAX);
        if msg.1 < HOPS {
            out.send(Id::from(((me + 1) % NODES) as usize), (msg.0, msg.1 + 1));
        }
    }
}

#[test]
fn networks_have_the_states_of_stateright_actors() {
    use stateright::actor::{LossyNetwork, Network as Theirs};
    for (ours, theirs) in [
        (Network::Unordered, Theirs::new_unordered_nonduplicating([])),
        (Network::Duplicating, Theirs::new_unordered_duplicating([])),
        (Network::Ordered, Theirs::new_ordered([])),
    ] {
        for lossy in [false, true] {
            let mut system = Explore::<Round>::new(vec![(); NODES as usize]).network(ours);
            if lossy {
                system = system.lossy();
            }
            let loss = if lossy {
                LossyNetwork::Yes
            } else {
                LossyNetwork::No
            };
            let (recorder, seen) = StateRecorder::new_with_accessor();
            let actors = ActorModel::<RoundActor>::new((), ())
                .actors((0..NODES).map(|_| RoundActor))
                .init_network(theirs.clone())
                .lossy_network(loss)
                .property(stateright::Expectation::Always, "true", |_, _| true)
                .checker()
                .visitor(recorder)
                .spawn_bfs()
                .join();
            let mut distinct = actors.unique_state_count();
            if ours == Network::Duplicating {
                // theirs also remembers what was delivered last
                let states = seen().into_iter().map(|state| {
                    let network: BTreeSet<_> = state.network.iter_all().collect();
                    format!("{:?} {network:?}", state.actor_states)
                });
                distinct = states.collect::<BTreeSet<_>>().len();
            }
            let count = states(system);
            assert!(count > 5, "{ours:?}");
            assert_eq!(count, distinct, "{ours:?} lossy {lossy}");
        }
    }
}
