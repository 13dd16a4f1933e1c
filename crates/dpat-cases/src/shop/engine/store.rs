//! The store of a service, on whichever engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dpat_core::Sleep;

use super::{Engine, Place, patiently};
use crate::shop::service::ports::{Peer, StoreError};
use crate::shop::shell::{NodeStore, StoreOwner, postgres, redb, sqlite};

/// Where the store of a service is.
#[derive(Clone, Debug)]
pub struct StoreSite {
    /// Whose.
    pub peer: Peer,
    /// On which engine.
    pub engine: Engine,
    /// Its file, on an engine that is embedded.
    pub file: PathBuf,
    /// Where the engine is, if it is a server.
    pub place: Option<Place>,
}

impl StoreSite {
    /// Opens or creates the store; waits for a server that is away. Within a tokio runtime.
    ///
    /// Setting `severed` cuts it off from what is durable, as a killed process is.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub async fn open(
        &self,
        severed: Arc<AtomicBool>,
        time: &impl Sleep,
    ) -> Result<(NodeStore, StoreOwner), StoreError> {
        match (self.engine, &self.place) {
            (Engine::Sqlite, _) => sqlite::open(&self.file, severed),
            (Engine::Postgres, Some(place)) => {
                let open = || postgres::open(place, self.peer, Arc::clone(&severed));
                patiently(time, open).await
            }
            (Engine::Postgres, None) => Err(StoreError::Engine("postgres is a server".to_owned())),
            (Engine::Embedded | Engine::Redis | Engine::Nats, _) => redb::open(&self.file, severed),
        }
    }
}
