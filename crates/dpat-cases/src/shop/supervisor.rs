//! Starts the nodes, kills some by the script, and starts them again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Clock, Instant, Sleep, Wall};
use metrics_exporter_prometheus::PrometheusHandle;

use super::chaos::{self, Do, Timed};
use super::config::Nodes;
use super::engine::{Engine, EngineServer, Place, StoreSite};
use super::journal::{self, Entry};
use super::node::{Ended, LocalNode, NodeConfig, NodeError};
use super::plan::Plan;
use super::process::ProcessNode;
use super::record::FaultEvent;
use super::service::ports::Peer;
use super::shell::http::HttpTransport;
use super::shell::time::RunTime;
use super::workflow::micros;
use crate::sync::Mutex;

/// How often nodes are looked after.
const TICK: Duration = Duration::from_millis(10);
/// How long a service may take to answer after its start.
const READY_WAIT: Duration = Duration::from_secs(20);
/// How long a page may take.
const PAGE_WAIT: Duration = Duration::from_secs(1);

/// A service that does not come up, or goes down by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A node broke.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A service stopped, and nobody had asked it to.
    #[error("{peer} stopped by itself")]
    Gone {
        /// Which service.
        peer: Peer,
    },
    /// The engine could not be struck, or did not come up again.
    #[error("engine: {0}")]
    Engine(std::io::Error),
    /// A service did not become ready.
    #[error("{peer} is not ready after {wait:?}")]
    NotReady {
        /// Which service.
        peer: Peer,
        /// How long it had.
        wait: Duration,
    },
}

/// A time during which a service did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Which service.
    pub peer: Peer,
    /// From when on, in microseconds since the start of the run.
    pub from_us: u64,
    /// Until when.
    pub until_us: u64,
}

/// What the supervisor has done so far; shared with the view.
#[derive(Debug, Default)]
pub struct Deeds {
    /// Kills.
    pub faults: Vec<FaultEvent>,
    /// How many times a service was started again.
    pub restarts: u64,
    /// Kills, as outages.
    pub outages: Vec<Outage>,
    /// Peak memory of the processes of each service.
    pub memory_mb: BTreeMap<Peer, f64>,
}

/// Returns the peak memory of a process (`self` or an id) in MiB, or 0 where the system does not tell.
#[must_use]
pub fn rss_peak_mb(process: &str) -> f64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
        return 0.0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<f64>().ok())
        .map_or(0.0, |kib| kib / 1024.0)
}

/// Where the nodes of a run are.
#[derive(Clone, Debug)]
pub struct Site {
    /// What they do.
    pub plan: Plan,
    /// Where all services listen.
    pub ports: BTreeMap<Peer, u16>,
    /// Stores and journals.
    pub folder: PathBuf,
    /// Start of the run.
    pub epoch: Wall,
    /// Where the engine is, if it is a server.
    pub place: Option<Place>,
}

impl Site {
    /// Returns the file of a service's store.
    #[must_use]
    pub fn store(&self, peer: Peer) -> PathBuf {
        let ending = match self.plan.run.engine {
            Engine::Sqlite => "db",
            _ => "redb",
        };
        self.folder.join(format!("{peer}.{ending}"))
    }

    /// Returns where a service's store is.
    #[must_use]
    pub fn store_site(&self, peer: Peer) -> StoreSite {
        StoreSite {
            peer,
            engine: self.plan.run.engine,
            file: self.store(peer),
            place: self.place.clone(),
        }
    }

    /// Returns the file of a service's journal.
    #[must_use]
    pub fn journal(&self, peer: Peer) -> PathBuf {
        self.folder.join(format!("{peer}.journal"))
    }

    fn node(&self, peer: Peer, incarnation: u32) -> NodeConfig {
        NodeConfig {
            peer,
            ports: self.ports.clone(),
            store: self.store(peer),
            journal: self.journal(peer),
            epoch_ns: self.epoch.as_nanos(),
            incarnation,
            run: self.plan.run.clone(),
            script: self.plan.script.clone(),
            watched: self.plan.watched.clone(),
            place: self.place.clone(),
        }
    }
}

/// A running node.
#[derive(Debug)]
enum Node {
    Local(LocalNode),
    Process(Box<ProcessNode>),
}

impl Node {
    fn is_finished(&mut self) -> bool {
        match self {
            Self::Local(node) => node.is_finished(),
            Self::Process(node) => node.is_finished(),
        }
    }

    async fn kill(self) {
        match self {
            Self::Local(node) => node.kill().await,
            Self::Process(node) => node.kill().await,
        }
    }

