//! The rows of `dpat-idempotency` in a key-value bucket: the last message of a subject is a row, its sequence number the
//! version.

use std::fmt;
use std::sync::Arc;

use async_nats::{HeaderMap, Message as Raw};
use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::{Class, Classify as _, Effect, Wall};
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use futures_util::StreamExt as _;

use crate::config::{ConfigError, check_name, within};
use crate::connection::Connection;
use crate::error::EngineError;
use crate::headers::{escape, unescape};
use crate::jetstream::{
    ConsumerConfig, EXPECTED_LAST, JetStream, STORE_FAILED, Stored, StreamConfig, WRONG_LAST, Which,
};
use crate::open::{Make, OpenError, STREAM_NAME_BYTES_MAX, base, compare, count, stream};
use crate::pull::{self, End};
use crate::room::{self, Room};

/// What the stream says of itself, with the number of its layout behind.
const KIND: &str = "dpat responses, layout ";

/// From when a row may be forgotten, in nanoseconds since 1970.
const EXPIRES: &str = "Dpat-Expires";

/// The header of NATS' own buckets for a key that is gone.
const OPERATION: &str = "KV-Operation";

/// How many rows are read at once.
const AT_ONCE: usize = 16;

/// How many headers one pull takes while rows are looked for that may be forgotten.
const PAGE: usize = 500;

/// How often a swap looks again at a key that others change.
const TRIES: usize = 8;

/// What the headers of a row take beside it.
const HEADER_ROOM: usize = 1 << 10;

/// The settings of a response store.
///
/// | setting | default |
/// |---|---|
/// | `make` | [`Make::Create`] |
/// | `rows_max`, `bytes_max` | 1 000 000, 1 GiB |
/// | `replicas` | 1 |
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StoreSettings {
    bucket: String,
    make: Make,
    rows_max: u64,
    bytes_max: u64,
    replicas: usize,
}

impl StoreSettings {
    /// Takes the name of the bucket; its stream is `KV_NAME`.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn new(bucket: &str) -> Result<Self, ConfigError> {
        check_name("bucket", bucket, STREAM_NAME_BYTES_MAX)?;
        Ok(Self {
            bucket: bucket.to_owned(),
            make: Make::Create,
            rows_max: 1_000_000,
            bytes_max: 1 << 30,
            replicas: 1,
        })
    }

    /// Sets who makes the bucket.
    pub const fn make(mut self, make: Make) -> Self {
        self.make = make;
        self
    }

    /// Sets how many rows may be there, those that were removed and not yet purged included.
    pub const fn rows_max(mut self, rows: u64) -> Self {
        self.rows_max = rows;
        self
    }

    /// Sets how many bytes the rows may take.
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets how many servers of a cluster keep each row: 1, 3 or 5.
    pub const fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Checks the limits; opening does.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] names the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        within("rows_max", self.rows_max, 1, 100_000_000)?;
        within("bytes_max", self.bytes_max, 1_024, 1 << 50)?;
        within("replicas", self.replicas as u64, 1, 5)
    }

    fn stream(&self) -> StreamConfig {
        StreamConfig {
            subjects: vec![format!("$KV.{}.>", self.bucket)],
            retention: "limits".to_owned(),
            max_msgs_per_subject: 1,
            max_msgs: count(self.rows_max),
            max_bytes: count(self.bytes_max),
            num_replicas: self.replicas,
            // Not used; servers have a default of two minutes.
            duplicate_window: 120_000_000_000,
            allow_rollup_hdrs: true,
            ..base(format!("KV_{}", self.bucket), KIND)
        }
    }
}

/// A [`Store`] in a key-value bucket. Cloning shares it.
///
/// Rows are compared and swapped by the revision of their key. Removing leaves the mark that NATS' own buckets leave, which
/// purging takes away. Versions never come back as long as the bucket is there.
///
/// # Examples
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use dpat_nats::{Config, Connection, ResponseStore, StoreSettings};
///
/// let connection = Connection::open(&Config::new("nats://127.0.0.1:4222")?).await?;
/// let store = ResponseStore::open(&connection, StoreSettings::new("responses")?).await?;
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ResponseStore {
    inner: Arc<Inner>,
}

struct Inner {
    js: JetStream,
    room: Room,
    settings: StoreSettings,
    /// The name of the stream, and what the subject of every key begins with.
    stream: String,
    prefix: String,
}

