//! Tables for single decisions, and random histories of several machines on one outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use dpat_core::{Backoff, Effect, SplitMix64, Uuid7};

use super::*;
use crate::event::Event;
use crate::memory::MemoryOutbox;
use crate::row::Position;
use crate::store::Store;

const SECOND: Duration = Duration::from_secs(1);

/// The memory outbox answers at the first poll.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("memory does not wait"),
    }
}

fn event(number: u64, key: &str) -> Event {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    let id = Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap();
    let event = Event::builder(id, "topic").payload(number.to_string());
    match key {
        "" => event.build().unwrap(),
        key => event.key(key).build().unwrap(),
    }
}

fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload())
        .unwrap()
        .parse()
        .unwrap()
}

fn at(seconds: u64) -> Now {
    Now {
        instant: Instant::from_nanos(seconds * 1_000_000_000),
        wall: Wall::from_nanos(seconds * 1_000_000_000),
    }
}

fn config() -> RelayConfig {
    RelayConfig::builder()
        .in_flight_max(4)
        .held_rows_max(8)
        .lane_rows_max(4)
        .lease(60 * SECOND)
        .publish_timeout(10 * SECOND)
        .backoff(Backoff::constant(2 * SECOND))
        .build()
        .unwrap()
}

fn row(number: u64, key: &str) -> Claimed {
    Claimed {
        position: Position(number),
        event: event(number, key),
        attempts: 0,
        replays: 0,
        appended_at: Wall::MIN,
        first_claim: at(100).wall,
    }
}

fn batch(rows: Vec<Claimed>) -> Batch {
    Batch {
        rows,
        seen: Ticket::default(),
        next_due: None,
    }
}

/// A machine in words.
struct Desk {
    machine: Machine,
    entropy: SplitMix64,
    held: BTreeMap<u64, Held>,
}

impl Desk {
    /// A machine that was given these events at second 100.
    fn with(config: RelayConfig, rows: Vec<Claimed>) -> Self {
        let mut desk = Self {
            machine: Machine::new(config),
            entropy: SplitMix64::new(1),
            held: BTreeMap::new(),
        };
        assert_eq!(desk.act(100), ["claim 8", "housekeep"]);
        desk.claimed(100, rows);
        desk.machine
            .kept(at(100), Ok((Lag::default(), 0)), &desk.entropy)
            .unwrap();
        desk
    }

    fn claimed(&mut self, second: u64, rows: Vec<Claimed>) {
        let claimed = self
            .machine
            .claimed(at(second), Ok(batch(rows)), &self.entropy);
        claimed.unwrap();
    }

    /// Does everything that is to be done at a second.
    fn act(&mut self, second: u64) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(action) = self.machine.next(at(second), &self.entropy) {
            said.push(match action {
                Action::Claim(claim) => format!("claim {}", claim.rows_max),
                Action::Publish(held) => {
                    let number = number(&held.row.event);
                    self.held.insert(number, held);
                    format!("publish {number}")
                }
                Action::Settle(settlements) => {
                    let said = settlements.iter().map(settlement);
                    said.collect::<Vec<_>>().join(", ")
                }
                Action::Housekeep { .. } => "housekeep".to_owned(),
                Action::Stop => "stop".to_owned(),
            });
        }
        said
    }

    fn ends(&mut self, second: u64, number: u64, result: Result<(), PublishError>) -> Fate {
        let held = self.held.remove(&number).unwrap();
        self.machine
            .published(at(second), &held, result, &self.entropy)
    }

    fn settled(&mut self, second: u64) {
        let done = vec![Settled::Done; self.machine.settling.len()];
        self.machine
            .settled(at(second), Ok(done), &self.entropy)
            .unwrap();
    }
}

fn settlement(settlement: &Settlement) -> String {
    let number = settlement.position;
    match &settlement.outcome {
        Outcome::Sent => format!("sent {number}"),
        Outcome::Retry { .. } => format!("retry {number}"),
        Outcome::Release => format!("release {number}"),
        Outcome::Park { blocks: true, .. } => format!("block {number}"),
        Outcome::Park { blocks: false, .. } => format!("aside {number}"),
    }
}

fn down() -> PublishError {
    PublishError::new(Class::Unavailable, "down")
}

fn refused() -> PublishError {
    PublishError::new(Class::InvalidInput, "no such topic")
}

