//! One run from the first node to the verdict.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Clock, Entropy, Sleep, SystemEntropy, TokioTime};
use tempfile::TempDir;

use super::chaos;
use super::check::{History, Stores};
use super::config::{Config, ConfigError, Pattern, Scenario};
use super::driver::{self, Progress, Sent};
use super::generator::Generator;
use super::policy::{Policy, PolicyError};
use super::record::{Comparison, RunRecord, Sample};
use super::report;
use super::service::ports::{Peer, StoreError};
use super::shell::http::HttpTransport;
use super::shell::metrics;
use super::shell::time::RunTime;
use super::story;
use super::supervisor::{Deeds, Plan, Supervisor, SupervisorError};
use super::verdict::{Evidence, conclude};
use super::view::{Silent, View};
use super::watch::Watch;
use crate::sync::Mutex;

/// How often the view sees a sample.
const TICK: Duration = Duration::from_millis(250);
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

/// Runs the shop on a runtime of its own, and writes its report.
///
/// A scenario that is about one pattern is run on both sides, the other one first.
///
/// # Errors
/// [`RunError`], when there is no verdict.
pub fn block_on(config: Config, view: &mut dyn View) -> Result<RunRecord, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("runtime"))?;
    runtime.block_on(async {
        let comparison = match config.counterpart() {
            Some(other) => Some(Box::new(compare(other, view).await?)),
            None => None,
        };
        let mut record = run(config, view).await?;
        record.comparison = comparison;
        if let Some(path) = &record.config.report {
            report::write(&record, path).map_err(io("report"))?;
        }
        view.finished(&record);
        Ok(record)
    })
}

/// Runs the other side of a scenario, unseen.
async fn compare(other: Config, view: &mut dyn View) -> Result<Comparison, RunError> {
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
    let record = run(other, &mut Silent).await?;
    Ok(Comparison {
        without: record.verdict.without.clone(),
        verdict: record.verdict,
        checks: record.checks,
        samples: record.samples,
    })
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
    let orders = || Generator::new(&config).map(|planned| planned.order);
    let script = chaos::plan(&config, orders());
    let watched = story::watch(&script, orders(), config.scenario == Scenario::RetryStorm);
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
    let prometheus = if config.serve {
        metrics::recorder()
    } else {
        None
    };
    let mut supervisor = Supervisor::new(plan.clone(), time, prometheus, Arc::clone(&deeds));
    supervisor.start().await?;
    view.started(&config);

    let progress = Arc::new(Progress::default());
    let watch = Watch::new(&plan, time, Arc::clone(&progress), Arc::clone(&deeds));
    let finished = AtomicBool::new(false);
    let customers = async {
        let result = attend(time, &plan, progress, watch, view).await;
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
    let deeds = deeds.lock();
    Ok(conclude(&plan, &evidence, &deeds))
}

/// Sends the orders, waits until all are done, and watches meanwhile.
async fn attend(
    time: RunTime,
    plan: &Plan,
    progress: Arc<Progress>,
    mut watch: Watch,
    view: &mut dyn View,
) -> Result<(Vec<Sent>, Vec<Sample>), RunError> {
    let config = &plan.run;
    let transport = HttpTransport::new(plan.ports.clone(), time);
    let customer = Policy::for_customers(transport, time, config.uses(Pattern::Retry))?;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    if config.serve {
        explain(plan, view);
    }
    let start = time.now() + LEAD;
    let kept = chaos::kept(&plan.script);
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
fn explain(plan: &Plan, view: &mut dyn View) {
    let port = plan.ports.get(&Peer::Gateway).copied().unwrap_or(0);
    let order = r#"{"order_id":"mine-1","customer":"me","items":[{"sku":"sku-001","quantity":1}],"payment_cents":1990}"#;
    view.note(&format!(
        "The shop is open at http://127.0.0.1:{port}; Ctrl-C closes it. Try:"
    ));
    view.note(&format!(
        "  curl -i http://127.0.0.1:{port}/orders -d '{order}'"
    ));
    view.note(&format!("  curl http://127.0.0.1:{port}/orders/mine-1"));
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
