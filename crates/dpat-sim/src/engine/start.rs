//! How a run begins.

use dpat_model::{MAX_NODES, NodeIx, Script};

use super::clients::Client;
use super::hash::TraceHash;
use super::item::Item;
use super::points::Points;
use super::queue::Queue;
use super::record::Scribe;
use super::sessions::Sessions;
use super::world::{Place, World};
use super::{Engine, NO_EVENT, after, faults};
use crate::{
    Coverage, Families, Judge, Links, Mutant, Outcome, Plan, Protocol, RunSpec, Setup, SpecError,
    Stream, TraceMode,
};

/// Runs a protocol once.
///
/// The same specification gives the same outcome in every process. The time it takes is that of its events: simulated
/// time in which nothing happens costs nothing.
///
/// # Errors
/// [`SpecError`] if there is no such mutant, the number of nodes is out of range, or the script cannot be run.
pub fn run<Pr: Protocol>(spec: &RunSpec) -> Result<Outcome, SpecError> {
    run_keeping::<Pr>(spec).map(|(outcome, _)| outcome)
}

/// Runs a protocol once and gives it back: for one that has more to tell than a verdict.
///
/// # Errors
/// As [`run`].
pub fn run_keeping<Pr: Protocol>(spec: &RunSpec) -> Result<(Outcome, Pr), SpecError> {
    let begun = Begun::<Pr>::new(spec)?;
    let mut engine = Engine::new(spec, begun)?;
    engine.run();
    Ok(engine.finish())
}

/// Returns the script that [`run`] would run, without running it.
///
/// # Errors
/// As [`run`].
pub fn script_of<Pr: Protocol>(spec: &RunSpec) -> Result<Script, SpecError> {
    Ok(Begun::<Pr>::new(spec)?.script)
}

/// A checked specification.
struct Begun<Pr> {
    protocol: Pr,
    nodes: u32,
    mutant: Option<&'static str>,
    plan: Plan,
    script: Script,
    points: Points,
}

impl<Pr: Protocol> Begun<Pr> {
    fn new(spec: &RunSpec) -> Result<Self, SpecError> {
        let mutant = spec.mutant.as_deref().map(find::<Pr>).transpose()?;
        let scripted = spec.script.as_ref().map(|script| script.nodes.count());
        let nodes = spec.nodes.or(scripted).unwrap_or(Pr::NODES);
        let (min, max) = match scripted {
            Some(nodes) => (nodes, nodes),
            None => (Pr::NODES_MIN.max(1), MAX_NODES),
        };
        if !(min..=max).contains(&nodes) || nodes < Pr::NODES_MIN {
            let (asked, min) = (nodes, min.max(Pr::NODES_MIN));
            return Err(SpecError::Nodes { asked, min, max });
        }
        let seed = spec.seed;
        let protocol = Pr::new(&Setup {
            nodes,
            seed,
            mutant,
        });
        let plan = protocol.plan();
        let script = match &spec.script {
            None => plan.script(Pr::NAME, nodes, Pr::KINDS, seed),
            Some(script) => {
                script.validate()?;
                let name = script.protocol.split('@').next();
                if name != Some(Pr::NAME) {
                    return Err(SpecError::OtherProtocol {
                        script: script.protocol.clone(),
                        protocol: Pr::NAME,
                    });
                }
                let mut script = script.clone();
                script.seed = seed;
                script
            }
        };
        faults::check(&script)?;
        let points = Points::of(&script, Pr::KINDS)?;
        Ok(Self {
            protocol,
            nodes,
            mutant,
            plan,
            script,
            points,
        })
    }
}

fn find<Pr: Protocol>(name: &str) -> Result<&'static str, SpecError> {
    let found = Pr::MUTANTS
        .iter()
        .find(|Mutant { name: own, .. }| *own == name);
    found
        .map(|mutant| mutant.name)
        .ok_or_else(|| SpecError::NoMutant {
            protocol: Pr::NAME,
            name: name.to_owned(),
        })
}

impl<Pr: Protocol> Engine<Pr> {
    fn new(spec: &RunSpec, begun: Begun<Pr>) -> Result<Self, SpecError> {
        let Begun {
            protocol,
            nodes,
            mutant,
            plan,
            script,
            points,
        } = begun;
        let seed = spec.seed;
        let places = (0..nodes).map(|node| Place::new(seed, NodeIx(node)));
        let as_bytes = Stream::new(seed, "bytes", 0).chance(500_000);
        let scribe = match spec.trace {
            TraceMode::Full { events_max } => Some(Box::new(Scribe::new(&script, events_max))),
            TraceMode::Off | TraceMode::Hash => None,
        };
        let rule = protocol.commit_rule();
        let clients = (0..protocol.clients()).map(|client| Client::new(client, &script));
        let mut engine = Self {
            clients: clients.collect(),
            protocol,
            world: World {
                nodes: places.collect(),
                now_ns: 0,
                healed: false,
            },
            queue: Queue::new(),
            links: Links::new(seed, nodes),
            suffered: Families::NONE,
            out: Vec::new(),
            current: NO_EVENT,
            events: 0,
            delivered: 0,
            stop_at: points.next_event().min(spec.events_max),
            hash: TraceHash::new(seed),
            hashing: spec.trace != TraceMode::Off,
            judge: Judge::default(),
            coverage: Coverage::new(Pr::KINDS, Pr::PHASES),
            points,
            sessions: Pr::sessions().then(|| Sessions::new(seed, nodes)),
            held: Vec::new(),
            aside: 0,
            wire: Pr::wire().filter(|_| as_bytes),
            bytes: (Vec::new(), Vec::new()),
            scribe,
            rule,
            script,
            plan,
            seed,
            mutant,
            events_max: spec.events_max,
            ended: false,
        };
        engine.schedule();
        Ok(engine)
    }

    /// Queues what is certain to come. Faults due at the start strike before the nodes start.
    fn schedule(&mut self) {
        for (op, at_ns) in faults::timed(&self.script) {
            self.push(at_ns, Item::Op(op));
        }
        for node in self.world.nodes() {
            self.push(0, Item::Start(node));
        }
        let chaos = after(0, self.plan.chaos);
        self.push(chaos, Item::Heal);
        self.push(after(chaos, self.plan.settle), Item::End);
        for client in 0..self.protocol.clients() {
            self.next_call(client, 0);
        }
        self.recount();
    }
}
