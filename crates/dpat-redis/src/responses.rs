//! The rows of a response store on a server.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use redis::{Cmd, Value};

use crate::config::Config;
use crate::connection::Link;
use crate::error::{EngineError, OpenError};
use crate::open::{Part, opened};
use crate::reply::Reply;
use crate::script::Script;
use crate::server::ServerInfo;

/// The keys, in the order in which the scripts name them.
const KEYS: [&str; 4] = [
    "responses:meta",
    "responses:rows",
    "responses:index",
    "responses:expires",
];

/// How many rows one script lists or forgets.
const STEP_MAX: usize = 1_000;

const COMMON: &str = include_str!("../lua/responses/common.lua");

/// How much a [`ResponseStore`] holds before it refuses new keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and rows, with the few that each row has beside its record.
    pub bytes: u64,
}

impl ResponseLimits {
    /// A million rows, 1 GiB.
    pub const DEFAULT: Self = Self {
        rows: 1_000_000,
        bytes: 1 << 30,
    };
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A [`Store`] of [`dpat_idempotency::Responses`] on a server. Clones share it, and its connection.
///
/// # Examples
/// ```no_run
/// use dpat_idempotency::AnyStore;
/// use dpat_redis::{Config, ResponseLimits, ResponseStore};
///
/// # async fn example() -> Result<(), dpat_redis::OpenError> {
/// let config = Config::new("redis://127.0.0.1/", "api")?;
/// let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
/// let any = AnyStore::new(store); // for `dpat_idempotency::Responses`
/// # let _ = any;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ResponseStore {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    keys: Vec<String>,
    limits: ResponseLimits,
    info: ServerInfo,
    /// The same text twice: what frees runs also when the memory is full.
    put: Script,
    remove: Script,
    scan: Script,
    purge: Script,
}

impl ResponseStore {
    /// Connects, looks at the server, and opens the response store of this name; makes it if it is not there.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves an empty store or none.
    pub async fn open(config: &Config, limits: ResponseLimits) -> Result<Self, OpenError> {
        let link = Link::new(config)?;
        let info = ServerInfo::ask(&link, config).await?;
        info.check(config)?;
        let keys: Vec<String> = KEYS.iter().map(|key| config.key(key)).collect();
        let open = Script::freeing("open", &[COMMON, include_str!("../lua/responses/open.lua")]);
        let answer = open.run(&link, link.deadline(), &keys, |_| ()).await;
        opened(config, Part::Responses, answer)?;
        let swap = include_str!("../lua/responses/swap.lua");
        let freeing = |name, text| Script::freeing(name, &[COMMON, text]);
        Ok(Self {
            shared: Arc::new(Shared {
                link,
                keys,
                limits,
                info,
                put: Script::growing("swap", &[COMMON, swap]),
                remove: freeing("swap", swap),
                scan: freeing("scan", include_str!("../lua/responses/scan.lua")),
                purge: freeing("purge", include_str!("../lua/responses/purge.lua")),
            }),
        })
    }

    /// Returns what the server said of itself when the store was opened.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.shared.info
    }
}