#[test]
fn of_a_key_one_is_on_its_way_and_it_is_marked_after_its_acknowledgement() {
    let rows = vec![row(1, "a"), row(2, "a"), row(3, "b"), row(4, "")];
    let mut desk = Desk::with(config(), rows);
    assert_eq!(
        desk.act(100),
        ["publish 1", "publish 3", "publish 4", "claim 4"]
    );
    desk.claimed(100, vec![]);
    assert_eq!(
        desk.act(100),
        [""; 0],
        "nothing is marked before it is acknowledged"
    );
    assert_eq!(desk.ends(101, 1, Ok(())), Fate::Sent);
    assert_eq!(desk.act(101), ["sent 1", "publish 2", "claim 5"]);
}

#[test]
fn a_failed_event_takes_its_key_back_and_pauses_the_rest() {
    let rows = vec![row(1, "a"), row(2, "a"), row(3, "b"), row(4, "b")];
    let mut desk = Desk::with(config(), rows);
    assert_eq!(desk.act(100), ["publish 1", "publish 3", "claim 4"]);
    desk.claimed(100, vec![]);
    assert_eq!(desk.ends(101, 1, Err(down())), Fate::Retry);
    assert_eq!(desk.act(101), ["retry 1, release 2"]);
    desk.settled(101);
    // Nothing new is begun while the other side may be down; a success ends the pause.
    assert_eq!(desk.act(101), [""; 0]);
    assert!(desk.machine.wake_at() > at(101).instant);
    assert_eq!(desk.ends(101, 3, Ok(())), Fate::Sent);
    assert_eq!(desk.act(101), ["sent 3", "publish 4", "claim 7"]);
}

#[test]
fn a_pause_ends_by_itself() {
    let mut desk = Desk::with(
        config(),
        vec![row(1, ""), row(2, ""), row(3, ""), row(4, ""), row(5, "")],
    );
    assert_eq!(
        desk.act(100)[..4],
        ["publish 1", "publish 2", "publish 3", "publish 4"]
    );
    assert_eq!(desk.ends(100, 1, Err(down())), Fate::Retry);
    assert_eq!(desk.act(100), ["retry 1"]);
    let wake = desk.machine.wake_at();
    assert!(wake > at(100).instant && wake <= at(102).instant);
    assert_eq!(desk.act(102)[0], "publish 5");
}

#[test]
fn a_refused_event_blocks_its_key_or_is_set_aside_after_its_attempts() {
    for (on_poison, said, next) in [
        (OnPoison::Block, "block 1, release 2", &[][..]),
        (OnPoison::SetAside, "aside 1", &["publish 2"][..]),
    ] {
        let config = RelayConfig {
            on_poison,
            ..config()
        };
        let mut last = row(1, "a");
        last.attempts = 2;
        let mut desk = Desk::with(config, vec![last, row(2, "a")]);
        assert_eq!(desk.act(100)[0], "publish 1");
        desk.claimed(100, vec![]);
        assert_eq!(desk.ends(101, 1, Err(refused())), Fate::Parked);
        let acts = desk.act(101);
        assert_eq!(acts[0], said);
        assert_eq!(acts[1..1 + next.len()], *next);
        // Fewer attempts: it is tried again, and nobody else waits.
        let mut desk = Desk::with(self::config(), vec![row(1, "a"), row(2, "b")]);
        desk.act(100);
        assert_eq!(desk.ends(101, 1, Err(refused())), Fate::Retry);
        assert_eq!(desk.machine.paused_until, Instant::MIN);
    }
}

#[test]
fn an_outage_never_parks_before_the_horizon() {
    let mut tried = row(1, "");
    tried.attempts = 1_000_000;
    let mut desk = Desk::with(config(), vec![tried]);
    desk.act(100);
    assert_eq!(desk.ends(101, 1, Err(down())), Fate::Retry);
}

#[test]
fn beyond_the_horizon_nothing_is_sent() {
    let mut old = row(1, "a");
    old.first_claim = Wall::MIN;
    let config = RelayConfig {
        give_up_after: 99 * SECOND,
        ..config()
    };
    let mut desk = Desk::with(config, vec![old, row(2, "a")]);
    assert_eq!(desk.act(100), ["block 1, release 2", "claim 8"]);
}

