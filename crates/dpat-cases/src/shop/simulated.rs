//! The shop in the simulator: the same services behind the same ports, on simulated nodes.
//!
//! Nothing waits for real time: a run takes as long as its events take to compute. The same seed gives the same events in
//! every process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Clock, Instant, Sleep, SystemClock};
use dpat_model::{Fault, LinkSet, NodeIx, Script};
use dpat_queue::Queue;
use dpat_sim::async_node::{AsyncNode, AsyncSim, AsyncSystem, Program, Stop, Struck};
use dpat_sim::{
    Families, Family, Judge, Mutant, Plan as Faults, RunSpec, Setup, Stream, TraceMode, hex,
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::chaos::{self, NODES, PROTOCOL, RequestFaults};
use super::check::{History, Stores};
use super::config::{Config, Nodes, Pattern};
use super::driver::{self, IN_FLIGHT_MAX, Progress, Sent};
use super::generator::Generator;
use super::host::{self, Status};
use super::journal::Journal;
use super::plan::Plan;
use super::policy::{Caller, Policy, PolicyError};
use super::record::{FaultEvent, RunRecord, Sample, Simulation};
use super::run::{LEAD, RunError, TICK};
use super::service::ports::{Peer, StoreError};
use super::shell::sim::{
    Board, Durable, Shell, SimEnv, SimStore, SimTime, SimTransport, open_queue,
};
use super::supervisor::{Deeds, Outage};
use super::verdict::{Evidence, conclude};
use super::view::View;
use super::watch::{Drain, Watch};
use crate::sync::Mutex;

/// A marker on the disk of a node, by which it finds out that it has lost everything.
const MARKER: &str = "store";
/// Orders of a run by [`AsyncSystem::new`], and how many a second.
const SMALL: (u64, f64) = (40, 20.0);
/// A run of more events than this has no end.
const EVENTS_MAX: u64 = 2_000_000_000;
/// So many of the first events are shown in the report.
const SHOWN_MAX: usize = 5_000;

/// The shop as a simulated system.
pub struct SimShop {
    plan: Arc<Plan>,
    stores: BTreeMap<Peer, Arc<Durable>>,
    journal: Journal,
    board: Arc<Board>,
    /// That of the present life of shipping.
    queue: Mutex<Option<Queue>>,
    customers: Customers,
}

/// The customers of a run: an open loop.
struct Customers {
    orders: Generator,
    /// The number of the order that `orders` gives next.
    number: u64,
    way: Option<Policy<SimTransport, SimTime>>,
    places: Arc<Semaphore>,
    progress: Arc<Progress>,
    sent: Arc<Mutex<Vec<Sent>>>,
    begun: u64,
}

impl fmt::Debug for SimShop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimShop")
            .field("run", &self.plan.run)
            .finish_non_exhaustive()
    }
}

impl SimShop {
    fn of(plan: Plan) -> Self {
        let store = |peer| (peer, Arc::default());
        Self {
            stores: Peer::ALL.into_iter().map(store).collect(),
            journal: Journal::in_memory(),
            board: Arc::default(),
            queue: Mutex::default(),
            customers: Customers {
                orders: Generator::new(&plan.run),
                number: 0,
                way: None,
                places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
                progress: Arc::default(),
                sent: Arc::default(),
                begun: 0,
            },
            plan: Arc::new(plan),
        }
    }