    async fn stop(self) -> Result<Ended, NodeError> {
        match self {
            Self::Local(node) => node.stop().await,
            Self::Process(node) => node.stop().await,
        }
    }
}

/// One service: running, or away until a time.
#[derive(Debug)]
enum Slot {
    Up(Node),
    Away { since_us: u64, until: Instant },
}

/// Owns the nodes.
#[derive(Debug)]
pub struct Supervisor {
    site: Site,
    time: RunTime,
    pages: HttpTransport,
    prometheus: Option<PrometheusHandle>,
    slots: BTreeMap<Peer, Slot>,
    incarnations: BTreeMap<Peer, u32>,
    /// Kills to come, the next one last.
    kills: Vec<(Instant, Peer, Duration)>,
    server: Option<EngineServer>,
    /// When the engine is struck, and for how long it is away.
    blow: Option<Timed>,
    /// When an engine that was struck comes back.
    back_at_us: Option<u64>,
    deeds: Arc<Mutex<Deeds>>,
}

impl Supervisor {
    /// Makes a supervisor without nodes.
    pub(crate) fn new(
        site: Site,
        time: RunTime,
        prometheus: Option<PrometheusHandle>,
        deeds: Arc<Mutex<Deeds>>,
    ) -> Self {
        let mut kills: Vec<_> = chaos::kills(&site.plan.script)
            .map(|kill| {
                let at = Instant::from_nanos(kill.at_us.saturating_mul(1_000));
                (at, kill.peer, Duration::from_micros(kill.for_us))
            })
            .collect();
        kills.sort_by(|a, b| b.cmp(a));
        Self {
            pages: HttpTransport::new(site.ports.clone(), time),
            site,
            time,
            prometheus,
            slots: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            kills,
            server: None,
            blow: None,
            back_at_us: None,
            deeds,
        }
    }

    /// Takes the engine of the run, to be struck at a time; a server stops with the supervisor.
    pub(crate) fn take(&mut self, server: EngineServer, blow: Option<Timed>) {
        self.server = Some(server);
        self.blow = blow;
    }

    /// Starts every service and waits until all answer.
    ///
    /// # Errors
    /// [`SupervisorError`].
    pub async fn start(&mut self) -> Result<(), SupervisorError> {
        for peer in Peer::ALL {
            self.launch(peer)?;
        }
        for peer in Peer::ALL {
            self.await_ready(peer).await?;
        }
        Ok(())
    }

    fn launch(&mut self, peer: Peer) -> Result<(), SupervisorError> {
        let incarnation = self.incarnations.entry(peer).or_default();
        let config = self.site.node(peer, *incarnation);
        *incarnation += 1;
        let node = match &self.site.plan.run.nodes {
            Nodes::Threads | Nodes::Simulated => {
                Node::Local(LocalNode::start(config, self.prometheus.clone())?)
            }
            Nodes::Processes { program } => {
                let file = self.site.folder.join(format!("{peer}.json"));
                Node::Process(Box::new(ProcessNode::start(program, &config, &file)?))
            }
        };
        self.slots.insert(peer, Slot::Up(node));
        Ok(())
    }

    async fn await_ready(&mut self, peer: Peer) -> Result<(), SupervisorError> {
        let give_up = self.time.now() + READY_WAIT;
        while self.time.now() < give_up {
            let page = self.pages.get(peer, "/health/ready", PAGE_WAIT).await;
            if page.is_ok() {
                return Ok(());
            }
            self.look_after(peer).await?;
            self.time.sleep(Duration::from_millis(5)).await;
        }
        Err(SupervisorError::NotReady {
            peer,
            wait: READY_WAIT,
        })
    }

    /// Kills and restarts by the script until `done` is set.
    ///
    /// # Errors
    /// A node that broke by itself.
    ///
    /// # Cancel safety
    /// Dropped in the middle of a kill, the node is killed but not started again.
    pub async fn run(&mut self, done: &AtomicBool) -> Result<(), SupervisorError> {
        while !done.load(Ordering::Acquire) {
            while let Some((at, peer, away)) = self.kills.last().copied() {
                if self.time.now() < at {
                    break;
                }
                self.kills.pop();
                self.kill(peer, away).await;
            }
            for peer in Peer::ALL {
                self.look_after(peer).await?;
            }
            self.strike_engine().await?;
            self.time.sleep(TICK).await;
        }
        // What is left is read from it.
        match self.back_at_us {
            Some(_) => self.restore_engine().await,
            None => Ok(()),
        }
    }

