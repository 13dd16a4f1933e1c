//! The statements of an outbox, with its schema and prefix.

use crate::config::Config;
use crate::sql;

const LOOSE: &str = "\
SELECT position, head, bytes, appended_at, state FROM {schema}.{prefix}_states
WHERE head <= $1 AND key IS NULL ORDER BY head, position LIMIT $2 FOR UPDATE SKIP LOCKED";

/// Locks the lanes, not the rows: what has changed before the lock is seen by the next statement.
const HEADS: &str = "\
SELECT s.position, s.head, s.key FROM {schema}.{prefix}_states AS s
JOIN {schema}.{prefix}_lanes AS l ON l.lane = s.lane
WHERE s.head <= $1 AND s.key IS NOT NULL ORDER BY s.head, s.position LIMIT $2 FOR UPDATE OF l SKIP LOCKED";

const NEXT_DUE: &str = "\
SELECT least(
  (SELECT head FROM {schema}.{prefix}_states WHERE head IS NOT NULL AND key IS NULL ORDER BY head, position LIMIT 1),
  (SELECT head FROM {schema}.{prefix}_states WHERE head IS NOT NULL AND key IS NOT NULL ORDER BY head, position LIMIT 1)
)";

const RUNS: &str = "\
SELECT s.position, s.key, s.bytes, s.appended_at, s.state
FROM unnest($1) AS k (key) CROSS JOIN LATERAL (
  SELECT position, key, bytes, appended_at, state FROM {schema}.{prefix}_states AS t
  WHERE t.key = k.key AND t.due IS NOT NULL ORDER BY t.position LIMIT $2
) AS s";

const LOCK_LANES: &str = "\
SELECT lane FROM {schema}.{prefix}_lanes
WHERE lane = ANY (ARRAY(SELECT lane FROM {schema}.{prefix}_states WHERE position = ANY ($1)))
ORDER BY lane FOR UPDATE";

const LOCK_ROWS: &str = "\
SELECT position, key, bytes, appended_at, state FROM {schema}.{prefix}_states
WHERE position = ANY ($1) ORDER BY position FOR UPDATE";

const SET_STATES: &str = "\
UPDATE {schema}.{prefix}_states AS s
SET
  phase = n.phase, attempts = n.attempts, entered_at = n.entered_at, due = n.due, head = n.head,
  sent_at = n.sent_at, reason = n.reason, state = n.state
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
  AS n (position, phase, attempts, entered_at, due, head, sent_at, reason, state)
WHERE s.position = n.position";

const DEMOTE: &str = "UPDATE {schema}.{prefix}_states SET head = NULL WHERE position = ANY ($1)";

/// The first of each key is what a claim finds. Run under the locks of the lanes.
const PROMOTE: &str = "\
UPDATE {schema}.{prefix}_states AS s SET head = NULLIF(s.due, 9223372036854775807)
FROM unnest($1) AS k (key) CROSS JOIN LATERAL (
  SELECT position FROM {schema}.{prefix}_states AS t
  WHERE t.key = k.key AND t.due IS NOT NULL ORDER BY t.position LIMIT 1
) AS f
WHERE s.position = f.position AND s.head IS DISTINCT FROM NULLIF(s.due, 9223372036854775807)";

const EVENTS: &str =
    "SELECT position, event FROM {schema}.{prefix}_events WHERE position = ANY ($1)";

const PARKED: &str = "\
SELECT s.position, s.key, s.bytes, s.appended_at, s.state, e.event
FROM {schema}.{prefix}_states AS s JOIN {schema}.{prefix}_events AS e ON e.position = s.position
WHERE s.phase = 'parked' AND s.position > $1 ORDER BY s.position LIMIT $2";

const FROM: &str = "\
SELECT s.position, e.topic
FROM {schema}.{prefix}_states AS s JOIN {schema}.{prefix}_events AS e ON e.position = s.position
WHERE s.position >= $1 ORDER BY s.position LIMIT $2";

const OLDEST: &str = "\
SELECT entered_at FROM {schema}.{prefix}_states WHERE phase IN ('pending', 'claimed') ORDER BY position LIMIT 1";

const COUNT_PARKED: &str = "\
SELECT count(*)::bigint FROM (
  SELECT 1 FROM {schema}.{prefix}_states WHERE phase = 'parked' ORDER BY position LIMIT $1
) AS counted";

const COUNT_SENT: &str = "\
SELECT count(*)::bigint FROM (
  SELECT 1 FROM {schema}.{prefix}_states WHERE sent_at IS NOT NULL ORDER BY sent_at, position LIMIT $1
) AS counted";

const SET_EVENT: &str = "\
WITH e AS (
  UPDATE {schema}.{prefix}_events SET topic = $2, event = $3 WHERE position = $1
)
UPDATE {schema}.{prefix}_states SET bytes = length($3) WHERE position = $1";

const FORGET: &str = "DELETE FROM {schema}.{prefix}_events WHERE position = $1";

const PURGE: &str = "\
WITH gone AS (
  DELETE FROM {schema}.{prefix}_events WHERE position = ANY (ARRAY(
    SELECT position FROM {schema}.{prefix}_states WHERE sent_at < $1 ORDER BY sent_at, position LIMIT $2
    FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::bigint FROM gone";

macro_rules! statements {
    ($($name:ident = $text:expr,)+) => {
        pub(crate) struct Statements {
            /// The names of the tables, for errors.
            pub(super) events: String,
            pub(super) states: String,
            $(pub(super) $name: String,)+
        }

        impl Statements {
            pub(crate) fn of(config: &Config) -> Self {
                Self {
                    events: config.table("events"),
                    states: config.table("states"),
                    $($name: config.sql($text),)+
                }
            }

            /// Every statement by its name: what the tests of plans look at.
            pub(crate) fn all(self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

statements! {
    append = sql::APPEND,
    call_append = sql::CALL_APPEND,
    appended = sql::APPENDED,
    backlog = sql::BACKLOG,
    loose = LOOSE,
    heads = HEADS,
    next_due = NEXT_DUE,
    runs = RUNS,
    lock_lanes = LOCK_LANES,
    lock_rows = LOCK_ROWS,
    set_states = SET_STATES,
    demote = DEMOTE,
    promote = PROMOTE,
    contents = EVENTS,
    parked = PARKED,
    from = FROM,
    oldest = OLDEST,
    count_parked = COUNT_PARKED,
    count_sent = COUNT_SENT,
    set_event = SET_EVENT,
    forget = FORGET,
    purge = PURGE,
}
