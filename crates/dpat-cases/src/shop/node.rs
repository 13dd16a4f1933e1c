//! One service with its shell: in a thread of this process, or as a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dpat_core::{Clock, Entropy, SplitMix64, Wall};
use dpat_model::Script;
use dpat_queue::Queue;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::chaos::{self, Do, Fate, RequestFaults};
use super::config::{Config, Pattern};
use super::engine::notices::Bridge;
use super::engine::{Place, ShopQueue, StoreSite};
use super::host::{self, Host};
use super::journal::{self, Entry, Injected, Journal};
use super::notices::Notices;
use super::policy::{Caller, Policy, PolicyError};
use super::service::ports::{Env, Peer, Request, Service, Step, StoreError};
use super::shell::http::{HttpTransport, ServeError, Server};
use super::shell::time::RunTime;
use super::shell::{NodeStore, StoreOwner};
use super::story::Watched;
use super::workflow::micros;

/// Everything that a node must know to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Which service.
    pub peer: Peer,
    /// Where all services listen.
    pub ports: BTreeMap<Peer, u16>,
    /// The file of the store.
    pub store: PathBuf,
    /// The file of the journal.
    pub journal: PathBuf,
    /// Start of the run by the wall clock, in nanoseconds since 1970.
    pub epoch_ns: u64,
    /// Counts the starts of this service, from 0.
    pub incarnation: u32,
    /// The run.
    pub run: Config,
    /// The faults.
    #[serde(with = "chaos::as_json")]
    pub script: Script,
    /// The orders of which everything is written down.
    pub watched: Watched,
    /// Where the engine is, if it is a server.
    #[serde(default)]
    pub place: Option<Place>,
}

/// Why a node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// It came to a point where the script kills it.
    Died,
}

/// A node that could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The store does not open.
    #[error("{peer}: {source}")]
    Store {
        /// Which service.
        peer: Peer,
        /// Why.
        source: StoreError,
    },
    /// The server stopped.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The machine refuses a thread, a process or a runtime.
    #[error("{peer}: cannot start: {source}")]
    Start {
        /// Which service.
        peer: Peer,
        /// Why.
        source: std::io::Error,
    },
    /// A child process ended with an error of its own.
    #[error("{peer}: the process ended with code {code}")]
    Exited {
        /// Which service.
        peer: Peer,
        /// Its exit code.
        code: i32,
    },
    /// A constant of the policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// How a node dies in the middle of its work.
#[derive(Debug)]
struct Death {
    script: Script,
    severed: Arc<AtomicBool>,
    dead: AtomicBool,
    died: Notify,
    /// The orders at whose points earlier starts of this node died: each kills once.
    before: BTreeSet<String>,
}

/// Reads in the journal at whose points earlier starts of a node died.
fn deaths(path: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut orders = BTreeSet::new();
    journal::read(path, |entry| match entry {
        Entry::Fault(fault) if fault.kind == Do::Kill.name() => {
            orders.insert(fault.order_id);
        }
        _ => {}
    })?;
    Ok(orders)
}

/// What the service of this node touches.
#[derive(Clone, Debug)]
struct NodeEnv {
    time: RunTime,
    transport: Policy<HttpTransport, RunTime>,
    store: NodeStore,
    queue: Option<Queue>,
    notices: Notices,
    is_remote: bool,
    entropy: Arc<SplitMix64>,
    death: Arc<Death>,
    faults: Arc<RequestFaults>,
    journal: Journal,
}

impl Env for NodeEnv {
    type Time = RunTime;
    type Transport = Policy<HttpTransport, RunTime>;
    type Store = NodeStore;

