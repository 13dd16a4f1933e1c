//! Looks at a run while it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dpat_core::{Clock, Instant, Sleep};
use dpat_model::Script;

use super::chaos::{self, Do};
use super::driver::Progress;
use super::host::Status;
use super::record::{BreakerSample, FaultEvent, Sample};
use super::service::ports::{Gauges, Peer};
use super::shell::http::HttpTransport;
use super::shell::time::RunTime;
use super::supervisor::{Deeds, Outage, Site};
use super::view::View;
use super::workflow::micros;
use crate::sync::Mutex;

/// How long the orders may stand still at the end, before the run gives up on them.
const STALLED: Duration = Duration::from_secs(30);
/// How many ticks make a sample that is kept.
const TICKS_A_SAMPLE: u64 = 4;
/// How long a service may take to tell its numbers.
const STATUS_WAIT: Duration = Duration::from_millis(500);

/// Returns the hangs of a script as outages, the next one last.
pub(crate) fn hangs(script: &Script) -> Vec<Outage> {
    let mut hangs: Vec<Outage> = chaos::hangs(script)
        .map(|hang| Outage {
            peer: hang.peer,
            from_us: hang.at_us,
            until_us: hang.at_us.saturating_add(hang.for_us),
        })
        .collect();
    hangs.sort_by_key(|outage| std::cmp::Reverse(outage.from_us));
    hangs
}

pub(crate) fn hang_event(outage: &Outage) -> FaultEvent {
    FaultEvent {
        at_ms: outage.from_us / 1_000,
        target: outage.peer,
        kind: Do::Hang.name().to_owned(),
        duration_ms: Some((outage.until_us - outage.from_us) / 1_000),
        order_id: None,
    }
}

/// Orders that became terminal, over all starts of the order service.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    before: Gauges,
    now: Gauges,
}

impl Done {
    fn update(&mut self, gauges: Gauges) {
        // A service that has started anew counts from zero.
        if gauges.completed < self.now.completed || gauges.compensated < self.now.compensated {
            self.before.completed += self.now.completed;
            self.before.compensated += self.now.compensated;
        }
        self.now = gauges;
    }
}

/// Takes the samples.
pub(crate) struct Watch {
    progress: Arc<Progress>,
    /// Hangs to come, the next one last.
    hangs: Vec<Outage>,
    samples: Vec<Sample>,
    /// How many faults the view has been told of.
    faults_seen: usize,
    status: BTreeMap<Peer, Status>,
    done: Done,
    ticks: u64,
}

impl Watch {
    /// The services whose numbers are shown.
    pub(crate) const PEERS: [Peer; 2] = [Peer::Gateway, Peer::Order];

    pub(crate) fn new(script: &Script, progress: Arc<Progress>) -> Self {
        Self {
            progress,
            hangs: hangs(script),
            samples: Vec::new(),
            faults_seen: 0,
            status: BTreeMap::new(),
            done: Done::default(),
            ticks: 0,
        }
    }

    /// Returns the samples that were kept.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// Takes what a service tells; an old answer stands if there is no new one.
    pub(crate) fn learn(&mut self, peer: Peer, status: Option<Status>) -> Option<Gauges> {
        let status = status?;
        let gauges = status.gauges;
        if peer == Peer::Order {
            self.done.update(gauges);
        }
        self.status.insert(peer, status);
        Some(gauges)
    }

    /// Says whether this turn of waiting for the end is one for a sample.
    pub(crate) fn is_due(&mut self) -> bool {
        self.ticks += 1;
        self.ticks.is_multiple_of(TICKS_A_SAMPLE)
    }

