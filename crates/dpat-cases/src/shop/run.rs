//! One run from the first node to the verdict.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dpat_core::{Clock, Entropy, Instant, Sleep, SystemEntropy, TokioTime};
use tempfile::TempDir;

use super::chaos::{self, Do, Script};
use super::check::{self, Findings, History, Stores};
use super::config::{Config, ConfigError, Faults, Pattern};
use super::driver::{self, Progress, Sent, histogram, percentile_ms};
use super::generator::Generator;
use super::policy::{Policy, PolicyError};
use super::record::{BreakerSample, FaultEvent, Outcome, RunRecord, Sample, Verdict};
use super::report;
use super::service::ports::{Gauges, Peer, Reply, StoreError};
use super::shell::http::{HttpTransport, Status};
use super::shell::time::RunTime;
use super::story;
use super::supervisor::{Deeds, Outage, Plan, Supervisor, SupervisorError};
use super::view::View;
use super::workflow::micros;
use crate::sync::Mutex;

/// How long the orders may stand still at the end, before the run gives up on them.
const STALLED: Duration = Duration::from_secs(30);
/// How often the view sees a sample.
const TICK: Duration = Duration::from_millis(250);
/// How many ticks make a sample that is kept.
const TICKS_A_SAMPLE: u64 = 4;
/// How long a service may take to tell its numbers.
const STATUS_WAIT: Duration = Duration::from_millis(500);
/// Time between the start of the nodes and the first order.
const LEAD: Duration = Duration::from_millis(20);

/// A run that came to no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node broke.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// A constant of the policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The stores cannot be read afterwards.
    #[error("check: {0}")]
    Check(#[from] StoreError),
    /// A file or a socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |source| RunError::Io { what, source }
}

/// Runs the shop on a runtime of its own.
///
/// # Errors
/// [`RunError`], when there is no verdict.
pub fn block_on(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("runtime"))?;
    runtime.block_on(run(config, view))
}

/// Runs the shop and returns what it left behind.
///
/// # Errors
/// [`RunError`], when there is no verdict.
///
/// # Cancel safety
/// Dropping the future stops the nodes.
pub async fn run(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    config.validate()?;
    let folder = TempDir::with_prefix("dpat-shop-").map_err(io("temporary folder"))?;
    let script = match &config.faults {
        Faults::None => Script::none(),
        Faults::Script(script) => script.clone(),
        Faults::Seeded => {
            let orders = Generator::new(&config).map(|planned| planned.order);
            chaos::seeded(&config, orders, config.orders)
        }
    };
    let watched = story::watch(
        &script,
        Generator::new(&config).map(|planned| planned.order),
    );
    let epoch = TokioTime.wall();
    let plan = Plan {
        run: config.clone(),
        script,
        watched,
        ports: free_ports().map_err(io("loopback ports"))?,
        folder: folder.path().to_owned(),
        epoch,
    };
    let time = RunTime::since(epoch);
    let deeds = Arc::new(Mutex::new(Deeds::default()));
    let mut supervisor = Supervisor::new(plan.clone(), time, None, Arc::clone(&deeds));
    supervisor.start().await?;
    view.started(&config);

    let progress = Arc::new(Progress::default());
    let watch = Watch {
        time,
        pages: HttpTransport::new(plan.ports.clone(), time),
        progress: Arc::clone(&progress),
        deeds: Arc::clone(&deeds),
        hangs: hangs(&plan.script),
        samples: Vec::new(),
        faults_seen: 0,
        status: BTreeMap::new(),
        done: Done::default(),
        ticks: 0,
    };
    let finished = AtomicBool::new(false);
    let customers = async {
        let result = attend(&config, time, &plan, progress, watch, view).await;
        finished.store(true, Ordering::Release);
        result
    };
    let supervision = async { Ok(supervisor.run(&finished).await?) };
    let ((sent, samples), ()) = tokio::try_join!(customers, supervision)?;
    supervisor.stop().await?;

    let evidence = Evidence {
        stores: Stores::read(|peer| plan.store(peer))?,
        history: History::read(|peer| plan.journal(peer)).map_err(io("journal"))?,
        sent,
        samples,
    };
    let record = {
        let deeds = deeds.lock();
        conclude(&plan, &evidence, &deeds)
    };
    if let Some(path) = &config.report {
        report::write(&record, path).map_err(io("report"))?;
    }
    view.finished(&record);
    Ok(record)
}

/// Sends the orders, waits until all are done, and watches meanwhile.
async fn attend(
    config: &Config,
    time: RunTime,
    plan: &Plan,
    progress: Arc<Progress>,
    mut watch: Watch,
    view: &mut dyn View,
) -> Result<(Vec<Sent>, Vec<Sample>), RunError> {
    let transport = HttpTransport::new(plan.ports.clone(), time);
    let customer = Policy::for_customers(transport, time, config.uses(Pattern::Retry))?;
    let start = time.now() + LEAD;
    let orders = Generator::new(config);
    let mut driving = std::pin::pin!(driver::drive(orders, customer, time, start, progress));
    let sent = loop {
        tokio::select! {
            sent = &mut driving => break sent,
            () = time.sleep(TICK) => watch.tick(view).await,
        }
    };
    watch.drain(view).await;
    watch.tick(view).await;
    Ok((sent, watch.samples))
}