impl Shared {
    async fn run(
        &self,
        script: &Script,
        by: tokio::time::Instant,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Reply, EngineError> {
        let answer = script.run(&self.link, by, &self.keys, arguments).await?;
        Reply::new(script.name, answer)
    }

    fn full(&self, code: i64) -> StoreError {
        let (field, limit) = match code {
            2 => ("rows", self.limits.rows),
            _ => ("bytes", self.limits.bytes),
        };
        EngineError::full(field, limit).into()
    }
}

/// A row as it is stored: `VERSION EXPIRES RECORD`.
fn row(stored: Vec<u8>) -> Result<Row, EngineError> {
    let corrupt = no_version;
    let mut spaces = stored.iter().enumerate().filter(|(_, byte)| **byte == b' ');
    let (Some((first, _)), Some((second, _))) = (spaces.next(), spaces.next()) else {
        return Err(corrupt());
    };
    Ok(Row {
        version: version(&stored[..first])?,
        bytes: Bytes::from(stored).slice(second + 1..),
    })
}

fn version(digits: &[u8]) -> Result<Version, EngineError> {
    let digits = std::str::from_utf8(digits).ok();
    let version = digits.and_then(|digits| digits.parse().ok());
    version.map(Version).ok_or_else(no_version)
}

fn no_version() -> EngineError {
    EngineError::corrupt(format_args!("a row has no version"))
}

/// When a row may be forgotten, as the scripts want it.
fn end(expires: Option<Wall>) -> String {
    expires.map_or_else(|| "-".to_owned(), |at| digits(at.as_nanos()))
}

/// So that the order of texts is that of numbers.
fn digits(nanos: u64) -> String {
    format!("{nanos:020}")
}

#[async_trait]
impl Store for ResponseStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let shared = &self.shared;
        let mut command = redis::cmd("HGET");
        command.arg(&shared.keys[1]).arg(key.as_bytes());
        match shared.link.call(&command, shared.link.deadline()).await? {
            Value::Nil => Ok(None),
            Value::BulkString(stored) => Ok(Some(row(stored)?)),
            _ => Err(EngineError::unreadable("load").into()),
        }
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let ResponseLimits { rows, bytes } = self.shared.limits;
        let expected = expected.map_or_else(String::new, |version| version.0.to_string());
        let (script, record, expires) = match change {
            Change::Put { bytes, expires } => (&self.shared.put, bytes, end(expires)),
            Change::Remove => (&self.shared.remove, Bytes::new(), "-".to_owned()),
        };
        let puts = std::ptr::eq(script, &self.shared.put);
        let arguments = |command: &mut Cmd| {
            command.arg(key.as_bytes()).arg(&expected);
            command.arg(if puts { "put" } else { "remove" });
            command.arg(&record[..]).arg(&expires).arg(rows).arg(bytes);
        };
        let by = self.shared.link.deadline();
        let code = self.shared.run(script, by, arguments).await?.int()?;
        match code {
            0 => Ok(Swap::Done),
            1 => Ok(Swap::Conflict),
            code => Err(self.shared.full(code)),
        }
    }

    async fn insert(
        &self,
        key: &Key,
        record: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        let ResponseLimits { rows, bytes } = self.shared.limits;
        let expires = end(expires);
        let arguments = |command: &mut Cmd| {
            command.arg(key.as_bytes()).arg("").arg("insert");
            command.arg(&record[..]).arg(&expires).arg(rows).arg(bytes);
        };
        let by = self.shared.link.deadline();
        let mut reply = self.shared.run(&self.shared.put, by, arguments).await?;
        match reply.int()? {
            0 => Ok(Inserted::New(Some(version(&reply.bytes()?)?))),
            1 => Ok(Inserted::Found(Some(row(reply.bytes()?)?))),
            code => Err(self.shared.full(code)),
        }
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        let by = self.shared.link.deadline();
        let mut found: Vec<(Key, Row)> = Vec::new();
        while found.len() < max {
            let last = found.last().map(|(key, _)| key).or(after);
            let from = last.map_or_else(|| b"-".to_vec(), |key| [b"(", key.as_bytes()].concat());
            let step = (max - found.len()).min(STEP_MAX);
            let arguments = |command: &mut Cmd| {
                command.arg(&from[..]).arg(step);
            };
            let mut reply = self.shared.run(&self.shared.scan, by, arguments).await?;
            if reply.is_empty() {
                break;
            }
            while !reply.is_empty() {
                let key = Key::from_bytes(&reply.bytes()?).map_err(|error| {
                    EngineError::corrupt(format_args!("key {}: {error}", found.len()))
                })?;
                found.push((key, row(reply.bytes()?)?));
            }
        }
        Ok(found)
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        let by = self.shared.link.deadline();
        let upto = match now.as_nanos().checked_add(1) {
            Some(after) => format!("({}", digits(after)),
            None => "+".to_owned(),
        };
        let mut purged = 0;
        while purged < max {
            let step = (max - purged).min(STEP_MAX);
            let arguments = |command: &mut Cmd| {
                command.arg(&upto).arg(step);
            };
            let mut reply = self.shared.run(&self.shared.purge, by, arguments).await?;
            let some = usize::try_from(reply.number()?).unwrap_or(step);
            purged += some;
            if some < step {
                break;
            }
        }
        Ok(purged)
    }
}

impl fmt::Debug for ResponseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStore")
            .field("link", &self.shared.link)
            .field("keys", &self.shared.keys.first())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_what_is_none_is_refused() {
        let stored = b"17 00000000000000000300 a record\0".to_vec();
        let expected = Row {
            version: Version(17),
            bytes: Bytes::from_static(b"a record\0"),
        };
        assert_eq!(row(stored).unwrap(), expected);
        assert_eq!(row(b"1 - ".to_vec()).unwrap().bytes, "");
        for broken in [&b""[..], b"17", b"17 -", b"x - a", b" - a"] {
            assert!(row(broken.to_vec()).is_err(), "{broken:?}");
        }
        assert!(digits(9) < digits(10) && digits(u64::MAX).len() == 20);
    }
}