    /// Starts a life of a service.
    fn service(&self, node: &AsyncNode) -> Result<Program, Box<dyn std::error::Error>> {
        let peer = chaos::peer(node.peer().node);
        let durable = self.stores.get(&peer).cloned().unwrap_or_default();
        if find_marker(node).is_none() {
            durable.wipe();
        }
        let time = SimTime::of(node);
        let caller = Caller {
            peer: Some(peer),
            incarnation: u32::try_from(node.peer().incarnation).unwrap_or(u32::MAX),
            journal: self.journal.clone(),
            watched: Arc::new(self.plan.watched.clone()),
            entropy: Arc::new(node.clone()),
        };
        let transport = SimTransport::new(node.clone());
        let uses = host::uses(&self.plan.run);
        let queue = if peer == Peer::Shipping {
            let queue = open_queue(node, self.plan.run.uses(Pattern::Backpressure))?;
            *self.queue.lock() = Some(queue.clone());
            Some(queue)
        } else {
            None
        };
        let env = SimEnv {
            transport: Policy::new(transport, time.clone(), uses, caller)?,
            store: SimStore::open(node, &durable),
            node: node.clone(),
            time,
            queue,
            faults: Arc::new(RequestFaults::at(&self.plan.script, peer)),
            journal: self.journal.clone(),
        };
        let shell = Shell {
            env: env.clone(),
            board: Arc::clone(&self.board),
        };
        Ok(host::with_service(peer, &self.plan.run, env, shell)?)
    }

    fn customer(&mut self, node: &AsyncNode) -> Result<Policy<SimTransport, SimTime>, PolicyError> {
        if let Some(way) = &self.customers.way {
            return Ok(way.clone());
        }
        let patient = self.plan.run.uses(Pattern::Retry);
        let transport = SimTransport::new(node.clone());
        let time = SimTime::of(node);
        let way = Policy::for_customers(transport, time, patient, Arc::new(node.clone()))?;
        self.customers.way = Some(way.clone());
        Ok(way)
    }

    /// Says whether every order that was sent has an answer, or none for good.
    fn are_customers_done(&self) -> bool {
        let answered = self.customers.sent.lock().len() as u64;
        self.customers.begun > 0 && answered == self.customers.begun
    }

    /// Reads what is durable, and what was written down.
    fn evidence(&self, samples: Vec<Sample>) -> Result<Evidence, StoreError> {
        let mut stores = Stores::default();
        for (peer, durable) in &self.stores {
            stores.add(durable.read(|tx| Stores::of(*peer, tx))?);
        }
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            // An embedded queue answers at once.
            let looked = stores.look_at(&queue).now_or_never();
            looked.unwrap_or(Err(StoreError::Closed))?;
        }
        let mut history = History::default();
        for entry in self.journal.take() {
            history.add(entry);
        }
        Ok(Evidence {
            stores,
            history,
            sent: std::mem::take(&mut self.customers.sent.lock()),
            samples,
        })
    }
}

/// Says whether the disk of a node is the one that it had; makes the marker if not.
fn find_marker(node: &AsyncNode) -> Option<()> {
    use dpat_storage::{ROOT, Storage};

    let disk = node.disk();
    let found = disk.metadata(MARKER).is_ok();
    if !found {
        // A disk without faults refuses nothing; if it did, the store would be found empty again.
        drop(disk.create(MARKER));
        let _ = disk.sync_dir(ROOT);
    }
    found.then_some(())
}

