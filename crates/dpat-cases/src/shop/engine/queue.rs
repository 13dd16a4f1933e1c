//! The queue of shipping on a server.

use std::time::Duration;

use dpat_core::Sleep;
use dpat_queue::Queue;
use dpat_redis::{QueueSettings, QueueStore};

use super::nats;
use super::{Engine, Place, patiently};
use crate::shop::service::ports::StoreError;
use crate::shop::service::shipping::{EVENT_BYTES_MAX, QUEUE_BYTES_MAX};

/// How long an event waits whose packer has died.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// A queue on a server, which has no other receiver than shipping.
#[derive(Clone, Debug)]
pub struct RemoteQueue {
    queue: Queue,
}

impl RemoteQueue {
    /// Opens or creates the queue of a run; waits for a server that is away.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub async fn open<T>(place: &Place, backpressure: bool, time: T) -> Result<Self, StoreError>
    where
        T: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static,
    {
        patiently(&time, || Self::try_open(place, backpressure, time.clone())).await
    }

    async fn try_open<T>(place: &Place, backpressure: bool, time: T) -> Result<Self, StoreError>
    where
        T: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static,
    {
        let failed = |error: &dyn std::error::Error| StoreError::Engine(error.to_string());
        match place.engine {
            Engine::Redis => {
                let config = dpat_redis::Config::new(place.url.reveal(), place.run.as_str())
                    .map_err(|error| failed(&error))?;
                let settings = QueueSettings {
                    visibility: LEASE,
                    message_bytes_max: EVENT_BYTES_MAX,
                    bytes_max: if backpressure {
                        QUEUE_BYTES_MAX
                    } else {
                        1 << 40
                    },
                    ..QueueSettings::DEFAULT
                };
                let store = QueueStore::open(&config, settings, time)
                    .await
                    .map_err(|error| failed(&error))?;
                // What a life before this one had received and not settled.
                store.release_all().await.map_err(|error| failed(&error))?;
                Ok(Self {
                    queue: store.queue(),
                })
            }
            Engine::Nats => Ok(Self {
                queue: nats::queue(place, backpressure).await?,
            }),
            Engine::Embedded => Err(StoreError::Engine(
                "the embedded queue has no server".to_owned(),
            )),
        }
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}
