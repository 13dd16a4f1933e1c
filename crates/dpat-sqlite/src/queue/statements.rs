//! The statements of a queue, with its prefix.

use crate::config::Config;
use crate::sql;

const COUNTS: &str = "\
SELECT live, live_bytes, dead, dead_bytes, dedups, paused FROM {prefix}_queue WHERE one = 1";

const DRAW_HOLDER: &str = "\
UPDATE {prefix}_queue SET last_holder = last_holder + 1 WHERE one = 1 RETURNING last_holder";

const DEDUP: &str = "SELECT id FROM {prefix}_dedups WHERE dedup = ?1";

const REMEMBER: &str = "INSERT INTO {prefix}_dedups (dedup, id, until) VALUES (?1, ?2, ?3)";

const FORGET_DEDUPS: &str = "DELETE FROM {prefix}_dedups WHERE until <= ?1";

const END: &str = "\
DELETE FROM {prefix}_messages WHERE id IN (SELECT id FROM {prefix}_deliveries WHERE ends <= ?1)";

const MAKE_READY: &str = "UPDATE {prefix}_deliveries SET ready = 1 WHERE head <= ?1 AND ready = 0";

const LOOK: &str = "\
SELECT
  paused,
  EXISTS (SELECT 1 FROM {prefix}_deliveries WHERE ready = 1),
  (SELECT head FROM {prefix}_deliveries WHERE head IS NOT NULL AND ready = 0 ORDER BY head LIMIT 1)
FROM {prefix}_queue WHERE one = 1";

const READY: &str = "\
SELECT id, count, base, leased_until IS NOT NULL FROM {prefix}_deliveries
WHERE ready = 1 ORDER BY priority DESC, place LIMIT ?1";

const CLAIM: &str = "\
UPDATE {prefix}_deliveries
SET count = count + 1, holder = ?2, leased_until = ?3, due = ?3, ends = max(expires, ?3), ready = 0
WHERE id = ?1";

const MESSAGE: &str = "\
SELECT key, priority, sent_at, headers, payload FROM {prefix}_messages WHERE id = ?1";

const HELD: &str = "\
SELECT bytes FROM {prefix}_deliveries
WHERE id = ?1 AND count = ?2 AND holder IS NOT NULL AND due IS NOT NULL";

const DELETE: &str = "DELETE FROM {prefix}_messages WHERE id = ?1";

const RETRY: &str = "\
UPDATE {prefix}_deliveries
SET due = ?2, ends = expires, holder = NULL, leased_until = NULL, ready = 0, reason = ?3
WHERE id = ?1";

const REJECT: &str = "\
UPDATE {prefix}_deliveries
SET due = NULL, ends = NULL, holder = NULL, leased_until = NULL, ready = 0, reason = ?2, rejected_at = ?3
WHERE id = ?1";

const EXTEND: &str = "\
UPDATE {prefix}_deliveries
SET leased_until = ?2, due = ?2, ends = max(expires, ?2), ready = 0
WHERE id = ?1";

const LEASED: &str = "\
SELECT leased_until FROM {prefix}_deliveries
WHERE holder = ?1 AND leased_until > ?2 ORDER BY leased_until LIMIT 1";

const RELEASE_ALL: &str = "\
UPDATE {prefix}_deliveries
SET due = ?1, ends = expires, holder = NULL, leased_until = NULL, ready = 0
WHERE leased_until IS NOT NULL";

const DEAD: &str = "\
SELECT id, count, reason, rejected_at FROM {prefix}_deliveries
WHERE id > ?1 AND due IS NULL ORDER BY id LIMIT ?2";

const DEAD_ONE: &str = "\
SELECT bytes FROM {prefix}_deliveries WHERE id = ?1 AND due IS NULL";

const DRAW_PLACE: &str = "\
UPDATE {prefix}_queue SET last_place = last_place + 1 WHERE one = 1 RETURNING last_place";

const REPLAY: &str = "\
UPDATE {prefix}_deliveries
SET place = ?2, due = ?3, base = count, expires = NULL, ends = NULL, reason = NULL, rejected_at = NULL
WHERE id = ?1";

const PLACE: &str = "\
SELECT place FROM {prefix}_deliveries WHERE id = ?1 AND due IS NOT NULL";

const PEEK: &str = "\
SELECT id, count, reason, leased_until FROM {prefix}_deliveries
WHERE place > ?1 AND due IS NOT NULL ORDER BY place LIMIT ?2";

const PURGE: &str = "\
DELETE FROM {prefix}_messages WHERE id IN (
  SELECT id FROM {prefix}_deliveries
  WHERE due IS NOT NULL AND (leased_until IS NULL OR leased_until <= ?1)
  ORDER BY place LIMIT ?2
)";

const COUNT_READY: &str = "SELECT count(*) FROM {prefix}_deliveries WHERE ready = 1";

const COUNT_LEASED: &str = "\
SELECT count(*) FROM {prefix}_deliveries WHERE leased_until IS NOT NULL AND leased_until > ?1";

const OLDEST: &str = "\
SELECT id FROM {prefix}_deliveries WHERE due IS NOT NULL ORDER BY place LIMIT 1";

const SET_PAUSED: &str = "UPDATE {prefix}_queue SET paused = ?1 WHERE one = 1";

macro_rules! statements {
    ($($name:ident = $text:expr,)+) => {
        pub(super) struct Statements {
            /// The names of the tables, for errors.
            pub(super) messages: String,
            pub(super) counted: String,
            $(pub(super) $name: String,)+
        }

        impl Statements {
            pub(super) fn of(config: &Config) -> Self {
                Self {
                    messages: config.sql("{prefix}_messages"),
                    counted: config.sql("{prefix}_queue"),
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
    send = sql::SEND,
    counts = COUNTS,
    draw_holder = DRAW_HOLDER,
    dedup = DEDUP,
    remember = REMEMBER,
    forget_dedups = FORGET_DEDUPS,
    end = END,
    make_ready = MAKE_READY,
    look = LOOK,
    ready = READY,
    claim = CLAIM,
    message = MESSAGE,
    held = HELD,
    delete = DELETE,
    retry = RETRY,
    reject = REJECT,
    extend = EXTEND,
    leased = LEASED,
    release_all = RELEASE_ALL,
    dead = DEAD,
    dead_one = DEAD_ONE,
    draw_place = DRAW_PLACE,
    replay = REPLAY,
    place = PLACE,
    peek = PEEK,
    purge = PURGE,
    count_ready = COUNT_READY,
    count_leased = COUNT_LEASED,
    oldest = OLDEST,
    set_paused = SET_PAUSED,
}
