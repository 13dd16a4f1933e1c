//! The SQL: what makes the tables, and what appends, for clients and migration tools of your own.
//!
//! In all texts `{schema}` and `{prefix}` stand for the schema and the prefix of the tables; [`Config::sql`] puts them in.
//! Parameters are `$1`, `$2`, … in the order that each text's documentation lists. Times are [`nanos`].

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
            Self::Outbox => &[
                Step {
                    version: 1,
                    sql: include_str!("../sql/0001_outbox.sql"),
                },
                Step {
                    version: 2,
                    sql: include_str!("../sql/0002_outbox.sql"),
                },
            ],
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
    /// Puts schema and prefix into a text of this module.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        text.replace("{schema}", &format!("\"{}\"", self.schema))
            .replace("{prefix}", &self.prefix)
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

/// Reads an integer that was never negative.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A limit of rows as SQL has it.
pub(crate) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// Every statement that the stores run on the tables of a part, by its name: for the test of their plans.
#[cfg(any(feature = "idempotency", feature = "outbox", feature = "queue"))]
#[doc(hidden)]
#[must_use]
pub fn statements(config: &Config, part: Part) -> Vec<(&'static str, String)> {
    match part {
        #[cfg(feature = "outbox")]
        Part::Outbox => crate::outbox::statements::Statements::of(config).all(),
        #[cfg(feature = "idempotency")]
        Part::Inbox => {
            let texts = [
                ("lock_marker", LOCK_MARKER),
                ("marker", MARKER),
                ("set_marker", SET_MARKER),
                ("sweep", SWEEP),
                ("count", crate::inbox::COUNT),
            ];
            let texts = texts.into_iter();
            texts.map(|(name, text)| (name, config.sql(text))).collect()
        }
        #[cfg(feature = "idempotency")]
        Part::Responses => crate::responses::Statements::of(config).all(),
        #[cfg(feature = "queue")]
        Part::Queue => crate::queue::statements::Statements::of(config).all(),
        #[allow(unreachable_patterns, reason = "without the feature of a part")]
        _ => Vec::new(),
    }
}

/// Reads the version of a part. `$1` its name. No row: it is not there.
pub const VERSION: &str = "SELECT version FROM {schema}.{prefix}_schema WHERE part = $1";

pub(crate) const SERVER: &str =
    "SELECT current_setting('server_version_num')::bigint, current_setting('server_version')";

pub(crate) const LOCK: &str = "\
SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock(hashtext('dpat'), hashtext($1))) AS locked";

pub(crate) const HAS_SCHEMA: &str = "SELECT 1::bigint FROM pg_namespace WHERE nspname = $1";

pub(crate) const HAS_TABLE: &str = "\
SELECT 1::bigint FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2";

/// The number of lanes, as the table `{prefix}_lanes` has them.
pub const LANES: i64 = 256;

/// Appends an event, and returns its position: for a statement that is prepared once and runs often.
///
/// `$1` the id, 16 bytes; `$2` the topic; `$3` the key or NULL; `$4` the deduplication key or NULL; `$5` the time;
/// `$6` the event by `Event::encode`; `$7` whether to notify.
///
/// No row: the event is there already ([`APPENDED`] finds it). Limits are not looked at: see [`BACKLOG`].
pub const APPEND: &str = "\
WITH e AS (
  INSERT INTO {schema}.{prefix}_events (id, topic, dedup, event) VALUES ($1, $2, $4, $6)
  ON CONFLICT DO NOTHING
  RETURNING position
), s AS (
  INSERT INTO {schema}.{prefix}_states
    (position, key, lane, bytes, phase, attempts, appended_at, entered_at, due, head)
  SELECT
    position, $3, get_byte(sha256(convert_to($3, 'UTF8')), 0), length($6), 'pending', 0, $5, $5, $5, $5
  FROM e
  RETURNING position
)
SELECT position, CASE WHEN $7 THEN pg_notify('dpat_outbox', '{schema}.{prefix}')::text END FROM s";

/// As [`APPEND`], for a statement that is not prepared: a call of a function, whose plans the server keeps for each connection.
///
/// The parameters of [`APPEND`]. NULL, where that has no row.
pub const CALL_APPEND: &str =
    "SELECT {schema}.{prefix}_append($1, $2, $3, $4, $5, $6, $7) AS position";

/// Finds the id of an event that is there already. `$1` the id; `$2` the deduplication key or NULL.
pub const APPENDED: &str = "\
SELECT id FROM {schema}.{prefix}_events WHERE id = $1
UNION ALL SELECT id FROM {schema}.{prefix}_events WHERE dedup = $2
LIMIT 1";

/// Counts events and bytes of the backlog by an index, and no more events than a limit. `$1` the limit.
pub const BACKLOG: &str = "\
SELECT count(*)::bigint, coalesce(sum(bytes), 0)::bigint FROM (
  SELECT bytes FROM {schema}.{prefix}_states WHERE phase IN ('pending', 'claimed') ORDER BY position LIMIT $1
) AS counted";

/// Locks a message until the end of the transaction, so that who accepts it at the same time waits. `$1` its scope; `$2` its id.
///
/// Run it before [`MARKER`], as a statement of its own.
pub const LOCK_MARKER: &str = "\
SELECT 1::bigint FROM (
  SELECT pg_advisory_xact_lock(hashtextextended('{schema}.{prefix} ' || length($1) || $1 || $2, 0))
) AS locked";

/// Reads the marker of a message, for `Marker::decode` and `Marker::judge`. `$1` the scope; `$2` the id.
///
/// No row: the message is new.
pub const MARKER: &str =
    "SELECT marker FROM {schema}.{prefix}_markers WHERE scope = $1 AND id = $2";

/// Writes the marker of a message.
///
/// `$1` the scope; `$2` the id; `$3` the time; `$4` the marker by `Marker::encode`. Limits are not looked at.
pub const SET_MARKER: &str = "\
INSERT INTO {schema}.{prefix}_markers (scope, id, at, marker) VALUES ($1, $2, $3, $4)
ON CONFLICT (scope, id) DO UPDATE SET at = excluded.at, marker = excluded.marker";

/// Forgets old markers, and returns how many. `$1` the time before which they were written; `$2` how many at most.
pub const SWEEP: &str = "\
WITH gone AS (
  DELETE FROM {schema}.{prefix}_markers WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {schema}.{prefix}_markers WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::bigint FROM gone";

/// Sends a message without a deduplication key, and returns its id.
///
/// `$1` NULL (an id that is drawn before, with a deduplication key); `$2` the key or NULL; `$3` the priority, 0 to 9; `$4` the
/// time; `$5` from when on it may be delivered: the same time, or a later one; `$6` when it ends if it is not delivered, or
/// NULL; `$7` what it counts against the limit of bytes; `$8` NULL (headers have a form of their own); `$9` the payload; `$10`
/// whether to notify. Limits are not looked at.
pub const SEND: &str = "\
WITH m AS (
  INSERT INTO {schema}.{prefix}_messages (id, key, priority, sent_at, headers, payload)
  VALUES (coalesce($1, nextval('{schema}.{prefix}_numbers')), $2, $3, $4, $8, $9)
  RETURNING id
), d AS (
  INSERT INTO {schema}.{prefix}_deliveries (id, place, key, turn, priority, bytes, due, head, ready, expires, ends)
  SELECT id, id, $2, get_byte(sha256(convert_to($2, 'UTF8')), 0), $3, $7, $5, $5, $5 <= $4, $6, $6 FROM m
  RETURNING id
)
SELECT id, CASE WHEN $10 THEN pg_notify('dpat_queue', '{schema}.{prefix}')::text END FROM d";
