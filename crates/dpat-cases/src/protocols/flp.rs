//! What Fischer, Lynch and Paterson 1985 prove, run: an adversary that keeps a deterministic consensus undecided.
//!
//! The adversary is that of the paper's proof. It holds the messages in a queue and keeps the configuration *bivalent*:
//! both values can still be decided. Again and again it takes the oldest message and looks for a schedule that ends
//! with its delivery in a bivalent configuration (Lemma 3 says that there is one). So every message is delivered, no
//! process ever crashes, and nobody ever decides.
//!
//! That a configuration is bivalent is not claimed but shown: by one schedule from it that decides 0 and one that
//! decides 1, in each of which at most one process takes no further step. [`verify`] replays all of it and knows
//! nothing of the search.
//!
//! The same adversary faces Ben-Or's protocol, whose coins it does not know before they are tossed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use dpat_core::{Entropy, SplitMix64};
use dpat_model::explore::{Action, Event, Explore, World};
use dpat_model::{Digest, NodeIx, Peer};
use serde::Serialize;
use stateright::Model;

use super::consensus::{Coin, Config, Consensus, Fair, Msg, Parity};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Processes; at least 3, so that one may crash, and at most 5. 3 by default.
    pub nodes: u32,
    /// Rounds that all processes shall pass without a decision, at most 1000. 10 by default.
    pub rounds: u32,
    /// Runs of the randomised protocol, at most 10 000. 100 by default.
    pub runs: u32,
    /// Of the adversary's guesses and of the coins.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            rounds: 10,
            runs: 100,
            seed: 0,
        }
    }
}

/// An option out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionError {
    /// The option.
    pub field: &'static str,
    /// What it may be.
    pub bounds: (u32, u32),
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.bounds;
        write!(f, "{}: must be {low} to {high}", self.field)
    }
}

impl std::error::Error for OptionError {}

/// What the adversary achieved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Processes.
    pub nodes: u32,
    /// Rounds asked for.
    pub rounds: u32,
    /// What they propose.
    pub inputs: Vec<u8>,
    /// The deterministic protocol; absent if the adversary failed.
    pub deterministic: Option<Schedule>,
    /// The randomised protocol.
    pub randomised: Randomised,
}

impl Report {
    /// Says whether everything happened as the theorem and Ben-Or say.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.deterministic.is_some() && self.randomised.decided == self.randomised.runs
    }
}

/// The adversary's schedule, round by round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// From the initial configuration, or that in which the round before ended.
    pub rounds: Vec<Round>,
    /// Messages delivered in all.
    pub delivered: usize,
    /// The most deliveries that a message had to wait for.
    pub waited_max: usize,
    /// Two schedules from the initial configuration.
    pub initially: Bivalent,
}

/// Deliveries after which all processes have passed the round, and the proof that nothing is decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Round {
    /// The round, counted from 1.
    pub round: u32,
    /// In this order.
    pub deliveries: Vec<Delivery>,
    /// Two schedules from the configuration after them. Preceded by the rest of `deliveries`, they are schedules from
    /// every configuration on the way.
    pub then: Bivalent,
}

/// Two schedules from one configuration that decide differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bivalent {
    /// Decides 0.
    pub zero: Witness,
    /// Decides 1.
    pub one: Witness,
}

/// A schedule after which a process has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// A process that takes no further step, as if it had crashed; `None` if all do.
    pub crashed: Option<u32>,
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
}

/// A message that arrives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Who sent it.
    pub from: NodeIx,
    /// Who receives it.
    pub to: NodeIx,
    /// What.
    pub msg: Msg,
}

impl Serialize for Delivery {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}: {}", self.from, self.to, self.msg)
    }
}

/// How the randomised protocol fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Randomised {
    /// Runs, each with other coins.
    pub runs: u32,
    /// Runs in which all processes decided.
    pub decided: u32,
    /// Runs by the round in which the first process decided.
    pub by_round: Vec<u32>,
}

/// Runs both.
///
/// # Errors
/// [`OptionError`] if an option is out of its bounds.
///
/// # Examples
/// ```
/// use dpat_cases::protocols::flp::{Options, flp, verify};
///
/// let report = flp(Options { rounds: 4, runs: 5, ..Options::default() })?;
/// assert!(report.holds());
/// verify(&report).expect("each step is proved");
/// # Ok::<(), dpat_cases::protocols::flp::OptionError>(())
/// ```
pub fn flp(options: Options) -> Result<Report, OptionError> {
    let within = |field, value: u32, low, high| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        let bounds = (low, high);
        Err(OptionError { field, bounds })
    };
    within("nodes", options.nodes, 3, 5)?;
    within("rounds", options.rounds, 1, 1000)?;
    within("runs", options.runs, 0, 10_000)?;
    Ok(Report {
        nodes: options.nodes,
        rounds: options.rounds,
        inputs: inputs(options.nodes).map(u8::from).collect(),
        deterministic: keep_undecided(options),
        randomised: randomised(options),
    })
}