#[test]
fn a_claim_that_would_end_first_is_given_back() {
    let rows = (1..=6).map(|number| row(number, ""));
    let mut desk = Desk::with(config(), rows.collect());
    desk.act(100);
    // The lease ends at 160, and a publishing may take until then.
    for number in 1..=4 {
        desk.ends(151, number, Ok(()));
    }
    let acts = desk.act(151);
    assert!(
        !acts.iter().any(|act| act.starts_with("publish")),
        "{acts:?}"
    );
    assert!(acts[0].ends_with("sent 4"), "{acts:?}");
    desk.settled(151);
    assert_eq!(desk.act(151)[0], "release 5, release 6");
}

#[test]
fn a_settlement_that_failed_is_repeated_with_what_came_since() {
    let mut desk = Desk::with(config(), vec![row(1, ""), row(2, "")]);
    desk.act(100);
    desk.ends(101, 1, Ok(()));
    assert_eq!(desk.act(101), ["sent 1"]);
    desk.ends(101, 2, Ok(()));
    assert_eq!(desk.act(101), [""; 0], "one at a time");
    let lost = StoreError::new(Class::Timeout, Effect::Unknown, "no answer");
    desk.machine
        .settled(at(101), Err(lost), &desk.entropy)
        .unwrap();
    assert_eq!(desk.act(101), [""; 0], "not at once");
    assert!(desk.machine.wake_at() <= at(103).instant);
    assert_eq!(desk.act(103)[0], "sent 1, sent 2");
}

#[test]
fn a_store_that_is_gone_ends_the_relay() {
    let gone = || StoreError::new(Class::Corrupt, Effect::NotDone, "rotten");
    let mut desk = Desk::with(config(), vec![row(1, "")]);
    desk.act(100);
    assert!(
        desk.machine
            .claimed(at(100), Err(gone()), &desk.entropy)
            .is_err()
    );
    desk.ends(100, 1, Ok(()));
    desk.act(100);
    assert!(
        desk.machine
            .settled(at(100), Err(gone()), &desk.entropy)
            .is_err()
    );
    assert!(
        desk.machine
            .kept(at(100), Err(gone()), &desk.entropy)
            .is_err()
    );
}

#[test]
fn draining_gives_back_what_waits_and_finishes_what_is_on_its_way() {
    let mut desk = Desk::with(config(), vec![row(1, "a"), row(2, "a"), row(3, "")]);
    assert_eq!(desk.act(100), ["publish 1", "publish 3", "claim 5"]);
    desk.machine.drain();
    assert_eq!(desk.act(100), ["release 2"]);
    desk.settled(100);
    // The claim that was under way comes back with more.
    desk.claimed(100, vec![row(4, "")]);
    assert_eq!(desk.act(100), ["release 4"]);
    desk.settled(100);
    desk.ends(101, 1, Ok(()));
    desk.ends(101, 3, Err(down()));
    assert_eq!(desk.act(101), ["sent 1, retry 3"]);
    assert_eq!(desk.machine.held(), 0);
    desk.settled(101);
    assert_eq!(desk.act(101), ["stop"]);
    assert_eq!(desk.act(102), [""; 0]);
}

#[test]
fn the_number_and_bytes_of_held_events_are_bounded() {
    let mut desk = Desk::with(config(), (1..=8).map(|number| row(number, "")).collect());
    assert_eq!(desk.act(100).len(), 4, "no claim while there is no room");
    let size = event(1, "").size();
    let config = RelayConfig {
        held_bytes_max: 3 * size,
        ..config()
    };
    let mut desk = Desk::with(config, vec![row(1, ""), row(2, ""), row(3, "")]);
    assert!(
        !desk.act(100).iter().any(|act| act.starts_with("claim")),
        "no bytes left"
    );
    desk.ends(100, 1, Ok(()));
    assert_eq!(desk.act(100), ["sent 1", "claim 6"]);
}