impl AsyncSystem for SimShop {
    const NAME: &'static str = PROTOCOL;
    const ABOUT: &'static str = "an order platform of five services";
    const NODES: u32 = 5;
    const NODES_MIN: u32 = 5;
    const NODES_MAX: u32 = 5;
    const PROPERTIES: &'static [&'static str] = &[
        "acknowledged_durable",
        "terminal_once",
        "stock_conserved",
        "money_conserved",
        "single_charge",
        "event_once",
        "transient_survived",
        "spared_calls",
        "nothing_lost",
        "bounded_memory",
        "store",
    ];
    // So few orders fill no queue, with or without backpressure.
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "without-retry",
            rule: "what failed for a moment is tried again",
            seeds_max: 30,
        },
        Mutant {
            name: "without-breaker",
            rule: "a service that is away is left in peace",
            seeds_max: 30,
        },
        Mutant {
            name: "without-idempotency",
            rule: "payment remembers what it has charged",
            seeds_max: 30,
        },
        Mutant {
            name: "without-outbox",
            rule: "the event is written with the order",
            seeds_max: 30,
        },
        Mutant {
            name: "without-ack",
            rule: "an event is acknowledged after its effect",
            seeds_max: 30,
        },
    ];
    const KINDS: &'static [&'static str] =
        &["accept", "reserve", "release", "charge", "void", "ship"];
    const NAMES: &'static [&'static str] = &NODES;

    fn new(setup: &Setup) -> Self {
        let run = small(setup);
        let script = chaos::none(setup.seed);
        Self::of(Plan::with(run, script))
    }

    fn plan() -> Faults {
        Faults {
            chaos: Duration::from_secs(3),
            settle: Duration::from_secs(300),
            ..Faults::default()
        }
        .without(Family::Disk)
        .without(Family::Clock)
    }

    /// Draws faults of the network and the nodes as for any system, and those of requests as for the shop, each kind off
    /// in half of the seeds.
    fn draw(setup: &Setup) -> Script {
        let run = small(setup);
        let orders = Generator::new(&run).map(|planned| planned.order);
        let mut script = chaos::plan(&run, orders);
        let mut coin = Stream::new(setup.seed, "shop", 0);
        let mut kept = BTreeMap::new();
        script.ops.retain(|op| {
            let own = Families::of(&[Family::Partition, Family::Loss, Family::Duplicate]);
            // These are drawn below.
            if Family::of(&op.fault).is_some_and(|family| own.has(family)) {
                return false;
            }
            let kind = (op.fault.name(), op.when == dpat_model::Trigger::At(0));
            *kept.entry(kind).or_insert_with(|| coin.chance(500_000))
        });
        let drawn = Self::plan().script(PROTOCOL, setup.nodes, Self::KINDS, setup.seed);
        script.ops.extend(drawn.ops);
        script
    }

    fn scripted(&mut self, script: &Script) {
        if self.plan.script != *script {
            let plan = Plan::with(self.plan.run.clone(), script.clone());
            self.plan = Arc::new(plan);
        }
    }

    fn refuses(fault: &Fault) -> Option<&'static str> {
        chaos::refuses(fault)
    }

    fn node(&mut self, node: AsyncNode) -> Program {
        match self.service(&node).map_err(|error| error.to_string()) {
            Ok(program) => program,
            Err(error) => Box::pin(async move {
                node.always("store", false, || error);
            }),
        }
    }

    fn clients(&self) -> u32 {
        1
    }

    fn call(&mut self, _: u32, call: u64, node: AsyncNode, _: Stream) -> Option<Program> {
        let customers = &mut self.customers;
        let skipped = call.checked_sub(customers.number)?;
        customers.number = call + 1;
        let planned = customers.orders.nth(usize::try_from(skipped).ok()?)?;
        customers.begun += 1;
        let (progress, sent) = (Arc::clone(&customers.progress), Arc::clone(&customers.sent));
        let places = Arc::clone(&customers.places);
        let way = match self.customer(&node) {
            Ok(way) => way,
            Err(error) => {
                node.always("store", false, || error.to_string());
                return None;
            }
        };
        Some(Box::pin(async move {
            let time = SimTime::of(&node);
            let due = Instant::MIN + LEAD + planned.at;
            time.sleep_until(due).await;
            // Whether or not this one is answered.
            node.next_call();
            let _place = places.acquire().await;
            progress
                .sent
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let one = driver::send(&way, planned, due, time).await;
            progress.record(&one);
            sent.lock().push(one);
        }))
    }

    fn is_settled(&mut self) -> bool {
        let gauges = self.board.ask(Peer::Order).map(|status| status.gauges);
        let idle = gauges.is_some_and(|gauges| gauges.open == 0 && gauges.outbox == 0);
        let packed = self.board.ask(Peer::Shipping);
        let idle = idle && packed.is_some_and(|status| status.gauges.queued == 0);
        idle && self.are_customers_done()
    }

    fn finish(&mut self, judge: &mut Judge) {
        let evidence = match self.evidence(Vec::new()) {
            Ok(evidence) => evidence,
            Err(error) => return judge.fail("store", error.to_string()),
        };
        let record = conclude(&self.plan, &evidence, &Deeds::default(), None);
        judge.compared(record.verdict.accepted);
        for violation in record.verdict.violations {
            let (count, limit) = (violation.count, violation.limit);
            let mut message = format!("{count}, {limit} allowed");
            if let Some(first) = violation.first {
                let order = first.order_id.unwrap_or_default();
                let (at_ms, event) = (first.at_ms, first.event);
                message.push_str(&format!("; first {order} at {at_ms} ms: {event}"));
            }
            judge.fail(&violation.invariant, message);
        }
    }
}