    fn time(&self) -> &RunTime {
        &self.time
    }
    fn transport(&self) -> &Self::Transport {
        &self.transport
    }
    fn store(&self) -> &NodeStore {
        &self.store
    }
    fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }
    fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }
    fn is_remote(&self) -> bool {
        self.is_remote
    }
    fn notices(&self) -> Notices {
        self.notices.clone()
    }
    fn fate(&self, work: &Request) -> Fate {
        host::suffer(&self.faults, &self.journal, work, self.time.now())
    }
    fn note_queued(&self, bytes: u64, order_id: &str) {
        host::note_queued(&self.journal, self.time.now(), bytes, order_id);
    }
    async fn at_point(&self, point: &'static str, order_id: &str) {
        if self.death.before.contains(order_id) {
            return;
        }
        if let Some(away) = chaos::dies_at(&self.death.script, point, order_id) {
            self.journal.record(Entry::Fault(Injected {
                at_us: micros(self.time.now()),
                target: self.faults.peer(),
                kind: Do::Kill.name().to_owned(),
                order_id: order_id.to_owned(),
                step: Step::Ship,
                attempt: 0,
                duration_us: u64::try_from(away.as_micros()).ok(),
            }));
            self.death.dead.store(true, Ordering::Release);
            self.death.severed.store(true, Ordering::Release);
            self.death.died.notify_one();
            // Nothing of this node runs any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Runs a node on the current thread until `stop` resolves, it dies by script, or it breaks.
///
/// Setting `severed` before `stop` makes it a kill: nothing reaches the store any more, and connections are closed
/// in whatever state they are.
///
/// # Errors
/// [`NodeError`].
pub fn run(
    config: NodeConfig,
    prometheus: Option<PrometheusHandle>,
    severed: Arc<AtomicBool>,
    stop: impl Future<Output = ()>,
) -> Result<Ended, NodeError> {
    let peer = config.peer;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NodeError::Start { peer, source })?;
    let store_error = |source| NodeError::Store { peer, source };
    let time = RunTime::since(Wall::from_nanos(config.epoch_ns));
    let death = Arc::new(Death {
        script: config.script.clone(),
        severed: Arc::clone(&severed),
        dead: AtomicBool::new(false),
        died: Notify::new(),
        before: deaths(&config.journal).map_err(|source| NodeError::Start { peer, source })?,
    });
    let mut kept = Kept::default();
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            () = death.died.notified() => Ok(Ended::Died),
            () = stop => Ok(Ended::Stopped),
            result = begin(config, prometheus, &mut kept, time, Arc::clone(&death)) => result,
        }
    });
    // Closes every socket and drops every task, and with them the last handles to the store.
    drop(runtime);
    let closed = kept.close().map_err(store_error);
    if death.dead.load(Ordering::Acquire) {
        // Whatever else broke at the same moment.
        return Ok(Ended::Died);
    }
    if severed.load(Ordering::Acquire) {
        // What broke while the node was being killed is no news.
        return Ok(result.unwrap_or(Ended::Stopped));
    }
    let ended = result?;
    closed.map(|()| ended)
}

/// What is closed when the node has stopped.
#[derive(Default)]
struct Kept {
    store: Option<StoreOwner>,
    queue: Option<ShopQueue>,
}

impl Kept {
    fn close(self) -> Result<(), StoreError> {
        let stored = self.store.map_or(Ok(()), StoreOwner::join);
        let queued = self.queue.map_or(Ok(()), ShopQueue::close);
        stored.and(queued)
    }
}

/// Opens what the node keeps, and serves.
async fn begin(
    config: NodeConfig,
    prometheus: Option<PrometheusHandle>,
    kept: &mut Kept,
    time: RunTime,
    death: Arc<Death>,
) -> Result<Ended, NodeError> {
    let peer = config.peer;
    let severed = Arc::clone(&death.severed);
    let opened = open(&config, kept, time, severed).await;
    let (parts, bridge) = opened.map_err(|source| NodeError::Store { peer, source })?;
    let serve = serve(config, prometheus, parts, time, death);
    let Some(bridge) = bridge else {
        return serve.await;
    };
    // The services go on when nothing is carried any more.
    let carried = async {
        bridge.run().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = serve => ended,
        () = carried => Ok(Ended::Stopped),
    }
}

/// What a node keeps, and by which it tells.
struct Parts {
    store: NodeStore,
    queue: Option<Queue>,
    notices: Notices,
    is_remote: bool,
}

/// Opens what the service of this node has, on its engine.
async fn open(
    config: &NodeConfig,
    kept: &mut Kept,
    time: RunTime,
    severed: Arc<AtomicBool>,
) -> Result<(Parts, Option<Bridge>), StoreError> {
    let engine = config.run.engine;
    let site = StoreSite {
        peer: config.peer,
        engine,
        file: config.store.clone(),
        place: config.place.clone(),
    };
    let (store, owner) = site.open(severed, &time).await?;
    kept.store = Some(owner);
    let mut parts = Parts {
        store,
        queue: None,
        notices: Notices::default(),
        is_remote: false,
    };
    let mut bridge = None;
    match (config.peer, &config.place) {
        (Peer::Shipping, place) => {
            let backpressure = config.run.uses(Pattern::Backpressure);
            let opened = ShopQueue::open(engine, place.as_ref(), &config.store, backpressure, time);
            let queue = kept.queue.insert(opened.await?);
            parts.queue = Some(queue.queue().clone());
            parts.is_remote = queue.is_remote();
        }
        (Peer::Order, Some(place)) if engine.has_notices() => {
            let (notices, connected) = Bridge::connect(place, &time).await?;
            parts.notices = notices;
            bridge = Some(connected);
        }
        _ => {}
    }
    Ok((parts, bridge))
}

