//! What happens to an engine in the middle of a run: its server is killed, or its file held by somebody else.

use std::io;
use std::path::PathBuf;

use dpat_core::Entropy as _;
use dpat_core::SplitMix64;
use dpat_testkit::servers::{self, Server};

use super::{Engine, Url};
use crate::shop::chaos::Timed;
use crate::shop::config::{Config, Faults, Scenario};
use crate::shop::service::ports::Peer;
use crate::shop::shell::sqlite::Holder;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

/// An engine that belongs to a run.
#[derive(Debug)]
pub enum EngineServer {
    /// A server, which is killed with SIGKILL, and started again on what it had.
    Server(Box<Server>),
    /// A SQLite file, which another writer holds for a while: there is no server to kill.
    File {
        /// Which.
        path: PathBuf,
        /// Who.
        held: Option<Holder>,
    },
}

impl EngineServer {
    /// Starts a fresh server, and says where it is, also after a restart; it stops, and its folder goes, when it is dropped.
    ///
    /// # Errors
    /// [`ServerError`] if it is not installed, or does not answer.
    pub fn start(engine: Engine) -> Result<(Self, Url), ServerError> {
        let name = engine.name();
        let known = servers::Engine::named(name);
        let known = known.ok_or_else(|| ServerError(format!("{name} is not a server")))?;
        let server = Server::start(known).map_err(|error| ServerError(error.to_string()))?;
        let url = Url::from(server.url().as_str());
        Ok((Self::Server(Box::new(server)), url))
    }

    /// Takes the file of a store.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self::File { path, held: None }
    }

    /// Returns what a strike is called in the report.
    #[must_use]
    pub const fn strike_name(&self) -> &'static str {
        match self {
            Self::Server(_) => "engine_kill",
            Self::File { .. } => "engine_busy",
        }
    }

    /// Kills the server, or holds the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file does not open.
    pub fn strike(&mut self) -> io::Result<()> {
        match self {
            Self::Server(server) => server.kill(),
            Self::File { path, held } => {
                *held = Some(Holder::take(path).map_err(io::Error::other)?);
            }
        }
        Ok(())
    }

    /// Starts the server again on what it had, or lets go of the file.
    ///
    /// # Errors
    /// [`io::Error`] if it does not come up.
    pub fn restore(&mut self) -> io::Result<()> {
        match self {
            Self::Server(server) => server
                .restart()
                .map_err(|error| io::Error::other(error.to_string())),
            Self::File { held, .. } => {
                *held = None;
                Ok(())
            }
        }
    }
}

/// Draws when the engine of a run is struck, and for how long it is away: once, in the middle of a run with faults.
#[must_use]
pub fn struck_at(run: &Config) -> Option<Timed> {
    let wanted = run.engine != Engine::Embedded && run.engine_url.is_none();
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