    async fn kill(&mut self, peer: Peer, away: Duration) {
        match self.slots.remove(&peer) {
            Some(Slot::Up(node)) => {
                self.note_memory(&node);
                node.kill().await;
                self.note_death(peer, away, None);
            }
            // Whoever is away already cannot be killed again.
            Some(slot) => {
                self.slots.insert(peer, slot);
            }
            None => {}
        }
    }

    /// Strikes the engine when it is time, and lets it come back when that is over.
    async fn strike_engine(&mut self) -> Result<(), SupervisorError> {
        let now_us = micros(self.time.now());
        if self.back_at_us.is_some_and(|back| now_us >= back) {
            return self.restore_engine().await;
        }
        let Some(blow) = self.blow.filter(|blow| now_us >= blow.at_us) else {
            return Ok(());
        };
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        self.blow = None;
        self.back_at_us = Some(now_us + blow.for_us);
        server.strike().map_err(SupervisorError::Engine)?;
        self.deeds.lock().faults.push(FaultEvent {
            at_ms: now_us / 1_000,
            target: blow.peer,
            kind: server.strike_name().to_owned(),
            duration_ms: Some(blow.for_us / 1_000),
            order_id: None,
        });
        Ok(())
    }

    /// Waits for a server until it answers. Customers go on meanwhile.
    async fn restore_engine(&mut self) -> Result<(), SupervisorError> {
        self.back_at_us = None;
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let restored = tokio::task::spawn_blocking(move || (server.restore(), server));
        let (restored, server) = restored
            .await
            .map_err(|error| SupervisorError::Engine(std::io::Error::other(error)))?;
        self.server = Some(server);
        restored.map_err(SupervisorError::Engine)
    }

    /// Remembers the most memory that a process of this service had.
    fn note_memory(&self, node: &Node) {
        let Node::Process(node) = node else { return };
        let peak = node.pid().map_or(0.0, |pid| rss_peak_mb(&pid.to_string()));
        let mut deeds = self.deeds.lock();
        let known = deeds.memory_mb.entry(node.peer()).or_default();
        *known = known.max(peak);
    }

    fn note_death(&mut self, peer: Peer, away: Duration, order_id: Option<String>) {
        let now = self.time.now();
        let slot = Slot::Away {
            since_us: micros(now),
            until: now + away,
        };
        self.slots.insert(peer, slot);
        self.deeds.lock().faults.push(FaultEvent {
            at_ms: micros(now) / 1_000,
            target: peer,
            kind: Do::Kill.name().to_owned(),
            duration_ms: u64::try_from(away.as_millis()).ok(),
            order_id,
        });
    }

    /// Starts a service whose time away is over; finds out about one that has ended.
    async fn look_after(&mut self, peer: Peer) -> Result<(), SupervisorError> {
        match self.slots.remove(&peer) {
            Some(Slot::Away { since_us, until }) if self.time.now() >= until => {
                let outage = Outage {
                    peer,
                    from_us: since_us,
                    until_us: micros(self.time.now()),
                };
                {
                    let mut deeds = self.deeds.lock();
                    deeds.outages.push(outage);
                    deeds.restarts += 1;
                }
                self.launch(peer)
            }
            Some(Slot::Up(mut node)) => {
                if !node.is_finished() {
                    self.slots.insert(peer, Slot::Up(node));
                    return Ok(());
                }
                match node.stop().await? {
                    Ended::Stopped => Err(SupervisorError::Gone { peer }),
                    Ended::Died => {
                        let (away, order_id) = self.last_words(peer);
                        self.note_death(peer, away, order_id);
                        Ok(())
                    }
                }
            }
            Some(slot) => {
                self.slots.insert(peer, slot);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Learns from its journal what killed a node, and how long it stays away.
    fn last_words(&self, peer: Peer) -> (Duration, Option<String>) {
        let mut last = (Duration::ZERO, None);
        let read = journal::read(&self.site.journal(peer), |entry| match entry {
            Entry::Fault(fault) if fault.kind == Do::Kill.name() => {
                let away = Duration::from_micros(fault.duration_us.unwrap_or(0));
                last = (away, Some(fault.order_id));
            }
            _ => {}
        });
        // An unreadable journal fails the checks later; until then the node is only away for no time.
        read.map_or((Duration::ZERO, None), |()| last)
    }

    /// Stops every service and closes its store.
    ///
    /// # Errors
    /// Whatever broke a node.
    pub async fn stop(&mut self) -> Result<(), SupervisorError> {
        // Callers before callees.
        for peer in Peer::ALL.into_iter().rev() {
            if let Some(Slot::Up(node)) = self.slots.remove(&peer) {
                self.note_memory(&node);
                node.stop().await?;
            }
        }
        Ok(())
    }
}