/// Returns the configuration of a run that is one of many.
fn small(setup: &Setup) -> Config {
    let left_out = |pattern: &Pattern| {
        let name = setup.mutant.and_then(|name| name.strip_prefix("without-"));
        name == Some(pattern.name())
    };
    Config {
        nodes: Nodes::Simulated,
        seed: setup.seed,
        orders: SMALL.0,
        rate: SMALL.1,
        without: Pattern::ALL.into_iter().filter(left_out).collect(),
        ..Config::default()
    }
}

/// Runs the shop in the simulator and returns what it left behind.
///
/// # Errors
/// [`RunError`], when there is no verdict.
pub fn run(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    config.validate()?;
    let begun = SystemClock.now();
    let plan = Plan::of(config);
    let spec = RunSpec {
        script: Some(plan.script.clone()),
        events_max: EVENTS_MAX,
        // The hash is that of all events, shown or not.
        trace: TraceMode::Full {
            events_max: SHOWN_MAX,
        },
        ..RunSpec::new(plan.run.seed)
    };
    view.started(&plan.run);
    let shop = SimShop::of(plan);
    let failed = |error: &dyn fmt::Display| RunError::Simulation(error.to_string());
    let mut sim = AsyncSim::with(shop, &spec).map_err(|error| failed(&error))?;
    let progress = Arc::clone(&sim.system().customers.progress);
    let mut watch = Watch::new(&sim.system().plan.script, progress);

    let go = |sim: &mut AsyncSim<SimShop>, step: Duration| {
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        match sim.run_until(sim.now_ns().saturating_add(step)) {
            Stop::Reached | Stop::Idle => Ok(()),
            Stop::Violated => Err(broken(sim)),
        }
    };
    let mut faults = Vec::new();
    while !sim.system().are_customers_done() {
        go(&mut sim, TICK)?;
        tick(&sim, &mut watch, &mut faults, view);
    }
    let mut drain = Drain::since(now(&sim));
    loop {
        let gauges = watch.learn(Peer::Order, ask(&sim, Peer::Order));
        let packed = ask(&sim, Peer::Shipping).map(|status| status.gauges);
        if drain.is_over(now(&sim), gauges, packed, view) {
            break;
        }
        if watch.is_due() {
            tick(&sim, &mut watch, &mut faults, view);
        }
        go(&mut sim, Drain::EVERY)?;
    }
    tick(&sim, &mut watch, &mut faults, view);

    // Here the run is over; what follows judges it.
    let elapsed = SystemClock.now().since(begun);
    let deeds = deeds(&sim, faults);
    let plan = Arc::clone(&sim.system().plan);
    let evidence = sim.system().evidence(watch.into_samples())?;
    let simulated_ms = sim.now_ns() / 1_000_000;
    // The end of a run that has been judged here by more than its properties.
    let outcome = sim.stop();
    let simulation = Simulation {
        simulated: true,
        trace_hash: hex(outcome.trace_hash),
        events: outcome.events,
        simulated_ms,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    };
    let mut record = conclude(&plan, &evidence, &deeds, Some(simulation));
    record.trace = outcome.trace.map(Box::new);
    Ok(record)
}