async fn serve(
    config: NodeConfig,
    prometheus: Option<PrometheusHandle>,
    parts: Parts,
    time: RunTime,
    death: Arc<Death>,
) -> Result<Ended, NodeError> {
    let peer = config.peer;
    let label = format!("{peer}#{}", config.incarnation);
    let journal =
        Journal::open(&config.journal).map_err(|source| NodeError::Start { peer, source })?;
    let entropy = Arc::new(SplitMix64::stream(config.run.seed, &label));
    let caller = Caller {
        peer: Some(peer),
        incarnation: config.incarnation,
        journal: journal.clone(),
        watched: Arc::new(config.watched.clone()),
        entropy: Arc::<SplitMix64>::clone(&entropy),
    };
    let faults = Arc::new(RequestFaults::at(&config.script, peer));
    let transport = HttpTransport::new(config.ports.clone(), time);
    let policy = Policy::new(transport, time, host::uses(&config.run), caller)?;
    let env = NodeEnv {
        time,
        transport: policy.clone(),
        store: parts.store,
        queue: parts.queue,
        notices: parts.notices,
        is_remote: parts.is_remote,
        entropy,
        death,
        faults: Arc::clone(&faults),
        journal: journal.clone(),
    };
    let shell = Shell {
        config: &config,
        time,
        faults,
        prometheus,
        policy,
        journal,
    };
    host::with_service(peer, &config.run, env, shell)?.await
}

struct Shell<'c> {
    config: &'c NodeConfig,
    time: RunTime,
    faults: Arc<RequestFaults>,
    prometheus: Option<PrometheusHandle>,
    policy: Policy<HttpTransport, RunTime>,
    journal: Journal,
}

impl<'c> Host for Shell<'c> {
    type Hosted = Pin<Box<dyn Future<Output = Result<Ended, NodeError>> + 'c>>;

    fn host<S: Service>(self, service: S) -> Self::Hosted {
        let peer = self.config.peer;
        let server = Server {
            peer,
            port: self.config.ports.get(&peer).copied().unwrap_or(0),
            service,
            time: self.time,
            prometheus: self.prometheus,
            policy: self.policy,
            faults: self.faults,
            journal: self.journal,
        };
        Box::pin(async move {
            server.run().await?;
            Ok(Ended::Stopped)
        })
    }
}

/// A node in a thread of this process.
#[derive(Debug)]
pub struct LocalNode {
    thread: JoinHandle<Result<Ended, NodeError>>,
    stop: oneshot::Sender<()>,
    severed: Arc<AtomicBool>,
}

impl LocalNode {
    /// Starts a node.
    ///
    /// # Errors
    /// [`NodeError::Start`].
    pub fn start(
        config: NodeConfig,
        prometheus: Option<PrometheusHandle>,
    ) -> Result<Self, NodeError> {
        let peer = config.peer;
        let severed = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(peer.name().to_owned())
            .spawn({
                let severed = Arc::clone(&severed);
                move || {
                    run(config, prometheus, severed, async {
                        // A dropped handle stops the node too.
                        let _ = stopped.await;
                    })
                }
            })
            .map_err(|source| NodeError::Start { peer, source })?;
        Ok(Self {
            thread,
            stop,
            severed,
        })
    }

    /// Says whether the node has stopped by itself.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Kills the node: its tasks, its sockets, and its store without a clean close.
    pub async fn kill(self) {
        self.severed.store(true, Ordering::Release);
        // If it broke just before, it is dead all the same.
        let _ = self.stop().await;
    }

    /// Stops the node and closes its store; or learns how it ended before.
    ///
    /// # Errors
    /// Whatever stopped it earlier.
    pub async fn stop(self) -> Result<Ended, NodeError> {
        let Self { thread, stop, .. } = self;
        drop(stop);
        // Joining blocks, shortly.
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(result)) => result,
            // A panic has been printed by its thread.
            _ => Ok(Ended::Died),
        }
    }
}
