//! What every shell does for a service, on a real machine or a simulated one.

use std::time::Duration;

use dpat_core::{Backoff, Instant, Jitter};
use dpat_outbox::RelayConfig;
use serde::{Deserialize, Serialize};

use super::chaos::{Do, Fate, RequestFaults, Subject};
use super::config::{Config, Pattern};
use super::idempotency::Memory;
use super::journal::{Entry, Injected, Journal, Queued};
use super::notices::Notice;
use super::policy::{PolicyError, Use};
use super::record::BreakerSample;
use super::service::gateway::Gateway;
use super::service::inventory::Inventory;
use super::service::order::{OrderConfig, OrderService};
use super::service::payment::Payment;
use super::service::ports::{Env, Gauges, Peer, Request, Service};
use super::service::shipping::Shipping;
use super::workflow::{FlowConfig, micros};

/// How long one delivery of an event may take.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the events wait that a relay had when it died.
const LEASE: Duration = Duration::from_secs(4);

/// What a node tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The service's own numbers.
    pub gauges: Gauges,
    /// Its breakers.
    pub breakers: Vec<BreakerSample>,
    /// What it has told last, the newest last.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// Takes a service of whatever type.
pub(crate) trait Host {
    /// What comes of it.
    type Hosted;

    /// Takes the service.
    fn host<S: Service>(self, service: S) -> Self::Hosted;
}

/// Makes the service of a node, and hands it to its host.
///
/// # Errors
/// A constant of this module that its crate refuses.
pub(crate) fn with_service<E: Env, H: Host>(
    peer: Peer,
    run: &Config,
    env: E,
    host: H,
) -> Result<H::Hosted, PolicyError> {
    Ok(match peer {
        Peer::Gateway => host.host(Gateway::new(env)),
        Peer::Order => host.host(OrderService::new(env, order_config(run)?)),
        Peer::Inventory => host.host(Inventory::new(env)),
        Peer::Payment => {
            let memory = if run.uses(Pattern::Idempotency) {
                Memory::On
            } else {
                Memory::Off
            };
            host.host(Payment::new(env, memory))
        }
        Peer::Shipping => {
            let queue = env.queue().cloned().ok_or(PolicyError::NoQueue)?;
            host.host(Shipping::new(env, queue, run.uses(Pattern::Ack))?)
        }
    })
}

fn order_config(run: &Config) -> Result<OrderConfig, PolicyError> {
    let redrive = Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1))?
        .with_jitter(Jitter::Equal);
    let relay = RelayConfig::builder()
        .backoff(redrive)
        .publish_timeout(DELIVERY_TIMEOUT)
        .lease(LEASE)
        .build()?;
    Ok(OrderConfig {
        flow: FlowConfig {
            patience: Duration::from_secs(60),
            call_timeout: Duration::from_secs(2),
            redrive,
            persistent: run.uses(Pattern::Retry),
            outbox: run.uses(Pattern::Outbox),
        },
        concurrency: 512,
        backlog_max: 100_000,
        relay,
        delivery_timeout: DELIVERY_TIMEOUT,
    })
}

/// Returns what the callers of a run use.
pub(crate) fn uses(run: &Config) -> Use {
    Use {
        breaker: run.uses(Pattern::Breaker),
        retry: run.uses(Pattern::Retry),
        budget: run.uses(Pattern::Budget),
    }
}

/// Writes down that a queue is fuller than ever.
pub(crate) fn note_queued(journal: &Journal, now: Instant, bytes: u64, order_id: &str) {
    journal.record(Entry::Queued(Queued {
        at_us: micros(now),
        bytes,
        order_id: order_id.to_owned(),
    }));
}

/// Asks the script what happens to a request, and writes it down.
pub(crate) fn suffer(
    faults: &RequestFaults,
    journal: &Journal,
    request: &Request,
    now: Instant,
) -> Fate {
    let at_us = micros(now);
    let subject = Subject {
        step: request.step,
        order_id: &request.order_id,
        attempt: request.attempt,
        at_us,
    };
    let fate = faults.fate(subject);
    let (kind, duration_us) = match fate {
        Fate::Pass => return fate,
        Fate::Error => (Do::Error, None),
        Fate::Drop => (Do::Drop, None),
        Fate::Late(by) => (Do::Latency, u64::try_from(by.as_micros()).ok()),
        Fate::Hang { until_us } => (Do::Hang, Some(until_us.saturating_sub(at_us))),
    };
    journal.record(Entry::Fault(Injected {
        at_us,
        target: faults.peer(),
        kind: kind.name().to_owned(),
        order_id: request.order_id.clone(),
        step: request.step,
        attempt: request.attempt,
        duration_us,
    }));
    fate
}
