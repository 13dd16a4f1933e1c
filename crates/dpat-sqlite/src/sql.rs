//! The SQL: what makes the tables, and what appends and accepts, for clients and migration tools of your own.
//!
//! In all texts `{prefix}` stands for the prefix of the tables; [`Config::sql`] puts it in.
//! Parameters are `?1`, `?2`, … in the order that each text's documentation lists. Times are [`nanos`].
//!
//! # Examples
//! An append as any client can do it:
//! ```
//! # #[cfg(feature = "outbox")] {
//! use dpat_core::{SystemEntropy, Uuid7Generator, Wall};
//! use dpat_outbox::{Event, Limits};
//! use dpat_sqlite::{Config, Outbox, rusqlite::params, sql};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("shop.db");
//! let config = Config::new(path, "orders")?;
//! let outbox = Outbox::open(&config, Limits::DEFAULT)?;
//!
//! let now = Wall::from_nanos(1);
//! let id = Uuid7Generator::new().next(now, &SystemEntropy)?;
//! let event = Event::builder(id, "orders.completed").key("order-7").build()?;
//! let position: i64 = config.connect()?.query_row(
//!     &config.sql(sql::APPEND),
//!     params![
//!         &id.to_bytes()[..], event.topic(), event.key(), event.dedup(),
//!         sql::nanos(now), &event.encode()[..], 1_000_000, 1 << 30,
//!     ],
//!     |row| row.get(0),
//! )?;
//! assert_eq!(position, 1);
//! assert_eq!(outbox.lag_now()?.backlog_rows, 1);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use dpat_core::Wall;

use crate::config::Config;

/// Tables that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Those of an outbox.
    Outbox,
    /// Those of an inbox.
    Inbox,
    /// Those of a response store.
    Responses,
    /// Those of a queue.
    Queue,
}

/// A step to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// To which version it leads.
    pub version: i64,
    /// The text: several statements, the last of which notes the version. Run it in a transaction.
    pub sql: &'static str,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] = [Self::Outbox, Self::Inbox, Self::Responses, Self::Queue];

    /// Returns the name, as the table `{prefix}_schema` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Inbox => "inbox",
            Self::Responses => "responses",
            Self::Queue => "queue",
        }
    }

    /// Returns the steps from nothing to this version, in their order.
    #[must_use]
    pub const fn steps(self) -> &'static [Step] {
        match self {
            Self::Outbox => &[Step {
                version: 1,
                sql: include_str!("../sql/0001_outbox.sql"),
            }],
            Self::Inbox => &[Step {
                version: 1,
                sql: include_str!("../sql/0001_inbox.sql"),
            }],
            Self::Responses => &[Step {
                version: 1,
                sql: include_str!("../sql/0001_responses.sql"),
            }],
            Self::Queue => &[Step {
                version: 1,
                sql: include_str!("../sql/0001_queue.sql"),
            }],
        }
    }

    /// Returns the version that this crate writes and reads.
    #[must_use]
    pub const fn version(self) -> i64 {
        let steps = self.steps();
        steps[steps.len() - 1].version
    }
}

impl Config {
    /// Puts the prefix into a text of this module.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        text.replace("{prefix}", &self.prefix)
    }
}

/// Returns a time as it is stored: nanoseconds since 1970, at most the largest integer (the year 2262).
#[must_use]
pub fn nanos(time: Wall) -> i64 {
    number(time.as_nanos())
}

pub(crate) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads the version of a part. `?1` its name. No row: it is not there.
pub const VERSION: &str = "SELECT version FROM {prefix}_schema WHERE part = ?1";

pub(crate) const HAS_TABLE: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";

/// Appends an event, and returns its position.
///
/// `?1` the id, 16 bytes; `?2` the topic; `?3` the key or NULL; `?4` the deduplication key or NULL; `?5` the time;
/// `?6` the event by `Event::encode`; `?7`, `?8` the limits of the backlog, in events and bytes.
///
/// No row: the event is there already ([`APPENDED`] finds it), or a limit is reached ([`COUNTS`] says which).
pub const APPEND: &str = "\
INSERT INTO {prefix}_events (id, topic, key, dedup, appended_at, event)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 FROM {prefix}_outbox
WHERE one = 1 AND backlog_rows < ?7 AND backlog_bytes + length(?6) <= ?8
ON CONFLICT DO NOTHING
RETURNING position";

/// Finds the id of an event that is there already. `?1` the id; `?2` the deduplication key or NULL.
pub const APPENDED: &str = "\
SELECT id FROM {prefix}_events WHERE id = ?1
UNION ALL SELECT id FROM {prefix}_events WHERE dedup = ?2
LIMIT 1";

/// Reads the counts of an outbox: events and bytes of the backlog, parked, sent.
pub const COUNTS: &str =
    "SELECT backlog_rows, backlog_bytes, parked, sent FROM {prefix}_outbox WHERE one = 1";

/// Reads the marker of a message, for `Marker::decode` and `Marker::judge`. `?1` the scope; `?2` the id.
///
/// No row: the message is new.
pub const MARKER: &str = "SELECT marker FROM {prefix}_markers WHERE scope = ?1 AND id = ?2";

/// Writes the marker of a message.
///
/// `?1` the scope; `?2` the id; `?3` the time; `?4` the marker by `Marker::encode`; `?5` the limit of markers.
/// No row is changed: the limit is reached.
pub const SET_MARKER: &str = "\
INSERT INTO {prefix}_markers (scope, id, at, marker)
SELECT ?1, ?2, ?3, ?4 FROM {prefix}_inbox
WHERE one = 1
  AND (markers < ?5 OR EXISTS (SELECT 1 FROM {prefix}_markers WHERE scope = ?1 AND id = ?2))
ON CONFLICT (scope, id) DO UPDATE SET at = excluded.at, marker = excluded.marker";

/// Forgets old markers. `?1` the time before which they were written; `?2` how many at most.
pub const SWEEP: &str = "\
DELETE FROM {prefix}_markers WHERE (scope, id) IN (
  SELECT scope, id FROM {prefix}_markers WHERE at < ?1 ORDER BY at LIMIT ?2
)";

/// Sends a message without a deduplication key, and returns its id.
///
/// `?1` the key or NULL; `?2` the priority, 0 to 9; `?3` the time; `?4` from when on it may be delivered: the same time, or
/// a later one; `?5` when it ends if it is not delivered, or NULL; `?6` what it counts against the limit of bytes; `?7` NULL
/// (headers have a form of their own); `?8` the payload; `?9`, `?10` the limits of the queue, in messages and bytes.
///
/// No row: a limit is reached.
pub const SEND: &str = "\
INSERT INTO {prefix}_messages (key, priority, sent_at, not_before, expires, bytes, headers, payload)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM {prefix}_queue
WHERE one = 1 AND live < ?9 AND live_bytes + ?6 <= ?10
RETURNING id";
