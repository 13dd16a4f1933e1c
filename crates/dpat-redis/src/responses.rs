//! The rows of a response store on a server.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::Link;
use crate::error::{EngineError, OpenError};
use crate::join::{Brought, Joiner, Most};
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

/// How much of what is asked for at one time goes together.
const TOGETHER: Most = Most {
    items: 128,
    bytes: 8 << 20,
};

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
    puts: Joiner<Asked, Changed>,
    removes: Joiner<Asked, Changed>,
}

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Put,
    Insert,
    Remove,
}

impl What {
    const fn word(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Insert => "insert",
            Self::Remove => "remove",
        }
    }
}

/// A change of a row, as the script takes it.
struct Asked {
    what: What,
    key: Key,
    expected: Option<Version>,
    record: Bytes,
    expires: Option<Wall>,
}

/// What it came to: a code of the script, and the text beside it.
struct Changed {
    code: i64,
    text: Vec<u8>,
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
                puts: Joiner::new(TOGETHER),
                removes: Joiner::new(TOGETHER),
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
        by: Instant,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Reply, EngineError> {
        let answer = script.run(&self.link, by, &self.keys, arguments).await?;
        Reply::new(script.name, answer)
    }

    /// Makes a change, with others that are asked for at the same time.
    async fn change(self: &Arc<Self>, asked: Asked) -> Result<Changed, EngineError> {
        let joiner = match asked.what {
            What::Remove => &self.removes,
            What::Put | What::Insert => &self.puts,
        };
        let shared = Arc::clone(self);
        let run = |batch: Vec<Asked>, by| async move { shared.change_all(&batch, by).await };
        let late = |begun| self.link.late(begun);
        let brought = Brought {
            bytes: asked.key.as_bytes().len() + asked.record.len(),
            items: vec![asked],
            by: self.link.deadline(),
        };
        let mut changed = joiner.join(brought, run, late).await?;
        let changed = changed
            .pop()
            .ok_or_else(|| EngineError::unreadable("swap"))?;
        match changed.code {
            2 => Err(EngineError::full("rows", self.limits.rows)),
            3 => Err(EngineError::full("bytes", self.limits.bytes)),
            4 => Err(no_version()),
            _ => Ok(changed),
        }
    }

    async fn change_all(&self, batch: &[Asked], by: Instant) -> Result<Vec<Changed>, EngineError> {
        let removes = batch.iter().all(|asked| asked.what == What::Remove);
        let script = if removes { &self.remove } else { &self.put };
        let arguments = |command: &mut Cmd| {
            command.arg(self.limits.rows).arg(self.limits.bytes);
            for asked in batch {
                command.arg(asked.what.word()).arg(asked.key.as_bytes());
                match asked.expected {
                    Some(version) => command.arg(version.0),
                    None => command.arg(""),
                };
                command.arg(&asked.record[..]);
                match asked.expires {
                    Some(at) => command.arg(digits(at.as_nanos())),
                    None => command.arg("-"),
                };
            }
        };
        let mut reply = self.run(script, by, arguments).await?;
        let changed = batch.iter().map(|_| {
            Ok(Changed {
                code: reply.int()?,
                text: reply.bytes()?,
            })
        });
        changed.collect()
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

/// When a row may be forgotten, as the scripts want it: so that the order of texts is that of numbers.
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
        let (what, record, expires) = match change {
            Change::Put { bytes, expires } => (What::Put, bytes, expires),
            Change::Remove => (What::Remove, Bytes::new(), None),
        };
        let asked = Asked {
            what,
            key: key.clone(),
            expected,
            record,
            expires,
        };
        match self.shared.change(asked).await?.code {
            0 => Ok(Swap::Done),
            1 => Ok(Swap::Conflict),
            _ => Err(EngineError::unreadable("swap").into()),
        }
    }

    async fn insert(
        &self,
        key: &Key,
        record: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        let asked = Asked {
            what: What::Insert,
            key: key.clone(),
            expected: None,
            record,
            expires,
        };
        let Changed { code, text } = self.shared.change(asked).await?;
        match code {
            0 => Ok(Inserted::New(Some(version(&text)?))),
            1 => Ok(Inserted::Found(Some(row(text)?))),
            _ => Err(EngineError::unreadable("swap").into()),
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