impl ResponseStore {
    /// Makes the bucket if it is missing, or checks that it is there.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, stream or permission at fault. What is there with another setting is not changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, the bucket may have been made.
    pub async fn open(connection: &Connection, settings: StoreSettings) -> Result<Self, OpenError> {
        settings.check()?;
        let js = JetStream::new(connection);
        let number = connection.connects();
        let config = room::limited(&js, settings.stream());
        let info = stream(&js, &config, KIND, settings.make).await?;
        compare(&info.config, &config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                room: Room::of(&info, settings.bytes_max, number),
                stream: config.name,
                prefix: format!("$KV.{}.", settings.bucket),
                js,
                settings,
            }),
        })
    }

    /// Returns the largest row, in bytes: the server's `max_payload` without room for headers.
    #[must_use]
    pub fn row_bytes_max(&self) -> usize {
        self.inner.row_bytes_max()
    }

    /// Removes the bucket and all that is in it. A bucket of this name that is made later gives versions out again.
    ///
    /// # Errors
    /// [`EngineError`]; it can be repeated.
    pub async fn delete(&self) -> Result<(), EngineError> {
        match self.inner.js.delete_stream(&self.inner.stream).await {
            Ok(()) | Err(EngineError::NoStream { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for ResponseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStore")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

fn failed(error: EngineError) -> StoreError {
    StoreError::new(error.class(), error.effect(), error.to_string()).with_source(error)
}

/// What the last message of a key is.
enum Last {
    /// There is none.
    Nothing,
    /// The key was removed.
    Mark(u64),
    Row(Row),
}

/// The headers of a row.
fn expiring(expires: Option<Wall>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(expires) = expires {
        headers.insert(EXPIRES, expires.as_nanos().to_string());
    }
    headers
}

fn is_mark(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some()
}

impl Inner {
    /// Scope and id are a word each, of letters that every subject may have.
    fn subject(&self, key: &Key) -> String {
        let mut subject = self.prefix.clone();
        // An empty scope would be no word.
        subject.push('s');
        escape(key.scope().as_bytes(), '=', &mut subject);
        subject.push('.');
        escape(key.id().as_bytes(), '=', &mut subject);
        subject
    }

    /// None: it is of no key of ours.
    fn key(&self, subject: &str) -> Option<Key> {
        let (scope, id) = subject.strip_prefix(&self.prefix)?.split_once('.')?;
        let text = |word: &str| String::from_utf8(unescape(word, '=')?).ok();
        Key::new(&text(scope.strip_prefix('s')?)?, &text(id)?).ok()
    }

    async fn last(&self, subject: &str) -> Result<Last, EngineError> {
        let stored = self.js.get(&self.stream, Which::LastOf(subject)).await?;
        Ok(match stored {
            None => Last::Nothing,
            Some(stored) if is_mark(&stored.headers) => Last::Mark(stored.seq),
            Some(Stored { seq, payload, .. }) => Last::Row(Row {
                version: Version(seq),
                bytes: payload,
            }),
        })
    }

    async fn load(&self, key: &Key) -> Result<Option<Row>, EngineError> {
        Ok(match self.last(&self.subject(key)).await? {
            Last::Row(row) => Some(row),
            Last::Nothing | Last::Mark(_) => None,
        })
    }

    /// Publishes if the last message of the subject is the expected one, and returns its version; none: it is another one.
    async fn publish_if(
        &self,
        subject: &str,
        last: u64,
        mut headers: HeaderMap,
        bytes: Bytes,
    ) -> Result<Option<Version>, EngineError> {
        headers.insert(EXPECTED_LAST, last.to_string());
        let bytes_stored = room::stored(subject, &headers, bytes.len());
        // A mark makes room.
        let under_way = match is_mark(&headers) {
            true => None,
            false => Some(self.room.admit_one(&self.js, bytes_stored).await?),
        };
        let published = self.js.publish(subject, headers, bytes, &self.stream).await;
        if let Some(under_way) = under_way {
            under_way.ended(&published);
        }
        match published {
            Ok(published) => Ok(Some(Version(published.seq))),
            Err(EngineError::Refused { code, .. }) if WRONG_LAST.contains(&code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, EngineError> {
        let subject = self.subject(key);
        let done = match (change, expected) {
            (Change::Put { bytes, expires }, None) => {
                let inserted = self.insert(&subject, bytes, expires).await?;
                matches!(inserted, Inserted::New(_))
            }
            (Change::Put { bytes, expires }, Some(Version(last))) => {
                let headers = expiring(expires);
                let put = self.publish_if(&subject, last, headers, bytes).await?;
                put.is_some()
            }
            (Change::Remove, Some(Version(last))) => {
                let mut headers = HeaderMap::new();
                headers.insert(OPERATION, "DEL");
                let mark = self.publish_if(&subject, last, headers, Bytes::new());
                mark.await?.is_some()
            }
            // To remove what is not there is to look.
            (Change::Remove, None) => {
                let last = Box::pin(self.last(&subject)).await?;
                !matches!(last, Last::Row(_))
            }
        };
        Ok(match done {
            true => Swap::Done,
            false => Swap::Conflict,
        })
    }

    async fn insert(
        &self,
        subject: &str,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, EngineError> {
        let mut last = 0;
        for _ in 0..TRIES {
            let put = self.publish_if(subject, last, expiring(expires), bytes.clone());
            if let Some(version) = put.await? {
                return Ok(Inserted::New(Some(version)));
            }
            last = match Box::pin(self.last(subject)).await? {
                Last::Row(row) => return Ok(Inserted::Found(Some(row))),
                Last::Mark(seq) => seq,
                // The mark was purged meanwhile.
                Last::Nothing => 0,
            };
        }
        // Others are at it all the time.
        Ok(Inserted::Found(None))
    }

    fn row_bytes_max(&self) -> usize {
        let most = self.js.connection().payload_max();
        most.saturating_sub(HEADER_ROOM)
    }

    fn check(&self, bytes: &Bytes) -> Result<(), StoreError> {
        let most = self.row_bytes_max();
        if bytes.len() > most {
            let what = format!(
                "row: {} bytes are more than {most}, which is the server's max_payload without room for headers",
                bytes.len()
            );
            return Err(StoreError::new(Class::InvalidInput, Effect::NotDone, what));
        }
        Ok(())
    }

    fn not_swapped(&self, error: EngineError) -> StoreError {
        match &error {
            EngineError::Refused {
                code: STORE_FAILED,
                description,
            } => {
                let (field, limit) = match description.contains("bytes") {
                    true => ("bytes_max", self.settings.bytes_max),
                    false => ("rows_max", self.settings.rows_max),
                };
                StoreError::full(field, usize::try_from(limit).unwrap_or(usize::MAX))
            }
            _ => failed(error),
        }
    }

    /// Reads all keys for a page, so that rows come in the order of their keys.
    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, EngineError> {
        let subjects = self
            .js
            .subjects(&self.stream, &format!("{}>", self.prefix))
            .await?;
        let keys = subjects.iter().filter_map(|subject| self.key(subject));
        let mut keys: Vec<Key> = keys.filter(|key| Some(key) > after).collect();
        keys.sort_unstable();
        let mut rows = Vec::new();
        let read = keys.into_iter().map(|key| async move {
            let row = self.load(&key).await?;
            Ok(row.map(|row| (key, row)))
        });
        let mut read = futures_util::stream::iter(read).buffered(AT_ONCE);
        while rows.len() < max {
            match read.next().await {
                None => break,
                // A key that is gone is no row.
                Some(Ok(row)) => rows.extend(row),
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(rows)
    }

    /// Looks at the headers of all rows; marks of removed keys go, too.
    async fn purge(&self, now: Wall, max: usize) -> Result<usize, EngineError> {
        if max == 0 {
            return Ok(0);
        }
        let config = ConsumerConfig {
            deliver_policy: "all".to_owned(),
            ack_policy: "none".to_owned(),
            replay_policy: "instant".to_owned(),
            inactive_threshold: 30_000_000_000,
            headers_only: true,
            mem_storage: true,
            ..ConsumerConfig::default()
        };
        let consumer = self.js.create_consumer(&self.stream, &config).await?.name;
        let purged = self.purge_by(&consumer, now, max).await;
        // It ends by itself, too.
        drop(self.js.delete_consumer(&self.stream, &consumer).await);
        purged
    }

    async fn purge_by(&self, consumer: &str, now: Wall, max: usize) -> Result<usize, EngineError> {
        let connection = self.js.connection();
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.stream);
        let mut purged = 0;
        loop {
            let (page, end) = pull::now(connection, &next, PAGE, connection.deadline()).await?;
            let is_last = page.is_empty();
            for raw in page {
                match may_go(&raw, now) {
                    Some((seq, is_row)) if !is_row || purged < max => {
                        let removed = self.js.remove(&self.stream, seq).await?;
                        purged += usize::from(removed && is_row);
                    }
                    _ => {}
                }
            }
            match end {
                End::Broken(error) => return Err(error),
                _ if is_last || purged >= max => return Ok(purged),
                _ => {}
            }
        }
    }
}

/// The sequence number of what may be forgotten, and whether it is a row.
fn may_go(raw: &Raw, now: Wall) -> Option<(u64, bool)> {
    let headers = raw.headers.as_ref()?;
    let reply = raw.reply.as_ref()?;
    // $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.…, with domain and account in it where there are.
    let words: Vec<&str> = reply.as_str().split('.').collect();
    let at = if words.len() == 9 { 5 } else { 7 };
    let seq = words.get(at)?.parse().ok()?;
    if is_mark(headers) {
        return Some((seq, false));
    }
    let expires: u64 = headers.get(EXPIRES)?.as_str().parse().ok()?;
    (expires <= now.as_nanos()).then_some((seq, true))
}

#[async_trait]
impl Store for ResponseStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.inner.load(key).await.map_err(failed)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        if let Change::Put { bytes, .. } = &change {
            self.inner.check(bytes)?;
        }
        let swapped = self.inner.swap(key, expected, change).await;
        swapped.map_err(|error| self.inner.not_swapped(error))
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.inner.check(&bytes)?;
        let subject = self.inner.subject(key);
        let inserted = self.inner.insert(&subject, bytes, expires).await;
        inserted.map_err(|error| self.inner.not_swapped(error))
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.inner.scan(after, max).await.map_err(failed)
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.inner.purge(now, max).await.map_err(failed)
    }
}
