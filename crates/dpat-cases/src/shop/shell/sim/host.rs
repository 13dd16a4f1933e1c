//! One service on a simulated node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Clock, Deadline, Entropy, Instant, Sleep};
use dpat_queue::Queue;
use dpat_sim::async_node::{AsyncNode, Closed, Incoming, Program};
use futures_util::FutureExt;

use super::store::SimStore;
use super::transport::{SimTime, SimTransport};
use super::wire;
use crate::shop::chaos::{Fate, RequestFaults};
use crate::shop::host::{Host, Status, note_queued, suffer};
use crate::shop::journal::Journal;
use crate::shop::notices::Notices;
use crate::shop::policy::Policy;
use crate::shop::service::ports::{CallError, Env, Peer, Request, Service};
use crate::sync::Mutex;

/// What the service of a simulated node touches.
#[derive(Clone, Debug)]
pub(crate) struct SimEnv {
    pub(crate) node: AsyncNode,
    pub(crate) time: SimTime,
    pub(crate) transport: Policy<SimTransport, SimTime>,
    pub(crate) store: SimStore,
    pub(crate) queue: Option<Queue>,
    pub(crate) faults: Arc<RequestFaults>,
    pub(crate) journal: Journal,
}

impl Env for SimEnv {
    type Time = SimTime;
    type Transport = Policy<SimTransport, SimTime>;
    type Store = SimStore;

    fn time(&self) -> &SimTime {
        &self.time
    }
    fn transport(&self) -> &Self::Transport {
        &self.transport
    }
    fn store(&self) -> &SimStore {
        &self.store
    }
    fn entropy(&self) -> &dyn Entropy {
        &self.node
    }
    fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }
    fn fate(&self, work: &Request) -> Fate {
        let now = self.time.now();
        suffer(&self.faults, &self.journal, work, now)
    }
    fn note_queued(&self, bytes: u64, order_id: &str) {
        note_queued(&self.journal, self.time.now(), bytes, order_id);
    }
    async fn at_point(&self, point: &'static str, order_id: &str) {
        self.node.point(point, Some(order_id)).await;
    }
}

type Tells = Arc<dyn Fn() -> Status + Send + Sync>;

/// Where the services show their numbers: past the network, so that looking changes nothing.
#[derive(Default)]
pub struct Board(Mutex<BTreeMap<Peer, Tells>>);

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Board {
    /// Returns what a service says of itself, as far as it has started.
    #[must_use]
    pub fn ask(&self, peer: Peer) -> Option<Status> {
        let tells = self.0.lock().get(&peer).cloned();
        tells.map(|tells| tells())
    }

    fn hang(&self, peer: Peer, tells: Tells) {
        let _replaced = self.0.lock().insert(peer, tells);
    }
}

/// Serves one service on its node.
pub(crate) struct Shell {
    pub(crate) env: SimEnv,
    pub(crate) board: Arc<Board>,
}

impl Host for Shell {
    type Hosted = Program;

    fn host<S: Service>(self, service: S) -> Program {
        Box::pin(async move {
            let (peer, node) = (self.env.faults.peer(), self.env.node.clone());
            // Before the first request, so that no order is taken up twice.
            let resumed = service.resume().await;
            self.board.hang(peer, {
                let (service, policy) = (service.clone(), self.env.transport.clone());
                Arc::new(move || Status {
                    // A simulated store looks into memory.
                    gauges: service.gauges().now_or_never().unwrap_or_default(),
                    breakers: policy.breakers(),
                    notices: service.notices().map(Notices::recent).unwrap_or_default(),
                })
            });
            let background = service.clone();
            let shell = Arc::new(self);
            node.serve(move |incoming| {
                let (shell, service) = (Arc::clone(&shell), service.clone());
                async move { shell.answer(service, incoming).await }
            });
            let ended = match resumed {
                Ok(()) => background.run().await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                // Whatever fails in a life that is over is no news; it does not get past this point.
                node.point("failed", None).await;
                node.always("store", false, || format!("{peer}: {error}"));
            }
        })
    }
}

impl Shell {
    /// Serves one request as the script wants it.
    ///
    /// It is a task of its own already: it goes on although its caller may go away meanwhile.
    async fn answer(&self, service: impl Service, incoming: Incoming) -> Result<Bytes, Closed> {
        let SimEnv {
            time,
            faults,
            journal,
            ..
        } = &self.env;
        let patience = incoming.patience.ok_or(Closed)?;
        let request = wire::decode_request(incoming.kind, incoming.body).ok_or(Closed)?;
        let now = time.now();
        let deadline = Deadline::after(now, patience);
        let fate = suffer(faults, journal, &request, now);
        match fate {
            Fate::Pass | Fate::Drop => {}
            Fate::Error => {
                let error = CallError::not_done(Class::Transient, "injected error");
                return Ok(wire::encode_answer(&Err(error)));
            }
            Fate::Late(by) => time.sleep(by).await,
            Fate::Hang { until_us } => {
                let until = Instant::from_nanos(until_us.saturating_mul(1_000));
                time.sleep_until(until).await;
                return Err(Closed);
            }
        }
        let answer = service.handle(request, deadline).await;
        if fate == Fate::Drop {
            return Err(Closed);
        }
        Ok(wire::encode_answer(&answer))
    }
}
