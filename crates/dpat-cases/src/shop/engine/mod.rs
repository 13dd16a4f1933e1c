//! Where the shop keeps what must outlive a process: embedded, or on an engine that a team runs already.
//!
//! On SQLite and PostgreSQL the store of each service moves, with its outbox and its inbox. NATS and Redis have no transaction
//! to join: there it stays embedded, and the queue and the notices move.

mod fault;
mod nats;
pub mod notices;
mod queue;
mod store;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::Sleep;
use serde::{Deserialize, Serialize};

pub use fault::{EngineServer, ServerError, struck_at};
pub use queue::ShopQueue;
pub use store::StoreSite;

/// An engine that the shop can run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Engine {
    /// redb and a write-ahead log, in each service.
    #[default]
    Embedded,
    /// The stores and the queue in SQLite files, one of each service.
    Sqlite,
    /// The stores and the queue on PostgreSQL.
    Postgres,
    /// The queue and the notices on Redis.
    Redis,
    /// The queue on JetStream, and the notices on NATS.
    Nats,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 5] = [
        Self::Embedded,
        Self::Sqlite,
        Self::Postgres,
        Self::Redis,
        Self::Nats,
    ];

    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    /// The schemes of its URLs.
    const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Embedded | Self::Sqlite => &[],
            Self::Postgres => &["postgres", "postgresql"],
            Self::Redis => &["redis", "rediss"],
            Self::Nats => &["nats", "tls"],
        }
    }

    /// Says whether it is a server.
    #[must_use]
    pub const fn is_server(self) -> bool {
        !matches!(self, Self::Embedded | Self::Sqlite)
    }

    /// Says whether the notices are carried by it.
    #[must_use]
    pub const fn has_notices(self) -> bool {
        matches!(self, Self::Redis | Self::Nats)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The URL of a server, which may hold a password: it is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Url(Arc<str>);

impl Url {
    /// Returns it in full.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split("://").next().unwrap_or_default();
        write!(f, "{scheme}://…")
    }
}

/// Reads what stands behind `--engine`: a name, or the URL of a server that runs.
///
/// # Errors
/// What it may be.
pub fn parse(text: &str) -> Result<(Engine, Option<Url>), String> {
    if let Some(engine) = Engine::ALL.into_iter().find(|engine| engine.name() == text) {
        return Ok((engine, None));
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let of_url = |engine: &Engine| scheme.is_some_and(|scheme| engine.schemes().contains(&scheme));
    match Engine::ALL.into_iter().find(of_url) {
        Some(engine) => Ok((engine, Some(Url::from(text)))),
        None => {
            let names = Engine::ALL.map(Engine::name).join(", ");
            let schemes = Engine::ALL.into_iter().flat_map(Engine::schemes);
            let urls: Vec<String> = schemes.map(|scheme| format!("{scheme}://…")).collect();
            Err(format!(
                "must be one of {names}, or a URL: {}",
                urls.join(", ")
            ))
        }
    }
}

/// Where a node finds its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which engine.
    pub engine: Engine,
    /// The server.
    pub url: Url,
    /// What its names begin with, so that runs on one server do not meet.
    pub run: String,
}

/// How long a server may be away when a node starts.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(20);
/// How often it is looked for.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Tries again for a while: a node may start while its server is away.
async fn patiently<T, E, R>(time: &impl Sleep, mut attempt: impl FnMut() -> R) -> Result<T, E>
where
    R: Future<Output = Result<T, E>>,
{
    let give_up = time.now() + AWAY_MAX;
    loop {
        match attempt().await {
            Err(_) if time.now() < give_up => time.sleep(LOOK).await,
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_a_name_or_a_url() {
        for engine in Engine::ALL {
            assert_eq!(parse(engine.name()), Ok((engine, None)));
        }
        let (engine, url) = parse("redis://user:secret@somewhere:1/").unwrap();
        assert_eq!(engine, Engine::Redis);
        let url = url.unwrap();
        assert_eq!(url.reveal(), "redis://user:secret@somewhere:1/");
        assert_eq!(format!("{url:?}"), "redis://…");
        assert_eq!(parse("nats://somewhere").unwrap().0, Engine::Nats);
        assert_eq!(
            parse("postgresql://somewhere/shop").unwrap().0,
            Engine::Postgres
        );
        for bad in ["", "mysql", "http://somewhere", "://"] {
            let why = parse(bad).unwrap_err();
            assert!(
                why.contains("embedded") && why.contains("redis://"),
                "{why}"
            );
        }
    }
}