    /// Shows where the run stands; `faults` are all kills so far.
    pub(crate) fn sample(&mut self, now: Instant, faults: &[FaultEvent], view: &mut dyn View) {
        self.announce(now, faults, view);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let accepted = load(&self.progress.accepted);
        let (p50_ms, p99_ms) = self.progress.total();
        let breakers: Vec<BreakerSample> = self
            .status
            .values()
            .flat_map(|status| status.breakers.iter().cloned())
            .collect();
        let mut sample = Sample {
            at_ms: micros(now) / 1_000,
            accepted,
            completed: self.done.before.completed + self.done.now.completed,
            compensated: self.done.before.compensated + self.done.now.compensated,
            unanswered: load(&self.progress.sent)
                .saturating_sub(accepted + load(&self.progress.rejected)),
            in_flight: self.done.now.open,
            p50_ms,
            p99_ms,
            breakers,
            outbox: self.done.now.outbox,
        };
        if let Some(status) = self.status.get(&Peer::Order) {
            view.notices(&status.notices);
        }
        view.sample(&sample);
        if self.is_due() {
            (sample.p50_ms, sample.p99_ms) = self.progress.take_second();
            self.samples.push(sample);
        }
    }

    /// Tells the view of kills and hangs that have begun.
    fn announce(&mut self, now: Instant, faults: &[FaultEvent], view: &mut dyn View) {
        let new = faults.get(self.faults_seen..).unwrap_or_default();
        self.faults_seen += new.len();
        for fault in new {
            view.fault(fault);
        }
        let now_us = micros(now);
        while let Some(outage) = self.hangs.last().copied() {
            if outage.from_us > now_us {
                break;
            }
            self.hangs.pop();
            view.fault(&hang_event(&outage));
        }
    }
}

/// Waits for the end: until every accepted order is terminal and every event delivered, or nothing moves any more.
#[derive(Debug)]
pub(crate) struct Drain {
    moved: Instant,
    before: (Option<Gauges>, Option<Gauges>),
}

impl Drain {
    /// How often one looks.
    pub(crate) const EVERY: Duration = Duration::from_millis(50);

    pub(crate) const fn since(now: Instant) -> Self {
        Self {
            moved: now,
            before: (None, None),
        }
    }

    /// Takes what the order service and shipping tell, if they do; says whether the waiting is over.
    pub(crate) fn is_over(
        &mut self,
        now: Instant,
        orders: Option<Gauges>,
        shipping: Option<Gauges>,
        view: &mut dyn View,
    ) -> bool {
        let told = orders.is_some_and(|gauges| gauges.open == 0 && gauges.outbox == 0);
        if told && shipping.is_some_and(|gauges| gauges.queued == 0) {
            return true;
        }
        if (orders, shipping) != self.before {
            self.before = (orders, shipping);
            self.moved = now;
        } else if now.since(self.moved) > STALLED {
            view.note("nothing moves any more; giving up on what is open");
            return true;
        }
        false
    }
}

/// Watches services by their pages.
pub(crate) struct PageWatch {
    time: RunTime,
    pages: HttpTransport,
    deeds: Arc<Mutex<Deeds>>,
    watch: Watch,
}

impl PageWatch {
    pub(crate) fn new(
        site: &Site,
        time: RunTime,
        progress: Arc<Progress>,
        deeds: Arc<Mutex<Deeds>>,
    ) -> Self {
        Self {
            time,
            pages: HttpTransport::new(site.ports.clone(), time),
            deeds,
            watch: Watch::new(&site.plan.script, progress),
        }
    }

    /// Returns the samples that were kept.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.watch.into_samples()
    }

    pub(crate) async fn tick(&mut self, view: &mut dyn View) {
        for peer in Watch::PEERS {
            self.ask(peer).await;
        }
        let faults = self.deeds.lock().faults.clone();
        self.watch.sample(self.time.now(), &faults, view);
    }

    /// Asks a service for its numbers.
    async fn ask(&mut self, peer: Peer) -> Option<Gauges> {
        let page = self.pages.get(peer, "/status", STATUS_WAIT).await;
        let status = page
            .ok()
            .and_then(|page| serde_json::from_slice(&page).ok());
        self.watch.learn(peer, status)
    }

    /// Waits for the end.
    pub(crate) async fn drain(&mut self, view: &mut dyn View) {
        let mut drain = Drain::since(self.time.now());
        loop {
            let orders = self.ask(Peer::Order).await;
            let shipping = self.ask(Peer::Shipping).await;
            if drain.is_over(self.time.now(), orders, shipping, view) {
                return;
            }
            if self.watch.is_due() {
                self.tick(view).await;
            }
            self.time.sleep(Drain::EVERY).await;
        }
    }
}