/// One process proposes 1, all others 0.
fn inputs(nodes: u32) -> impl Iterator<Item = bool> {
    (0..nodes).map(|node| node == 0)
}

fn system<C: Coin>(nodes: u32) -> Explore<Consensus<C>> {
    let config = |input| Config {
        nodes,
        input,
        resend: None,
        broken: None,
    };
    Explore::new(inputs(nodes).map(config).collect())
}

/// More than a node tosses in one step.
type Coins = [u32; 4];

/// A configuration in the sense of the paper, with the messages under way in order of age.
struct Configuration<C: Coin> {
    world: World<Consensus<C>>,
    /// With the number of deliveries before each was sent.
    pending: VecDeque<(Delivery, usize)>,
    delivered: usize,
    waited_max: usize,
}

impl<C: Coin> Clone for Configuration<C> {
    fn clone(&self) -> Self {
        Self {
            world: self.world.clone(),
            pending: self.pending.clone(),
            ..*self
        }
    }
}

impl<C: Coin> Configuration<C> {
    fn initial(system: &Explore<Consensus<C>>) -> Option<Self> {
        let mut first = Self {
            world: system.init_states().into_iter().next()?,
            pending: VecDeque::new(),
            delivered: 0,
            waited_max: 0,
        };
        first.collect();
        Some(first)
    }

    /// Appends the messages that are new. No message is sent twice in a run without retransmission.
    fn collect(&mut self) {
        for (from, to, msg) in self.world.under_way() {
            let (from, msg) = (from.node, *msg);
            let delivery = Delivery { from, to, msg };
            if !self.pending.iter().any(|(other, _)| *other == delivery) {
                self.pending.push_back((delivery, self.delivered));
            }
        }
    }

    fn position(&self, delivery: &Delivery) -> Option<usize> {
        self.pending.iter().position(|(other, _)| other == delivery)
    }

    /// Delivers a message under way. `coins` are what the receiver tosses, should it toss.
    fn deliver(&mut self, system: &Explore<Consensus<C>>, at: usize, coins: Coins) {
        let Some((Delivery { from, to, msg }, since)) = self.pending.remove(at) else {
            return;
        };
        let from = Peer {
            node: from,
            incarnation: 0,
        };
        let action = Action {
            event: Event::Deliver(from, to, msg),
            choices: coins.to_vec(),
        };
        system.act(&mut self.world, &action);
        self.waited_max = self.waited_max.max(self.delivered - since);
        self.delivered += 1;
        self.collect();
    }

    /// A process that has decided, with its decision.
    fn decision(&self) -> Option<(&Consensus<C>, bool)> {
        let mut processes = self.world.processes();
        processes.find_map(|it| it.decided().map(|value| (it, value)))
    }

    /// The first round that some process has not passed.
    fn round(&self) -> u32 {
        let rounds = self.world.processes().map(|it| it.place().0);
        rounds.min().unwrap_or(0)
    }
}

/// Schedules that are tried for a witness.
const TRIES_MAX: u64 = 16;
/// Deliveries of one of them, beyond the messages that are under way.
const WITNESS_MAX: usize = 120;
/// Configurations from which the oldest message is tried.
const EXTENSIONS_MAX: usize = 300;
/// Rounds after which a run of the randomised protocol is given up.
const RANDOM_ROUNDS_MAX: u32 = 1000;

struct Adversary<C: Coin> {
    system: Explore<Consensus<C>>,
    seed: u64,
    /// What is known of configurations, by digest.
    known: HashMap<u64, Option<Bivalent>>,
}

/// A schedule that stays bivalent, where it leads, and the proof.
type Stage<C> = (Vec<Delivery>, Configuration<C>, Bivalent);

impl<C: Coin> Adversary<C> {
    fn new(options: Options) -> Self {
        Self {
            system: system(options.nodes),
            seed: options.seed,
            known: HashMap::new(),
        }
    }

