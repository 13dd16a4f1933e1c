//! One run from the first node to the verdict.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Clock, Entropy, Sleep, SystemEntropy, TokioTime};
use tempfile::TempDir;

use super::chaos;
use super::check::{History, Stores};
use super::config::{Config, ConfigError, Nodes, Pattern};
use super::driver::{self, Progress, Sent};
use super::engine::{self, Engine, EngineServer, Place, ServerError, ShopQueue, StoreSite};
use super::generator::Generator;
use super::plan::Plan;
use super::policy::{Policy, PolicyError};
use super::record::{Comparison, DeadLetter, RunRecord, Sample};
use super::report;
use super::service::ports::{Peer, StoreError};
use super::shell::http::HttpTransport;
use super::shell::metrics;
use super::shell::time::RunTime;
use super::simulated;
use super::supervisor::{Deeds, Site, Supervisor, SupervisorError};
use super::verdict::{Evidence, conclude};
use super::view::{Silent, View};
use super::watch::PageWatch;
use crate::sync::Mutex;

/// How often the view sees a sample.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Time between the start of the nodes and the first order.
pub(crate) const LEAD: Duration = Duration::from_millis(20);

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
    /// There is no server to run on.
    #[error("engine: {0}")]
    Engine(#[from] ServerError),
    /// The simulation ended before the verdict.
    #[error("simulation: {0}")]
    Simulation(String),
    /// It was interrupted.
    #[error("interrupted before the verdict")]
    Interrupted,
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

/// Runs the shop, and writes its report.
///
/// A scenario that is about one pattern is run on both sides, the other one first.
///
/// # Errors
/// [`RunError`], when there is no verdict.
pub fn block_on(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    let comparison = match config.counterpart() {
        Some(other) => Some(Box::new(compare(other, view)?)),
        None => None,
    };
    let mut record = one(config, view)?;
    record.comparison = comparison;
    for DeadLetter {
        order_id, reason, ..
    } in &record.dead_letters
    {
        view.note(&format!("dead letter: {order_id}: {reason}"));
    }
    if let Some(path) = &record.config.report {
        report::write(&record, path).map_err(io("report"))?;
    }
    view.finished(&record);
    Ok(record)
}

/// Runs one side, where the configuration says: on a runtime of its own, or in the simulator.
fn one(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    if config.nodes == Nodes::Simulated {
        return simulated::run(config, view);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("runtime"))?;
    runtime.block_on(run(config, view))
}

/// Runs the other side of a scenario, unseen.
fn compare(other: Config, view: &mut dyn View) -> Result<Comparison, RunError> {
    let side = if other.without.is_empty() {
        "with everything".to_owned()
    } else {
        let names: Vec<&str> = other.without.iter().map(|pattern| pattern.name()).collect();
        format!("without {}", names.join(", "))
    };
    view.note(&format!(
        "{}: first {side}, to compare",
        other.scenario.name()
    ));
    let record = one(other, &mut Silent)?;
    Ok(Comparison {
        without: record.verdict.without.clone(),
        verdict: record.verdict,
        checks: record.checks,
        samples: record.samples,
    })
}

/// Runs the shop on real sockets and returns what it left behind.
///
/// # Errors
/// [`RunError`], when there is no verdict.
///
/// # Cancel safety
/// Dropping the future stops the nodes.
pub async fn run(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    config.validate()?;
    let folder = TempDir::with_prefix("dpat-shop-").map_err(io("temporary folder"))?;
    let (server, place) = engine_of(&config)?;
    if let Some(place) = &place {
        prepare(&config, place).await?;
    }
    let epoch = TokioTime.wall();
    let site = Site {
        place,
        plan: Plan::of(config.clone()),
        ports: free_ports().map_err(io("loopback ports"))?,
        folder: folder.path().to_owned(),
        epoch,
    };
    let time = RunTime::since(epoch);
    let deeds = Arc::new(Mutex::new(Deeds::default()));
    let prometheus = if config.serve {
        metrics::recorder()
    } else {
        None
    };
    let mut supervisor = Supervisor::new(site.clone(), time, prometheus, Arc::clone(&deeds));
    let server = match config.engine {
        Engine::Sqlite => Some(EngineServer::file(site.store(Peer::Order))),
        _ => server,
    };
    if let Some(server) = server {
        supervisor.take(server, engine::struck_at(&config));
    }
    supervisor.start().await?;
    view.started(&config);

    let progress = Arc::new(Progress::default());
    let watch = PageWatch::new(&site, time, Arc::clone(&progress), Arc::clone(&deeds));
    let finished = AtomicBool::new(false);
    let customers = async {
        let result = attend(time, &site, progress, watch, view).await;
        finished.store(true, Ordering::Release);
        result
    };
    let supervision = async { Ok(supervisor.run(&finished).await?) };
    let ((sent, samples), ()) = tokio::try_join!(customers, supervision)?;
    supervisor.stop().await?;

    let mut stores = Stores::read(|peer| site.store_site(peer), &time).await?;
    let backpressure = config.uses(Pattern::Backpressure);
    let store = site.store(Peer::Shipping);
    let place = site.place.as_ref();
    let queue = ShopQueue::open(config.engine, place, &store, backpressure, time).await?;
    stores.look_at(queue.queue()).await?;
    queue.close()?;
    let evidence = Evidence {
        stores,
        history: History::read(|peer| site.journal(peer)).map_err(io("journal"))?,
        sent,
        samples,
    };
    let deeds = deeds.lock();
    Ok(conclude(&site.plan, &evidence, &deeds, None))
}

/// Starts the server of a run that wants one of its own, and says where it is.
fn engine_of(config: &Config) -> Result<(Option<EngineServer>, Option<Place>), RunError> {
    let engine = config.engine;
    if !engine.is_server() {
        return Ok((None, None));
    }
    let (server, url) = match &config.engine_url {
        Some(url) => (None, url.clone()),
        None => {
            let (server, url) = EngineServer::start(engine)?;
            (Some(server), url)
        }
    };
    let run = format!("shop-{:x}", TokioTime.wall().as_nanos());
    Ok((server, Some(Place { engine, url, run })))
}

/// Makes the tables of a run before it begins, where that takes time: faults strike by its clock.
async fn prepare(config: &Config, place: &Place) -> Result<(), RunError> {
    if config.engine != Engine::Postgres {
        return Ok(());
    }
    for peer in Peer::ALL {
        let site = StoreSite {
            peer,
            engine: config.engine,
            file: PathBuf::new(),
            place: Some(place.clone()),
        };
        let (store, owner) = site.open(Arc::default(), &TokioTime).await?;
        drop(store);
        owner.join()?;
    }
    Ok(())
}

/// Sends the orders, waits until all are done, and watches meanwhile.
async fn attend(
    time: RunTime,
    site: &Site,
    progress: Arc<Progress>,
    mut watch: PageWatch,
    view: &mut dyn View,
) -> Result<(Vec<Sent>, Vec<Sample>), RunError> {
    let config = &site.plan.run;
    let transport = HttpTransport::new(site.ports.clone(), time);
    let patient = config.uses(Pattern::Retry);
    let customer = Policy::for_customers(transport, time, patient, Arc::new(SystemEntropy))?;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    if config.serve {
        explain(site, view);
    }
    let start = time.now() + LEAD;
    let kept = chaos::kept(&site.plan.script);
    let orders = (0..).zip(Generator::new(config));
    let orders = orders.filter_map(move |(number, order)| kept(number).then_some(order));
    let mut driving = std::pin::pin!(driver::drive(orders, customer, time, start, progress));
    let mut sent = None;
    loop {
        tokio::select! {
            done = &mut driving, if sent.is_none() => {
                sent = Some(done);
                if !config.serve {
                    break;
                }
            }
            _ = &mut interrupted => {
                if config.serve {
                    break;
                }
                return Err(RunError::Interrupted);
            }
            () = time.sleep(TICK) => watch.tick(view).await,
        }
    }
    tokio::select! {
        () = watch.drain(view) => {}
        _ = tokio::signal::ctrl_c() => return Err(RunError::Interrupted),
    }
    watch.tick(view).await;
    Ok((sent.unwrap_or_default(), watch.into_samples()))
}

/// Tells people how to talk to the gateway.
fn explain(site: &Site, view: &mut dyn View) {
    let port = site.ports.get(&Peer::Gateway).copied().unwrap_or(0);
    let order = r#"{"order_id":"mine-1","customer":"me","items":[{"sku":"sku-001","quantity":1}],"payment_cents":1990}"#;
    view.note(&format!(
        "The shop is open at http://127.0.0.1:{port}; Ctrl-C closes it. Try:"
    ));
    view.note(&format!(
        "  curl -i http://127.0.0.1:{port}/orders -d '{order}'"
    ));
    view.note(&format!("  curl http://127.0.0.1:{port}/orders/mine-1"));
    view.note(&format!("  curl -N http://127.0.0.1:{port}/events"));
    view.note(&format!("  curl http://127.0.0.1:{port}/metrics"));
    view.note(&format!("  curl http://127.0.0.1:{port}/health/ready"));
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
