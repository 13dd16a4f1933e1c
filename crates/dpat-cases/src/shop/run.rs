//! One run from the first node to the verdict.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dpat_core::{Clock, Entropy, Instant, Sleep, SystemEntropy, TokioTime, Wall};
use tempfile::TempDir;

use super::check::{self, Findings, Stores};
use super::config::{Config, ConfigError};
use super::driver::{self, Progress, Sent, histogram, percentile_ms};
use super::generator::Generator;
use super::node::{LocalNode, NodeConfig, NodeError};
use super::policy::Policy;
use super::record::{Outcome, RunRecord, Sample, Verdict};
use super::report;
use super::service::ports::{Gauges, Peer, Reply, StoreError};
use super::shell::http::{HttpTransport, Status};
use super::shell::time::RunTime;
use super::view::View;

/// How long the services may take to answer at the start.
const READY_WAIT: Duration = Duration::from_secs(20);
/// How long the orders may stand still at the end, before the run gives up on them.
const STALLED: Duration = Duration::from_secs(30);
/// How often the view sees a sample.
const TICK: Duration = Duration::from_millis(250);
/// How long a service may take to tell its numbers.
const STATUS_WAIT: Duration = Duration::from_secs(1);

/// A run that came to no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node broke.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A service did not become ready.
    #[error("{peer} is not ready after {wait:?}")]
    NotReady {
        /// Which service.
        peer: Peer,
        /// How long it had.
        wait: Duration,
    },
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
    let mut cluster = Cluster::start(config.clone()).await?;
    view.started(&config);
    let time = cluster.time;
    let start = time.now() + Duration::from_millis(20);
    let progress = Arc::new(Progress::default());
    let mut watch = Watch {
        progress: Arc::clone(&progress),
        samples: Vec::new(),
        gauges: Gauges::default(),
        ticks: 0,
    };

    let orders = Generator::new(&config);
    let customer = Policy::new(cluster.transport.clone());
    let mut driving = std::pin::pin!(driver::drive(orders, customer, time, start, progress));
    let sent = loop {
        tokio::select! {
            sent = &mut driving => break sent,
            () = time.sleep(TICK) => watch.tick(&cluster, view).await,
        }
    };
    drain(&cluster, &mut watch, view).await;
    watch.tick(&cluster, view).await;
    cluster.stop().await?;

    let stores = Stores::read(|peer| cluster.store(peer))?;
    let record = conclude(config, &stores, &sent, watch.samples)?;
    view.finished(&record);
    Ok(record)
}

/// Waits until every accepted order is terminal and every event delivered, or nothing moves any more.
async fn drain(cluster: &Cluster, watch: &mut Watch, view: &mut dyn View) {
    let time = cluster.time;
    let mut moved = time.now();
    let mut before = None;
    loop {
        watch.tick(cluster, view).await;
        let gauges = cluster.gauges().await;
        if let Some(gauges) = gauges {
            if gauges.open == 0 && gauges.outbox == 0 {
                return;
            }
        }
        if gauges != before {
            before = gauges;
            moved = time.now();
        } else if time.now().since(moved) > STALLED {
            view.note("nothing moves any more; giving up on what is open");
            return;
        }
        time.sleep(Duration::from_millis(50)).await;
    }
}

/// Takes the samples.
struct Watch {
    progress: Arc<Progress>,
    samples: Vec<Sample>,
    gauges: Gauges,
    ticks: u64,
}

impl Watch {
    async fn tick(&mut self, cluster: &Cluster, view: &mut dyn View) {
        if let Some(gauges) = cluster.gauges().await {
            self.gauges = gauges;
        }
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let accepted = load(&self.progress.accepted);
        let (p50_ms, p99_ms) = self.progress.total();
        let mut sample = Sample {
            at_ms: super::workflow::micros(cluster.time.now()) / 1_000,
            accepted,
            completed: self.gauges.completed,
            compensated: self.gauges.compensated,
            unanswered: load(&self.progress.sent)
                .saturating_sub(accepted + load(&self.progress.rejected)),
            in_flight: self.gauges.open,
            p50_ms,
            p99_ms,
            breakers: Vec::new(),
            outbox: self.gauges.outbox,
        };
        view.sample(&sample);
        self.ticks += 1;
        if self.ticks % 4 == 0 {
            (sample.p50_ms, sample.p99_ms) = self.progress.take_second();
            self.samples.push(sample);
        }
    }
}

/// The running services.
struct Cluster {
    nodes: BTreeMap<Peer, LocalNode>,
    folder: TempDir,
    time: RunTime,
    transport: HttpTransport,
}