    /// Finds both witnesses, if a limited search does.
    fn bivalent(&mut self, configuration: &Configuration<C>) -> Option<Bivalent> {
        if configuration.decision().is_some() {
            return None;
        }
        let digest = Digest::of(&configuration.world);
        if let Some(known) = self.known.get(&digest) {
            return known.clone();
        }
        let witness =
            |value| (0..TRIES_MAX).find_map(|number| self.attempt(configuration, value, number));
        let found = witness(false).and_then(|zero| {
            let one = witness(true)?;
            Some(Bivalent { zero, one })
        });
        self.known.insert(digest, found.clone());
        found
    }

    /// Runs one schedule and says whether it decides `value`. In most of them a process is silent from here on.
    fn attempt(&self, start: &Configuration<C>, value: bool, number: u64) -> Option<Witness> {
        let nodes = start.world.processes().count() as u64;
        let entropy = SplitMix64::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let silent = u32::try_from(number % (nodes + 1)).ok();
        let crashed = silent.filter(|node| u64::from(*node) < nodes);
        let mut at = start.clone();
        let mut deliveries = Vec::new();
        let most = start.pending.len() + WITNESS_MAX;
        while at.decision().is_none() && deliveries.len() < most {
            // Votes for the value first; in all but the first schedules with an exception now and then.
            let dull = |(delivery, _): &&(Delivery, usize)| match delivery.msg {
                Msg::Vote(_, Some(vote)) => 2 * u32::from(vote != value),
                _ => 1,
            };
            let strays = number > nodes && entropy.below(4) == 0;
            let open = at.pending.iter().filter(|(it, _)| Some(it.to.0) != crashed);
            let next = if strays {
                let nth = entropy.below(open.clone().count().max(1) as u64);
                open.clone().nth(usize::try_from(nth).unwrap_or(0))
            } else {
                open.min_by_key(dull) // the oldest of them
            };
            let delivery = next?.0.clone();
            let index = at.position(&delivery)?;
            deliveries.push(delivery);
            at.deliver(&self.system, index, [u32::from(value); 4]);
        }
        let decides = at.decision().is_some_and(|(_, decided)| decided == value);
        decides.then_some(Witness {
            crashed,
            deliveries,
        })
    }

    /// Finds a schedule that ends with the oldest message and stays bivalent: the paper's Lemma 3.
    fn stage(&mut self, start: &Configuration<C>) -> Option<Stage<C>> {
        self.known.clear();
        self.bivalent(start)?;
        let mut seen = HashSet::from([Digest::of(&start.world)]);
        let mut open = VecDeque::from([(Vec::new(), start.clone())]);
        while let Some((mut deliveries, at)) = open.pop_front() {
            let deliver = |system: &Explore<Consensus<C>>, index: usize| {
                let (delivery, _) = at.pending.get(index)?.clone();
                let mut next = at.clone();
                next.deliver(system, index, hoped(delivery.to));
                Some((delivery, next))
            };
            // The oldest message stays in front until it is delivered.
            let (oldest, delivered) = deliver(&self.system, 0)?;
            if let Some(bivalent) = self.bivalent(&delivered) {
                deliveries.push(oldest);
                return Some((deliveries, delivered, bivalent));
            }
            for index in 1..at.pending.len() {
                let (delivery, next) = deliver(&self.system, index)?;
                let fresh = next.decision().is_none()
                    && seen.len() < EXTENSIONS_MAX
                    && seen.insert(Digest::of(&next.world));
                if fresh {
                    let mut longer = deliveries.clone();
                    longer.push(delivery);
                    open.push_back((longer, next));
                }
            }
        }
        None
    }
}

/// What the adversary hopes that a node tosses: not the same as the others.
const fn hoped(node: NodeIx) -> Coins {
    [node.0 % 2; 4]
}

fn toss(entropy: &SplitMix64) -> Coins {
    std::array::from_fn(|_| u32::from(entropy.next_u64() % 2 == 1))
}

/// The deterministic protocol, for as many rounds as asked or until the search fails.
fn keep_undecided(options: Options) -> Option<Schedule> {
    let mut adversary = Adversary::<Parity>::new(options);
    let mut at = Configuration::initial(&adversary.system)?;
    let initially = adversary.bivalent(&at)?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let mut deliveries = Vec::new();
        let then = loop {
            let (steps, next, bivalent) = adversary.stage(&at)?;
            deliveries.extend(steps);
            at = next;
            if at.round() > round {
                break bivalent;
            }
        };
        rounds.push(Round {
            round,
            deliveries,
            then,
        });
    }
    Some(Schedule {
        rounds,
        delivered: at.delivered,
        waited_max: at.waited_max,
        initially,
    })
}

