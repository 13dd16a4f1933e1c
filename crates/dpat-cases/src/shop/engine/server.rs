//! A server for one run: started from what is installed, and killed in the middle of it.

use std::io;

use dpat_core::Entropy as _;
use dpat_core::SplitMix64;
use dpat_testkit::servers::{self, Server};

use super::{Engine, Url};
use crate::shop::chaos::Timed;
use crate::shop::config::{Config, Faults, Scenario};
use crate::shop::service::ports::Peer;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

/// A server that belongs to a run.
#[derive(Debug)]
pub struct EngineServer(Server);

impl EngineServer {
    /// Starts a fresh server; it stops, and its folder goes, when it is dropped.
    ///
    /// # Errors
    /// [`ServerError`] if it is not installed, or does not answer.
    pub fn start(engine: Engine) -> Result<Self, ServerError> {
        let name = engine.name();
        let known = servers::Engine::named(name);
        let known = known.ok_or_else(|| ServerError(format!("{name} is not a server")))?;
        let started = Server::start(known);
        started
            .map(Self)
            .map_err(|error| ServerError(error.to_string()))
    }

    /// Returns where it is, now and after a restart.
    #[must_use]
    pub fn url(&self) -> Url {
        Url::from(self.0.url().as_str())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Starts it again on what it had.
    ///
    /// # Errors
    /// [`io::Error`] if it does not come up.
    pub fn restart(&mut self) -> io::Result<()> {
        self.0
            .restart()
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Draws when the server of a run is killed, and for how long it is away: once, in the middle of a run with faults.
#[must_use]
pub fn killed_at(run: &Config) -> Option<Timed> {
    let wanted = run.engine.is_server() && run.engine_url.is_none();
    if !wanted || run.faults != Faults::Seeded || run.scenario != Scenario::Shop {
        return None;
    }
    let draw = SplitMix64::stream(run.seed, "engine");
    let length = u64::try_from(run.length().as_micros()).unwrap_or(u64::MAX);
    Some(Timed {
        peer: Peer::Shipping,
        at_us: length / 3 + draw.below(length / 3 + 1),
        for_us: 200_000 + draw.below(400_000),
    })
}