impl Cluster {
    async fn start(run: Config) -> Result<Self, RunError> {
        let folder = TempDir::with_prefix("dpat-shop-").map_err(io("temporary folder"))?;
        let ports = free_ports().map_err(io("loopback ports"))?;
        let epoch = TokioTime.wall();
        let time = RunTime::since(epoch);
        let transport = HttpTransport::new(ports.clone(), time);
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            folder,
            time,
            transport,
        };
        for peer in Peer::ALL {
            let config = cluster.node_config(peer, &ports, epoch, &run);
            cluster.nodes.insert(peer, LocalNode::start(config, None)?);
        }
        for peer in Peer::ALL {
            cluster.await_ready(peer).await?;
        }
        Ok(cluster)
    }

    fn node_config(
        &self,
        peer: Peer,
        ports: &BTreeMap<Peer, u16>,
        epoch: Wall,
        run: &Config,
    ) -> NodeConfig {
        NodeConfig {
            peer,
            ports: ports.clone(),
            store: self.store(peer),
            epoch_ns: epoch.as_nanos(),
            incarnation: 0,
            run: run.clone(),
        }
    }

    fn store(&self, peer: Peer) -> PathBuf {
        self.folder.path().join(format!("{peer}.redb"))
    }

    async fn await_ready(&mut self, peer: Peer) -> Result<(), RunError> {
        let give_up = self.time.now() + READY_WAIT;
        while self.time.now() < give_up {
            let page = self.transport.get(peer, "/health/ready", STATUS_WAIT).await;
            if page.is_ok() {
                return Ok(());
            }
            if self.nodes.get(&peer).is_some_and(LocalNode::is_finished) {
                if let Some(node) = self.nodes.remove(&peer) {
                    node.stop().await?;
                }
                break;
            }
            self.time.sleep(Duration::from_millis(5)).await;
        }
        Err(RunError::NotReady {
            peer,
            wait: READY_WAIT,
        })
    }

    /// Returns the numbers of the order service, if it answers.
    async fn gauges(&self) -> Option<Gauges> {
        let page = self
            .transport
            .get(Peer::Order, "/status", STATUS_WAIT)
            .await;
        let status: Status = serde_json::from_slice(&page.ok()?).ok()?;
        Some(status.gauges)
    }

    async fn stop(&mut self) -> Result<(), RunError> {
        // Callers before callees.
        for peer in Peer::ALL.into_iter().rev() {
            if let Some(node) = self.nodes.remove(&peer) {
                node.stop().await?;
            }
        }
        Ok(())
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

fn conclude(
    config: Config,
    stores: &Stores,
    sent: &[Sent],
    samples: Vec<Sample>,
) -> Result<RunRecord, RunError> {
    let mut findings = Findings::default();
    findings.add(check::acknowledged_durable(stores, sent));
    findings.add(check::terminal_once(stores));
    let stock = findings.add(check::stock_conserved(stores));
    let money = findings.add(check::money_conserved(stores));
    let duplicate_charges = findings.add(check::single_charge(stores));
    let (events, lost_events) = check::event_once(stores);
    findings.add(events);

    let mut answered = histogram();
    let mut done = histogram();
    let mut first_us = u64::MAX;
    let mut last_us = 0;
    for sent in sent {
        first_us = first_us.min(sent.intended_us);
        if sent.answer == Ok(Reply::Accepted) {
            last_us = last_us.max(sent.answered_us);
            // The histograms resize themselves, so that every value fits.
            let _ = answered.record(sent.answered_us.saturating_sub(sent.intended_us));
        }
        let record = stores.orders.get(&sent.order_id);
        if let Some(done_us) = record.and_then(|record| record.done_at_us()) {
            let _ = done.record(done_us.saturating_sub(sent.intended_us));
        }
    }
    let orders = sent.len() as u64;
    let accepted = stores.orders.len() as u64;
    let (completed, compensated) = (stores.completed(), stores.compensated());
    let elapsed = Instant::from_nanos(last_us * 1_000)
        .since(Instant::from_nanos(first_us.saturating_mul(1_000)))
        .as_secs_f64();
    let expected = config
        .without
        .iter()
        .map(|pattern| pattern.invariant().to_owned())
        .collect();
    let outcome = if findings.violations.is_empty() {
        Outcome::Ok
    } else {
        Outcome::Violated
    };
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
        faults_injected: BTreeMap::new(),
        restarts: 0,
        p50_ms: percentile_ms(&answered, 50.0),
        p99_ms: percentile_ms(&answered, 99.0),
        complete_p50_ms: percentile_ms(&done, 50.0),
        complete_p99_ms: percentile_ms(&done, 99.0),
        throughput_per_s: throughput(accepted, elapsed),
        rss_peak_mb: rss_peak_mb(),
        expected,
        verdict: outcome,
        violations: findings.violations,
        report: config
            .report
            .as_ref()
            .map(|path| path.display().to_string()),
    };
    let record = RunRecord {
        verdict,
        checks: findings.checks,
        samples,
        faults: Vec::new(),
        stories: Vec::new(),
        config,
    };
    if let Some(path) = &record.config.report {
        report::write(&record, path).map_err(io("report"))?;
    }
    Ok(record)
}

#[allow(clippy::cast_precision_loss)] // counts of orders are far below 2^53
fn throughput(accepted: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 {
        round(accepted as f64 / elapsed_s)
    } else {
        0.0
    }
}