/// Returns the hangs of a script as outages, the next one last.
fn hangs(script: &Script) -> Vec<Outage> {
    let mut hangs: Vec<Outage> = script
        .timed(Do::Hang)
        .map(|(at_us, op)| Outage {
            peer: op.node,
            from_us: at_us,
            until_us: at_us.saturating_add(op.for_us.unwrap_or(0)),
        })
        .collect();
    hangs.sort_by_key(|outage| std::cmp::Reverse(outage.from_us));
    hangs
}

fn hang_event(outage: &Outage) -> FaultEvent {
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
struct Watch {
    time: RunTime,
    pages: HttpTransport,
    progress: Arc<Progress>,
    deeds: Arc<Mutex<Deeds>>,
    hangs: Vec<Outage>,
    samples: Vec<Sample>,
    faults_seen: usize,
    status: BTreeMap<Peer, Status>,
    done: Done,
    ticks: u64,
}

impl Watch {
    async fn tick(&mut self, view: &mut dyn View) {
        for peer in [Peer::Gateway, Peer::Order] {
            self.ask(peer).await;
        }
        self.announce(view);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let accepted = load(&self.progress.accepted);
        let (p50_ms, p99_ms) = self.progress.total();
        let breakers: Vec<BreakerSample> = self
            .status
            .values()
            .flat_map(|status| status.breakers.iter().cloned())
            .collect();
        let mut sample = Sample {
            at_ms: micros(self.time.now()) / 1_000,
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
        view.sample(&sample);
        self.ticks += 1;
        if self.ticks % TICKS_A_SAMPLE == 0 {
            (sample.p50_ms, sample.p99_ms) = self.progress.take_second();
            self.samples.push(sample);
        }
    }

    /// Asks a service for its numbers; an old answer stands if there is no new one.
    async fn ask(&mut self, peer: Peer) -> Option<Status> {
        let page = self.pages.get(peer, "/status", STATUS_WAIT).await;
        let status: Status = serde_json::from_slice(&page.ok()?).ok()?;
        if peer == Peer::Order {
            self.done.update(status.gauges);
        }
        self.status.insert(peer, status.clone());
        Some(status)
    }

    /// Tells the view of kills and hangs that have begun.
    fn announce(&mut self, view: &mut dyn View) {
        let new: Vec<FaultEvent> = {
            let deeds = self.deeds.lock();
            let new = deeds.faults.get(self.faults_seen..).unwrap_or_default();
            new.to_vec()
        };
        self.faults_seen += new.len();
        for fault in &new {
            view.fault(fault);
        }
        let now_us = micros(self.time.now());
        while let Some(outage) = self.hangs.last().copied() {
            if outage.from_us > now_us {
                break;
            }
            self.hangs.pop();
            view.fault(&hang_event(&outage));
        }
    }

    /// Waits until every accepted order is terminal and every event delivered, or nothing moves any more.
    async fn drain(&mut self, view: &mut dyn View) {
        let mut moved = self.time.now();
        let mut before = None;
        loop {
            let gauges = self.ask(Peer::Order).await.map(|status| status.gauges);
            if gauges.is_some_and(|gauges| gauges.open == 0 && gauges.outbox == 0) {
                return;
            }
            if gauges != before {
                before = gauges;
                moved = self.time.now();
            } else if self.time.now().since(moved) > STALLED {
                view.note("nothing moves any more; giving up on what is open");
                return;
            }
            self.ticks += 1;
            if self.ticks % TICKS_A_SAMPLE == 0 {
                self.tick(view).await;
            }
            self.time.sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Finds free ports below the range from which the system takes ports of outgoing connections: a service that
/// restarts must find its port free.
fn free_ports() -> std::io::Result<BTreeMap<Peer, u16>> {
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 15_000;
    let mut held = BTreeMap::new();
    for peer in Peer::ALL {
        let mut tries = 0;
        let listener = loop {
            let port = u16::try_from(FIRST + SystemEntropy.below(COUNT)).unwrap_or(0);
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => break listener,
                Err(error) if tries == 100 => return Err(error),
                Err(_) => tries += 1,
            }
        };
        held.insert(peer, listener);
    }
    held.into_iter()
        .map(|(peer, listener)| Ok((peer, listener.local_addr()?.port())))
        .collect()
}

/// Returns the peak memory of this process in MiB, or 0 where the system does not tell.
fn rss_peak_mb() -> f64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return 0.0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<f64>().ok())
        .map_or(0.0, |kib| round(kib / 1024.0))
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What the verdict is drawn from.
struct Evidence {
    stores: Stores,
    history: History,
    sent: Vec<Sent>,
    samples: Vec<Sample>,
}

/// How long customers waited.
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    complete_p50_ms: f64,
    complete_p99_ms: f64,
    /// From the first intended sending to the last 202.
    elapsed_s: f64,
}

fn latency(evidence: &Evidence) -> Latency {
    let mut answered = histogram();
    let mut done = histogram();
    let mut first_us = u64::MAX;
    let mut last_us = 0;
    for sent in &evidence.sent {
        first_us = first_us.min(sent.intended_us);
        if sent.answer == Ok(Reply::Accepted) {
            last_us = last_us.max(sent.answered_us);
            // The histograms resize themselves, so that every value fits.
            let _ = answered.record(sent.answered_us.saturating_sub(sent.intended_us));
        }
        let record = evidence.stores.orders.get(&sent.order_id);
        if let Some(done_us) = record.and_then(super::domain::OrderRecord::done_at_us) {
            let _ = done.record(done_us.saturating_sub(sent.intended_us));
        }
    }
    let first = Instant::from_nanos(first_us.saturating_mul(1_000));
    let last = Instant::from_nanos(last_us.saturating_mul(1_000));
    Latency {
        p50_ms: percentile_ms(&answered, 50.0),
        p99_ms: percentile_ms(&answered, 99.0),
        complete_p50_ms: percentile_ms(&done, 50.0),
        complete_p99_ms: percentile_ms(&done, 99.0),
        elapsed_s: last.since(first).as_secs_f64(),
    }
}

#[allow(clippy::cast_precision_loss)] // counts of orders are far below 2^53
fn throughput(accepted: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 {
        round(accepted as f64 / elapsed_s)
    } else {
        0.0
    }
}

/// Returns every fault in order of time, and how many there were of each kind.
fn all_faults(
    plan: &Plan,
    history: &History,
    deeds: &Deeds,
) -> (Vec<FaultEvent>, BTreeMap<String, u64>) {
    let kinds = [Do::Error, Do::Drop, Do::Latency, Do::Hang, Do::Kill];
    let mut counts: BTreeMap<String, u64> = kinds
        .into_iter()
        .map(|kind| (kind.name().to_owned(), 0))
        .collect();
    let mut faults = deeds.faults.clone();
    faults.extend(hangs(&plan.script).iter().map(hang_event));
    for fault in &history.faults {
        // Kills stand in the supervisor's list, and a hang is one event however many requests it holds.
        if fault.kind == Do::Kill.name() {
            continue;
        }
        *counts.entry(fault.kind.clone()).or_default() += 1;
        if fault.kind != Do::Hang.name() {
            faults.push(FaultEvent {
                at_ms: fault.at_us / 1_000,
                target: fault.target,
                kind: fault.kind.clone(),
                duration_ms: fault.duration_us.map(|us| us / 1_000),
                order_id: Some(fault.order_id.clone()),
            });
        }
    }
    counts.insert(Do::Kill.name().to_owned(), deeds.faults.len() as u64);
    faults.sort_by_key(|fault| fault.at_ms);
    (faults, counts)
}

fn conclude(plan: &Plan, evidence: &Evidence, deeds: &Deeds) -> RunRecord {
    let Evidence {
        stores,
        history,
        sent,
        samples,
    } = evidence;
    let config = &plan.run;
    let mut outages = deeds.outages.clone();
    outages.extend(hangs(&plan.script));

    let mut findings = Findings::default();
    findings.add(check::acknowledged_durable(stores, sent));
    findings.add(check::terminal_once(stores));
    let stock = findings.add(check::stock_conserved(stores));
    let money = findings.add(check::money_conserved(stores));
    let duplicate_charges = findings.add(check::single_charge(stores));
    let (events, lost_events) = check::event_once(stores);
    findings.add(events);
    findings.add(check::transient_survived(stores, history));
    findings.add(check::spared_calls(history, &outages));

    let latency = latency(evidence);
    let (faults, faults_injected) = all_faults(plan, history, deeds);
    let orders = sent.len() as u64;
    let accepted = stores.orders.len() as u64;
    let (completed, compensated) = (stores.completed(), stores.compensated());
    let outcome = if findings.violations.is_empty() {
        Outcome::Ok
    } else {
        Outcome::Violated
    };
    let invariant = |pattern: &Pattern| pattern.invariant().to_owned();
    let verdict = Verdict {
        schema: 1,
        scenario: "shop".to_owned(),
        engine: "threads".to_owned(),
        seed: config.seed,
        without: config.without.iter().map(ToString::to_string).collect(),
        orders,
        accepted,
        completed,
        compensated,
        rejected: orders.saturating_sub(accepted),
        unresolved: accepted.saturating_sub(completed + compensated),
        duplicate_charges,
        lost_events,
        stock_conserved: stock == 0,
        money_conserved: money == 0,
        faults_injected,
        restarts: deeds.restarts,
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        complete_p50_ms: latency.complete_p50_ms,
        complete_p99_ms: latency.complete_p99_ms,
        throughput_per_s: throughput(accepted, latency.elapsed_s),
        rss_peak_mb: rss_peak_mb(),
        expected: config.without.iter().map(invariant).collect(),
        verdict: outcome,
        violations: findings.violations,
        report: config
            .report
            .as_ref()
            .map(|path| path.display().to_string()),
    };
    RunRecord {
        verdict,
        checks: findings.checks,
        samples: samples.clone(),
        faults,
        stories: story::tell(&plan.script, &plan.watched, stores, history),
        config: config.clone(),
    }
}
