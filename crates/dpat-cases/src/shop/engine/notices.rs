//! Notices over an engine: what the order service tells goes to the server, and what comes from there to the listeners.

use dpat_core::Sleep;
use dpat_pubsub::{Delivery, PubSub};
use dpat_redis::ChannelHub;
use tokio::sync::mpsc;

use super::{Engine, Place, nats, patiently};
use crate::shop::notices::{Notices, Told};
use crate::shop::service::ports::StoreError;

/// How many notices wait for the server; more are lost, at most once as they are.
pub const WAITING_MAX: usize = 1_024;

/// Carries notices to a server and back.
#[derive(Debug)]
pub struct Bridge {
    hub: PubSub,
    prefix: String,
    told: mpsc::Receiver<Told>,
    notices: Notices,
}

impl Bridge {
    /// Connects notices with the hub of a server; waits for one that is away. Until [`run`](Self::run) nothing is carried.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub async fn connect(place: &Place, time: &impl Sleep) -> Result<(Notices, Self), StoreError> {
        let hub = patiently(time, || open(place)).await?;
        let (sender, told) = mpsc::channel(WAITING_MAX);
        let notices = Notices::through(sender);
        let bridge = Self {
            hub,
            prefix: place.run.clone(),
            told,
            notices: notices.clone(),
        };
        Ok((notices, bridge))
    }

    /// Carries until nobody can tell anything any more.
    ///
    /// A notice that the server does not take is lost, as is what nobody hears.
    pub async fn run(self) {
        let Self {
            hub,
            prefix,
            mut told,
            notices,
        } = self;
        let filter = format!("{prefix}.>");
        let to = async {
            while let Some(one) = told.recv().await {
                let subject = format!("{prefix}.{}", one.subject);
                let _lost = hub.publish(subject.as_str(), one.payload).await;
            }
        };
        let from = async {
            let Ok(mut subscription) = hub.subscribe(filter.as_str()).await else {
                return;
            };
            while let Ok(delivery) = subscription.recv().await {
                if let Delivery::Message(message) = delivery {
                    let subject = message.subject().as_str();
                    let own = subject.strip_prefix(&prefix).unwrap_or(subject);
                    notices.hear(own.trim_start_matches('.'), message.payload().clone());
                }
            }
        };
        tokio::join!(to, from);
    }
}

/// Opens the hub of an engine.
async fn open(place: &Place) -> Result<PubSub, StoreError> {
    let failed = |error: &dyn std::error::Error| StoreError::Engine(error.to_string());
    match place.engine {
        Engine::Nats => Ok(nats::hub(place).await?),
        Engine::Redis => {
            let config = dpat_redis::Config::new(place.url.reveal(), place.run.as_str())
                .map_err(|error| failed(&error))?;
            let hub = ChannelHub::open(&config).await;
            Ok(hub.map_err(|error| failed(&error))?.hub())
        }
        Engine::Embedded | Engine::Sqlite | Engine::Postgres => Err(StoreError::Engine(format!(
            "{} carries no notices",
            place.engine
        ))),
    }
}