fn randomised(options: Options) -> Randomised {
    let mut result = Randomised {
        runs: options.runs,
        decided: 0,
        by_round: Vec::new(),
    };
    for run in 0..options.runs {
        let seed = options.seed.wrapping_add(u64::from(run));
        let coins = SplitMix64::new(seed.wrapping_mul(0xd129_0ddd_a5ca_2d0b));
        if let Some(round) = until_decided(options, &coins) {
            result.decided += 1;
            let round = round as usize;
            if result.by_round.len() < round {
                result.by_round.resize(round, 0);
            }
            result.by_round[round - 1] += 1;
        }
    }
    result
}

/// One run of Ben-Or's protocol; returns the round of the first decision once all have decided.
fn until_decided(options: Options, coins: &SplitMix64) -> Option<u32> {
    let mut adversary = Adversary::<Fair>::new(options);
    let mut at = Configuration::initial(&adversary.system)?;
    let mut first = None;
    while at.round() <= RANDOM_ROUNDS_MAX {
        if first.is_none() {
            first = at.decision().map(|(process, _)| process.place().0);
        }
        if at.world.processes().all(|it| it.decided().is_some()) {
            return first;
        }
        // Without hope it can only deliver.
        let plan = match first.map_or_else(|| adversary.stage(&at), |_| None) {
            Some((plan, ..)) => plan,
            None => vec![at.pending.front()?.0.clone()],
        };
        for delivery in plan {
            let Some(index) = at.position(&delivery) else {
                break; // the coins fell otherwise
            };
            at.deliver(&adversary.system, index, toss(coins));
        }
    }
    None
}

/// Replays a report: every message delivered was under way, nobody decides, every configuration has its two schedules,
/// and all messages but the youngest were delivered.
///
/// # Errors
/// What is wrong, and where.
pub fn verify(report: &Report) -> Result<(), String> {
    let system = system::<Parity>(report.nodes);
    let mut at = Configuration::initial(&system).ok_or("no initial configuration")?;
    let schedule = report.deterministic.as_ref().ok_or("no schedule")?;
    let replay = |mut at: Configuration<Parity>, deliveries: &[Delivery]| {
        for delivery in deliveries {
            let index = at.position(delivery);
            let index = index.ok_or_else(|| format!("{delivery} is not under way"))?;
            at.deliver(&system, index, Coins::default());
        }
        Ok::<_, String>(at)
    };
    let prove = |at: &Configuration<Parity>, bivalent: &Bivalent| {
        for (value, witness) in [(false, &bivalent.zero), (true, &bivalent.one)] {
            let silent = |delivery: &Delivery| Some(delivery.to.0) == witness.crashed;
            if witness.deliveries.iter().any(silent) {
                return Err("a crashed process takes a step".to_owned());
            }
            let mut end = replay(at.clone(), &witness.deliveries)?;
            if end.decision().map(|(_, decided)| decided) != Some(value) {
                return Err(format!("a schedule does not decide {}", u8::from(value)));
            }
            // What is still under way arrives, and all others decide the same.
            while let Some((delivery, _)) = end.pending.iter().find(|(it, _)| !silent(it)).cloned()
            {
                end = replay(end, &[delivery])?;
            }
            let mut nodes = (0..).zip(end.world.processes());
            let agrees = |(node, process): (u32, &Consensus<Parity>)| {
                Some(node) == witness.crashed || process.decided() == Some(value)
            };
            if !nodes.all(agrees) {
                return Err(format!("not all decide {}", u8::from(value)));
            }
        }
        Ok(())
    };
    prove(&at, &schedule.initially)?;
    for (round, number) in schedule.rounds.iter().zip(1..) {
        let place = |error| format!("round {number}: {error}");
        for delivery in &round.deliveries {
            at = replay(at, std::slice::from_ref(delivery)).map_err(place)?;
            if at.decision().is_some() {
                return Err(place("a process decides".to_owned()));
            }
        }
        prove(&at, &round.then).map_err(place)?;
        if round.round != number || at.round() <= number {
            return Err(place("a process has not passed it".to_owned()));
        }
    }
    if schedule.rounds.len() != report.rounds as usize {
        return Err(format!(
            "{} rounds instead of {}",
            schedule.rounds.len(),
            report.rounds
        ));
    }
    if (schedule.delivered, schedule.waited_max) != (at.delivered, at.waited_max) {
        return Err("deliveries are not counted right".to_owned());
    }
    Ok(())
}
