//! The queue of shipping, on whichever engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::Sleep;
use dpat_queue::Queue;

use super::turns::InTurn;
use super::{Engine, Place, nats, patiently};
use crate::shop::service::ports::StoreError;
use crate::shop::service::shipping::{EVENT_BYTES_MAX, QUEUE_BYTES_MAX};
use crate::shop::shell::{self, queue::FileQueue};

/// How long an event waits whose packer has died.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// What a send of a process that was killed may add, in bytes.
const ON_ITS_WAY: u64 = 1 << 10;

/// The queue, which has no other receiver than shipping.
#[derive(Debug)]
pub struct ShopQueue {
    queue: Queue,
    /// The log, where it is one.
    files: Option<FileQueue>,
    is_remote: bool,
}

const fn bytes_max(backpressure: bool) -> u64 {
    match backpressure {
        true => QUEUE_BYTES_MAX,
        false => 1 << 40,
    }
}

fn failed(error: &dyn std::error::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

impl ShopQueue {
    /// Opens or creates the queue of a run: in files beside `store`, or on its server; waits for one that is away.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub async fn open<T>(
        engine: Engine,
        place: Option<&Place>,
        store: &Path,
        backpressure: bool,
        time: T,
    ) -> Result<Self, StoreError>
    where
        T: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static,
    {
        let queue = match (engine, place) {
            (Engine::Redis, Some(place)) => {
                let open = || redis(place, backpressure, time.clone());
                patiently(&time, open).await?
            }
            (Engine::Nats, Some(place)) => {
                patiently(&time, || nats::queue(place, backpressure)).await?
            }
            (Engine::Postgres, Some(place)) => {
                let open = || postgres(place, backpressure, time.clone());
                patiently(&time, open).await?
            }
            (Engine::Postgres | Engine::Redis | Engine::Nats, None) => {
                return Err(StoreError::Engine(format!("{engine} is a server")));
            }
            (Engine::Sqlite, _) => sqlite(store, backpressure, time)?,
            (Engine::Embedded, _) => {
                let folder = store.with_extension("queue");
                let files = FileQueue::open(&folder, backpressure, time)?;
                return Ok(Self {
                    queue: files.queue().clone(),
                    files: Some(files),
                    is_remote: false,
                });
            }
        };
        Ok(Self {
            queue,
            files: None,
            is_remote: true,
        })
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Says whether it is on a server, or on other threads, so that it does not answer at once.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Closes what is in files.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn close(self) -> Result<(), StoreError> {
        let Self { queue, files, .. } = self;
        drop(queue);
        files.map_or(Ok(()), FileQueue::close)
    }
}

async fn redis<T>(place: &Place, backpressure: bool, time: T) -> Result<Queue, StoreError>
where
    T: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static,
{
    let config = dpat_redis::Config::new(place.url.reveal(), place.run.as_str())
        .map_err(|error| failed(&error))?;
    let settings = dpat_redis::QueueSettings {
        visibility: LEASE,
        message_bytes_max: EVENT_BYTES_MAX,
        bytes_max: bytes_max(backpressure),
        ..dpat_redis::QueueSettings::DEFAULT
    };
    let store = dpat_redis::QueueStore::open(&config, settings, time)
        .await
        .map_err(|error| failed(&error))?;
    // What a life before this one had received and not settled.
    store.release_all().await.map_err(|error| failed(&error))?;
    Ok(store.queue())
}

async fn postgres<T>(place: &Place, backpressure: bool, time: T) -> Result<Queue, StoreError>
where
    T: Sleep<Sleeping: Send> + Clone + Send + Sync + 'static,
{
    let config = shell::postgres::config(place, "parcels")?;
    let settings = dpat_postgres::QueueSettings {
        visibility: LEASE,
        message_bytes_max: EVENT_BYTES_MAX,
        // A send of a predecessor that was killed may still be on its way.
        bytes_max: bytes_max(backpressure) - ON_ITS_WAY,
        ..dpat_postgres::QueueSettings::DEFAULT
    };
    let store = dpat_postgres::QueueStore::open(&config, settings, time)
        .await
        .map_err(|error| failed(&error))?;
    // As on Redis.
    store.release_all().await.map_err(|error| failed(&error))?;
    let queue = store.queue();
    // Sends at the same time count what is there before each other.
    Ok(Queue::on(Arc::new(InTurn::new("postgres", queue))))
}

fn sqlite(
    store: &Path,
    backpressure: bool,
    time: impl Sleep + Send + Sync + 'static,
) -> Result<Queue, StoreError> {
    // A file of its own, so that packers and packing do not wait for each other.
    let file = store.with_extension("queue.db");
    let config = dpat_sqlite::Config::new(file, "shop").map_err(|error| failed(&error))?;
    let config = config.threads(dpat_sqlite::Threads::TokioBlocking);
    let settings = dpat_sqlite::QueueSettings {
        visibility: LEASE,
        message_bytes_max: EVENT_BYTES_MAX,
        bytes_max: bytes_max(backpressure),
        ..dpat_sqlite::QueueSettings::DEFAULT
    };
    let store =
        dpat_sqlite::QueueStore::open(&config, settings, time).map_err(|error| failed(&error))?;
    // As on Redis.
    store.release_all().map_err(|error| failed(&error))?;
    Ok(store.queue())
}
