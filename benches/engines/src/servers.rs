//! The servers of a run: fresh, with durable settings, gone when it ends.

use dpat_testkit::servers::{Engine, Server, ServerError};

/// One of each.
pub struct Servers {
    /// PostgreSQL.
    pub postgres: Server,
    /// NATS with JetStream.
    pub nats: Server,
    /// Redis.
    pub redis: Server,
}

impl Servers {
    /// Starts them.
    ///
    /// # Errors
    /// If one is not installed or does not answer.
    pub fn start() -> Result<Self, ServerError> {
        Ok(Self {
            postgres: Server::start(Engine::Postgres)?,
            nats: Server::start(Engine::Nats)?,
            redis: Server::start(Engine::Redis)?,
        })
    }
}

/// Names a server in the report.
#[must_use]
pub fn named(server: &Server) -> String {
    format!("{} {}", server.engine(), server.version())
}