#[test]
fn the_wait_for_more_ends_by_poll_by_due_time_or_by_word() {
    let mut desk = Desk::with(config(), vec![]);
    assert_eq!(desk.machine.waits_for(), Some(Ticket::default()));
    assert_eq!(desk.machine.wake_at(), at(101).instant, "the next look");
    assert_eq!(desk.act(100), [""; 0]);
    desk.machine.woken(at(100).instant);
    assert_eq!(desk.act(100), ["claim 8"]);
    let due = Batch {
        next_due: Some(Wall::from_nanos(100_500_000_000)),
        ..batch(vec![])
    };
    desk.machine
        .claimed(at(100), Ok(due), &desk.entropy)
        .unwrap();
    assert_eq!(desk.machine.wake_at(), Instant::from_nanos(100_500_000_000));
}

#[test]
fn waits_follow_the_other_sides_wish_up_to_the_maximum() {
    let config = RelayConfig {
        backoff: Backoff::exponential(SECOND, 2.0, 30 * SECOND).unwrap(),
        ..config()
    };
    let machine = Machine::new(config);
    let entropy = SplitMix64::new(1);
    for retry in [0, 3, u32::MAX] {
        let nominal = machine.config.backoff.nominal(retry);
        let delay = machine.delay(retry, None, &entropy);
        assert!(delay >= nominal / 2 && delay <= nominal);
    }
    assert_eq!(machine.delay(0, Some(20 * SECOND), &entropy), 20 * SECOND);
    assert_eq!(machine.delay(0, Some(99 * SECOND), &entropy), 30 * SECOND);
}

/// Several machines on one outbox: they crash, time out, lose answers; the sink fails. Judged by what the sink saw.
#[test]
fn random_histories_lose_nothing_and_keep_the_order() {
    for seed in 0..150 {
        History::new(seed).run();
    }
}

struct History {
    seed: u64,
    entropy: SplitMix64,
    outbox: MemoryOutbox,
    machines: Vec<Machine>,
    /// Publishings that are under way: machine, event, and whether the machine still lives.
    under_way: Vec<(usize, Held)>,
    now: Now,
    committed: BTreeMap<String, Vec<u64>>,
    seen: Vec<u64>,
    first_seen: BTreeMap<String, Vec<u64>>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            entropy: SplitMix64::stream(seed, "machines"),
            outbox: MemoryOutbox::new(),
            machines: (0..2).map(|_| Machine::new(config())).collect(),
            under_way: Vec::new(),
            now: at(1_000),
            committed: BTreeMap::new(),
            seen: Vec::new(),
            first_seen: BTreeMap::new(),
        }
    }

    fn chance(&self, percent: u64) -> bool {
        self.entropy.below(100) < percent
    }

    fn pass(&mut self, millis: u64) {
        let step = Duration::from_millis(millis);
        self.now = Now {
            instant: self.now.instant + step,
            wall: self.now.wall + step,
        };
    }

    fn run(&mut self) {
        for number in 1..=60 {
            self.append(number);
            for _ in 0..4 {
                self.turn(true);
            }
        }
        // Everything heals; what was left behind comes when the leases have ended.
        for _ in 0..400 {
            self.turn(false);
        }
        assert_eq!(self.first_seen, self.committed, "seed {}", self.seed);
        let lag = now_or_never(self.outbox.lag()).unwrap();
        assert_eq!((lag.backlog_rows, lag.parked), (0, 0), "seed {}", self.seed);
    }

    fn append(&mut self, number: u64) {
        let key = ["a", "b", "c"][usize::try_from(self.entropy.below(3)).unwrap()];
        let mut tx = self.outbox.begin();
        tx.append(&event(number, key), self.now.wall).unwrap();
        if self.chance(90) {
            tx.commit().unwrap();
            self.committed
                .entry(key.to_owned())
                .or_default()
                .push(number);
        }
    }

    fn turn(&mut self, faults: bool) {
        let step = self.entropy.below(if faults { 800 } else { 4_000 });
        self.pass(step);
        let which = usize::try_from(self.entropy.below(2)).unwrap();
        if faults && self.chance(4) {
            // It dies with all that it held; what it had handed over may still arrive.
            self.machines[which] = Machine::new(config());
            let gone: Vec<_> = self.under_way.extract_matching(which);
            for held in gone {
                if self.chance(50) {
                    self.arrives(&held.row.event);
                }
            }
            return;
        }
        while let Some(action) = self.machines[which].next(self.now, &self.entropy) {
            self.start(which, action, faults);
        }
        if !self.under_way.is_empty() && self.chance(80) {
            let index = self.entropy.below(self.under_way.len() as u64);
            let (owner, held) = self.under_way.remove(usize::try_from(index).unwrap());
            self.finish(owner, &held, faults);
        }
    }

    fn start(&mut self, which: usize, action: Action, faults: bool) {
        let lost = || StoreError::new(Class::Timeout, Effect::Unknown, "no answer");
        let cut = faults && self.chance(8);
        match action {
            Action::Claim(claim) => {
                let claimed = now_or_never(self.outbox.claim(&claim));
                let claimed = if cut { Err(lost()) } else { claimed };
                self.machines[which]
                    .claimed(self.now, claimed, &self.entropy)
                    .unwrap();
            }
            Action::Settle(settlements) => {
                let settled = now_or_never(self.outbox.settle(self.now.wall, &settlements));
                let settled = if cut { Err(lost()) } else { settled };
                self.machines[which]
                    .settled(self.now, settled, &self.entropy)
                    .unwrap();
            }
            Action::Publish(held) => self.under_way.push((which, held)),
            Action::Housekeep { .. } => {
                let kept = Ok((Lag::default(), 0));
                self.machines[which]
                    .kept(self.now, kept, &self.entropy)
                    .unwrap();
            }
            Action::Stop => panic!("nobody drains"),
        }
    }

    fn finish(&mut self, owner: usize, held: &Held, faults: bool) {
        let result = match self.entropy.below(10) {
            0 | 1 if faults => Err(down()),
            // It arrived, and the answer was lost.
            2 if faults => {
                self.arrives(&held.row.event);
                Err(PublishError::new(Class::Timeout, "no answer"))
            }
            _ => {
                self.arrives(&held.row.event);
                Ok(())
            }
        };
        self.machines[owner].published(self.now, held, result, &self.entropy);
    }

    fn arrives(&mut self, event: &Event) {
        let number = number(event);
        let key = event.key().unwrap().to_owned();
        let committed = self
            .committed
            .get(&key)
            .is_some_and(|all| all.contains(&number));
        assert!(
            committed,
            "seed {}: {number} was never committed",
            self.seed
        );
        if !self.seen.contains(&number) {
            self.first_seen.entry(key).or_default().push(number);
        }
        self.seen.push(number);
    }
}