fn broken(sim: &AsyncSim<SimShop>) -> RunError {
    let violation = sim.violation();
    let text = violation.map(|violation| format!("{}: {}", violation.property, violation.message));
    RunError::Simulation(text.unwrap_or_default())
}

fn now(sim: &AsyncSim<SimShop>) -> Instant {
    Instant::from_nanos(sim.now_ns())
}

/// Asks a service that is up for its numbers.
fn ask(sim: &AsyncSim<SimShop>, peer: Peer) -> Option<Status> {
    let lives = sim.lives(chaos::node(peer));
    let up = lives.last().is_some_and(|life| life.until_ns.is_none());
    up.then(|| sim.system().board.ask(peer)).flatten()
}

fn tick(
    sim: &AsyncSim<SimShop>,
    watch: &mut Watch,
    faults: &mut Vec<FaultEvent>,
    view: &mut dyn View,
) {
    for peer in Watch::PEERS {
        watch.learn(peer, ask(sim, peer));
    }
    let script = &sim.system().plan.script;
    faults.clear();
    faults.extend(
        sim.struck()
            .iter()
            .filter_map(|struck| event(script, struck)),
    );
    watch.sample(now(sim), faults, view);
}

/// Returns how a fault of nodes or links is reported; those of requests are reported by the nodes.
fn event(script: &Script, struck: &Struck) -> Option<FaultEvent> {
    let fault = &script.ops.get(struck.op)?.fault;
    Family::of(fault)?;
    let (target, for_us, order_id) = scope(fault);
    Some(FaultEvent {
        at_ms: struck.at_ns / 1_000_000,
        target,
        kind: fault.name().to_owned(),
        duration_ms: for_us.map(|us| us / 1_000),
        order_id,
    })
}

/// The service that a fault is told of, how long it lasts, and the order that it waited for.
fn scope(fault: &Fault) -> (Peer, Option<u64>, Option<String>) {
    let of = |node: &NodeIx| chaos::peer(*node);
    let end = |link: &LinkSet| link.to.or(link.from).map_or(Peer::Order, chaos::peer);
    match fault {
        Fault::Kill {
            node,
            order_id,
            for_us,
        } => (of(node), *for_us, order_id.clone()),
        Fault::Isolate { node, for_us }
        | Fault::Bridge { node, for_us, .. }
        | Fault::Crash { node, for_us }
        | Fault::Wipe { node, for_us }
        | Fault::Pause { node, for_us } => (of(node), *for_us, None),
        Fault::Halves { group, for_us } => (group.first().map_or(Peer::Order, of), *for_us, None),
        Fault::OneWay { link, for_us }
        | Fault::Cut { link, for_us }
        | Fault::Flap { link, for_us, .. }
        | Fault::Hold { link, for_us }
        | Fault::Loss { link, for_us, .. }
        | Fault::Delay { link, for_us, .. }
        | Fault::Duplicate { link, for_us, .. }
        | Fault::Reorder { link, for_us, .. }
        | Fault::Capacity { link, for_us, .. } => (end(link), *for_us, None),
        Fault::Ring { for_us } => (Peer::Order, *for_us, None),
        _ => (Peer::Order, None, None),
    }
}

/// Returns what was done to the nodes: times down are outages.
fn deeds(sim: &AsyncSim<SimShop>, faults: Vec<FaultEvent>) -> Deeds {
    let mut deeds = Deeds {
        faults,
        ..Deeds::default()
    };
    for peer in Peer::ALL {
        let lives = sim.lives(chaos::node(peer));
        deeds.restarts += lives.len().saturating_sub(1) as u64;
        for (index, life) in lives.iter().enumerate() {
            let Some(down) = life.until_ns else { continue };
            let up = lives
                .get(index + 1)
                .map_or(sim.now_ns(), |next| next.from_ns);
            deeds.outages.push(Outage {
                peer,
                from_us: down / 1_000,
                until_us: up / 1_000,
            });
        }
    }
    deeds
}
