//! What the server says of itself.

use redis::Value;

use crate::config::Config;
use crate::connection::Link;
use crate::error::{EngineError, OpenError};

/// The oldest server that has what the scripts need.
const OLDEST_MAJOR: u32 = 7;

/// What an acknowledged change survives; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing: it ends with the server's process.
    Memory,
    /// The server's process is killed.
    ProcessKill,
    /// The server's machine loses power.
    PowerLoss,
}

#[cfg(feature = "queue")]
impl From<Durability> for dpat_queue::Survives {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Nothing,
            Durability::ProcessKill => Self::ProcessKill,
            Durability::PowerLoss => Self::PowerLoss,
        }
    }
}

/// What a server said of itself when it was connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its version; none if it does not say.
    pub version: Option<String>,
    /// What an acknowledged change survives there, by its settings or by the configuration.
    pub durability: Durability,
    /// Its `maxmemory-policy`, if it has a `maxmemory`.
    pub evicts_by: Option<String>,
}

impl ServerInfo {
    /// Asks the server; what its user may not see is unknown.
    pub(crate) async fn ask(link: &Link, config: &Config) -> Result<Self, EngineError> {
        let info = allowed(link.call(&redis::cmd("INFO"), link.deadline()).await)?;
        let info = match info {
            Some(Value::VerbatimString { text, .. }) => text,
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        let mut asks = redis::cmd("CONFIG");
        asks.arg("GET").arg(&SETTINGS);
        let settings = match allowed(link.call(&asks, link.deadline()).await)? {
            Some(Value::Map(settings)) => settings.into_iter().filter_map(setting).collect(),
            _ => Vec::new(),
        };
        let durability = config.durability;
        Ok(Self {
            version: field(&info, "redis_version").map(str::to_owned),
            durability: durability.unwrap_or_else(|| survives(&info, &settings)),
            evicts_by: field(&info, "maxmemory_policy")
                .filter(|_| field(&info, "maxmemory").is_some_and(|bytes| bytes != "0"))
                .map(str::to_owned),
        })
    }

    pub(crate) fn check_version(&self, config: &Config) -> Result<(), OpenError> {
        let major = self
            .version
            .as_deref()
            .and_then(|version| version.split('.').next());
        let major = major.and_then(|major| major.parse::<u32>().ok());
        if let (Some(found), Some(..OLDEST_MAJOR)) = (&self.version, major) {
            return Err(OpenError::OldServer {
                address: config.address(),
                found: found.clone(),
            });
        }
        Ok(())
    }

    /// Where something is kept.
    pub(crate) fn check(&self, config: &Config) -> Result<(), OpenError> {
        self.check_version(config)?;
        // What is kept here has no end of its own: policies for keys that have one leave it alone.
        match &self.evicts_by {
            Some(policy) if policy.starts_with("allkeys") => Err(OpenError::Evicts {
                address: config.address(),
                policy: policy.clone(),
            }),
            _ => Ok(()),
        }
    }
}

const SETTINGS: [&str; 3] = ["appendonly", "appendfsync", "no-appendfsync-on-rewrite"];

/// What is forbidden is none.
fn allowed(answer: Result<Value, EngineError>) -> Result<Option<Value>, EngineError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        // Some services have taken the command away altogether.
        Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => Ok(None),
        Err(error) => Err(error),
    }
}

fn setting((name, value): (Value, Value)) -> Option<(String, String)> {
    let text = |value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    };
    Some((text(name)?, text(value)?))
}

fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    let mut lines = info.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.map(str::trim)
}

/// What an acknowledged change survives, by the settings of the append-only file.
///
/// `always` syncs before it answers, unless a rewrite may suspend that. `no` has written before it answers. `everysec` may answer up
/// to two seconds before it writes, while a sync is under way: a killed process loses that.
fn survives(info: &str, settings: &[(String, String)]) -> Durability {
    let get = |name| {
        let mut found = settings.iter().filter(|(other, _)| other == name);
        found.next().map(|(_, value)| value.as_str())
    };
    let is_on = get("appendonly") == Some("yes") || field(info, "aof_enabled") == Some("1");
    match (is_on, get("appendfsync"), get("no-appendfsync-on-rewrite")) {
        (true, Some("always"), Some("no")) => Durability::PowerLoss,
        (true, Some("always" | "no"), _) => Durability::ProcessKill,
        _ => Durability::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_what_the_settings_say_and_no_more() {
        let settings = |on: &str, sync: &str, rewrite: &str| {
            let values = [on, sync, rewrite].map(str::to_owned);
            SETTINGS
                .map(str::to_owned)
                .into_iter()
                .zip(values)
                .collect::<Vec<_>>()
        };
        for (on, sync, rewrite, expected) in [
            ("yes", "always", "no", Durability::PowerLoss),
            ("yes", "always", "yes", Durability::ProcessKill),
            ("yes", "no", "no", Durability::ProcessKill),
            ("yes", "everysec", "no", Durability::Memory),
            ("no", "always", "no", Durability::Memory),
        ] {
            assert_eq!(
                survives("", &settings(on, sync, rewrite)),
                expected,
                "{on} {sync}"
            );
        }
        // Settings that are not shown: nothing is claimed.
        assert_eq!(survives("aof_enabled:1\r\n", &[]), Durability::Memory);
        assert_eq!(survives("", &[]), Durability::Memory);
    }

    #[test]
    fn old_servers_and_those_that_evict_are_refused() {
        let config = Config::new("redis://localhost", "a").unwrap();
        let server = |version: &str, policy: Option<&str>| ServerInfo {
            version: Some(version.to_owned()),
            durability: Durability::Memory,
            evicts_by: policy.map(str::to_owned),
        };
        server("7.0.15", None).check(&config).unwrap();
        server("7.0.15", Some("noeviction")).check(&config).unwrap();
        server("7.0.15", Some("volatile-lru"))
            .check(&config)
            .unwrap();
        let refused = server("6.2.1", None).check(&config).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "localhost:6379: Redis 6.2.1 is too old: take 7.0 or later"
        );
        let refused = server("7.2.0", Some("allkeys-lru"))
            .check(&config)
            .unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("`maxmemory-policy allkeys-lru`"),
            "{refused}"
        );
    }
}