/// Takes out what one machine had under way.
trait ExtractMatching {
    fn extract_matching(&mut self, which: usize) -> Vec<Held>;
}

impl ExtractMatching for Vec<(usize, Held)> {
    fn extract_matching(&mut self, which: usize) -> Vec<Held> {
        let (gone, kept) = std::mem::take(self)
            .into_iter()
            .partition(|(owner, _)| *owner == which);
        *self = kept;
        let gone: Vec<(usize, Held)> = gone;
        gone.into_iter().map(|(_, held)| held).collect()
    }
}

#[test]
fn a_lease_counts_from_before_it_was_asked_for() {
    let mut desk = Desk::with(config(), vec![]);
    desk.machine.woken(at(100).instant);
    assert_eq!(desk.act(100), ["claim 8"]);
    // The answer took until the lease was nearly over.
    desk.claimed(155, vec![row(1, ""), row(2, "")]);
    let acts = desk.act(155);
    assert!(
        acts.contains(&"release 1, release 2".to_owned()),
        "{acts:?}"
    );
    assert!(desk.held.is_empty());
}

#[test]
fn lanes_that_were_given_out_anew_replace_the_old() {
    let mut desk = Desk::with(config(), vec![row(1, "a"), row(2, "a")]);
    assert_eq!(desk.act(100), ["publish 1", "claim 6"]);
    desk.claimed(100, vec![]);
    // The lease has ended at the store; the same events come under another claim.
    assert_eq!(desk.act(170)[0], "claim 6");
    desk.claimed(170, vec![row(1, "a"), row(2, "a")]);
    let acts = desk.act(170);
    assert!(
        !acts.iter().any(|act| act.starts_with("publish")),
        "one of the key is on its way: {acts:?}"
    );
    desk.ends(171, 1, Ok(()));
    let acts = desk.act(171);
    assert!(
        acts.contains(&"publish 1".to_owned()),
        "the new claim's first: {acts:?}"
    );
    let numbers: BTreeSet<u64> = desk.held.keys().copied().collect();
    assert_eq!(numbers, BTreeSet::from([1]));
}
