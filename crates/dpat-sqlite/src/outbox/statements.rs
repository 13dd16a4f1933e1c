//! The statements of an outbox, with its prefix.

use crate::config::Config;
use crate::sql;

const HEADS: &str = "\
SELECT position, key FROM {prefix}_states WHERE head <= ?1 ORDER BY head, position LIMIT ?2";

const NEXT_DUE: &str = "\
SELECT head FROM {prefix}_states WHERE head IS NOT NULL ORDER BY head LIMIT 1";

const LANE: &str = "\
SELECT position, bytes, appended_at, state FROM {prefix}_states
WHERE key = ?1 AND due IS NOT NULL ORDER BY position LIMIT ?2";

const ROW: &str = "\
SELECT position, bytes, appended_at, state FROM {prefix}_states WHERE position = ?1";

const ROWS_FROM: &str = "\
SELECT position, bytes, appended_at, state FROM {prefix}_states
WHERE position >= ?1 ORDER BY position LIMIT ?2";

const PARKED: &str = "\
SELECT position, bytes, appended_at, state FROM {prefix}_states
WHERE phase = 'parked' AND position > ?1 ORDER BY position LIMIT ?2";

const OLDEST: &str = "\
SELECT position, entered_at FROM {prefix}_states WHERE phase = ?1 ORDER BY position LIMIT 1";

const EVENT: &str = "SELECT event FROM {prefix}_events WHERE position = ?1";

const TOPIC: &str = "SELECT topic FROM {prefix}_events WHERE position = ?1";

const SET_STATE: &str = "\
UPDATE {prefix}_states
SET phase = ?2, attempts = ?3, entered_at = ?4, due = ?5, sent_at = ?6, reason = ?7, state = ?8
WHERE position = ?1";

const SET_EVENT: &str = "UPDATE {prefix}_events SET topic = ?2, event = ?3 WHERE position = ?1";

const SET_BYTES: &str = "UPDATE {prefix}_states SET bytes = ?2 WHERE position = ?1";

const FORGET: &str = "DELETE FROM {prefix}_events WHERE position = ?1";

const PURGE: &str = "\
DELETE FROM {prefix}_events WHERE position IN (
  SELECT position FROM {prefix}_states WHERE sent_at < ?1 ORDER BY sent_at, position LIMIT ?2
)";

macro_rules! statements {
    ($($name:ident = $text:expr,)+) => {
        pub(super) struct Statements {
            /// The names of the tables, for errors.
            pub(super) events: String,
            pub(super) states: String,
            pub(super) counted: String,
            $(pub(super) $name: String,)+
        }

        impl Statements {
            pub(super) fn of(config: &Config) -> Self {
                Self {
                    events: config.sql("{prefix}_events"),
                    states: config.sql("{prefix}_states"),
                    counted: config.sql("{prefix}_outbox"),
                    $($name: config.sql($text),)+
                }
            }

            /// All of them, with their names.
            #[cfg(test)]
            pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
                vec![$((stringify!($name), self.$name.as_str())),+]
            }
        }
    };
}

statements! {
    append = sql::APPEND,
    appended = sql::APPENDED,
    counts = sql::COUNTS,
    heads = HEADS,
    next_due = NEXT_DUE,
    lane = LANE,
    row = ROW,
    rows_from = ROWS_FROM,
    parked = PARKED,
    oldest = OLDEST,
    event = EVENT,
    topic = TOPIC,
    set_state = SET_STATE,
    set_event = SET_EVENT,
    set_bytes = SET_BYTES,
    forget = FORGET,
    purge = PURGE,
}
