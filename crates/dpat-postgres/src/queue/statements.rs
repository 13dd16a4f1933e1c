//! The statements of a queue, with its schema and prefix.

use crate::config::Config;
use crate::sql;

const DRAW: &str = "SELECT nextval('{schema}.{prefix}_numbers')";

/// What the server's clock shows.
macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
    };
}

/// Whether a commit outlives a killed server, and whether it outlives a power cut.
const DURABLE: &str = concat!(
    "SELECT ",
    clock!(),
    ",
  (current_setting('synchronous_commit') <> 'off')::int::bigint,
  (current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on')::int::bigint"
);

const COUNT_LIVE: &str = concat!(
    "SELECT count(*)::bigint, coalesce(sum(bytes), 0)::bigint, ",
    clock!(),
    " FROM (
  SELECT bytes FROM {schema}.{prefix}_deliveries WHERE due IS NOT NULL ORDER BY place LIMIT $1
) AS counted"
);

const COUNT_DEAD: &str = "\
SELECT count(*)::bigint, coalesce(sum(bytes), 0)::bigint FROM (
  SELECT bytes FROM {schema}.{prefix}_deliveries WHERE due IS NULL ORDER BY id LIMIT $1
) AS counted";

const COUNT_DEDUPS: &str = "\
SELECT count(*)::bigint, 0::bigint FROM (
  SELECT 1 FROM {schema}.{prefix}_dedups WHERE until > $2 ORDER BY until LIMIT $1
) AS counted";

/// As `SEND`, of several messages; headers that are empty are none.
const SEND_MANY: &str = "\
WITH n AS (
  SELECT nextval('{schema}.{prefix}_numbers') AS id, t.*
  FROM unnest($1, $2, $4, $5, $6, $7, $8)
  WITH ORDINALITY AS t (key, priority, due, expires, bytes, headers, payload, at)
), m AS (
  INSERT INTO {schema}.{prefix}_messages (id, key, priority, sent_at, headers, payload)
  SELECT id, key, priority, $3, nullif(headers, ''::bytea), payload FROM n
), d AS (
  INSERT INTO {schema}.{prefix}_deliveries (id, place, key, turn, priority, bytes, due, head, ready, expires, ends)
  SELECT
    id, id, key, get_byte(sha256(convert_to(key, 'UTF8')), 0), priority, bytes, due, due, due <= $3, expires, expires
  FROM n
)
SELECT id FROM n ORDER BY at";

const DEDUP: &str = "SELECT id FROM {schema}.{prefix}_dedups WHERE dedup = $1 AND until > $2";

/// No row: another was faster.
const REMEMBER: &str = "\
INSERT INTO {schema}.{prefix}_dedups AS d (dedup, id, until)
VALUES ($1, nextval('{schema}.{prefix}_numbers'), $2)
ON CONFLICT (dedup) DO UPDATE SET id = excluded.id, until = excluded.until WHERE d.until <= $3
RETURNING id";

const FORGET_DEDUPS: &str = "\
DELETE FROM {schema}.{prefix}_dedups WHERE dedup = ANY (ARRAY(
  SELECT dedup FROM {schema}.{prefix}_dedups WHERE until <= $1 ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED
))";

macro_rules! look {
    () => {
        concat!(
            "SELECT ",
            clock!(),
            " AS clock,
  (SELECT paused::int::bigint FROM {schema}.{prefix}_queue WHERE one = 1) AS paused,
  (SELECT id FROM {schema}.{prefix}_deliveries WHERE ready AND key IS NULL ORDER BY priority DESC, place LIMIT 1) AS loose,
  (SELECT id FROM {schema}.{prefix}_deliveries WHERE ready AND key IS NOT NULL ORDER BY priority DESC, place LIMIT 1) AS keyed,
  (SELECT head FROM {schema}.{prefix}_deliveries WHERE head IS NOT NULL AND NOT ready ORDER BY head LIMIT 1) AS next,
  (SELECT ends FROM {schema}.{prefix}_deliveries WHERE ends IS NOT NULL ORDER BY ends LIMIT 1) AS ends,
  (SELECT until FROM {schema}.{prefix}_dedups ORDER BY until LIMIT 1) AS forgets"
        )
    };
}

const LOOK: &str = look!();

const ENDED: &str = "\
SELECT id FROM {schema}.{prefix}_deliveries WHERE ends <= $1 ORDER BY ends LIMIT 1000";

/// Waits for nobody.
const MAKE_READY: &str = "\
WITH made AS (
  UPDATE {schema}.{prefix}_deliveries SET ready = true WHERE id = ANY (ARRAY(
    SELECT id FROM {schema}.{prefix}_deliveries WHERE head <= $1 AND NOT ready ORDER BY head LIMIT 1000
    FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::bigint FROM made";

/// What is handed out: the rows that `found` has, with a lapse each. They are looked up by their ids, contents one by one: a plan that
/// joins tables for any number of rows would read all.
macro_rules! claim {
    ($found:literal) => {
        concat!(
            "WITH found AS (",
            $found,
            ") UPDATE {schema}.{prefix}_deliveries AS d SET
  count = count + 1, holder = $2, leased_until = $3, due = $3, head = $3, ready = false,
  ends = CASE WHEN expires IS NOT NULL THEN greatest(expires, $3) END
FROM found CROSS JOIN LATERAL (SELECT * FROM {schema}.{prefix}_messages AS c WHERE c.id = found.id LIMIT 1) AS m
WHERE d.id = ANY (ARRAY(SELECT id FROM found)) AND d.id = found.id
RETURNING d.id, d.place, d.count, d.base, found.lapsed, m.key, m.priority, m.sent_at, m.headers, m.payload"
        )
    };
}

/// Looks, and hands out in the same step where no key is ready and time has nothing to do.
const RECEIVE: &str = concat!(
    "WITH look AS (",
    look!(),
    "), claimed AS (",
    claim!(
        "\
  SELECT id, (leased_until IS NOT NULL)::int::bigint AS lapsed FROM {schema}.{prefix}_deliveries
  WHERE ready AND key IS NULL AND (
    SELECT paused = 0 AND keyed IS NULL AND coalesce(least(next, ends, forgets) > $4, true) FROM look
  )
  ORDER BY priority DESC, place LIMIT $1 FOR UPDATE SKIP LOCKED"
    ),
    ") SELECT look.*, claimed.* FROM look LEFT JOIN claimed ON true"
);

/// Where no key is ready.
const CLAIM_LOOSE: &str = claim!(
    "\
  SELECT id, (leased_until IS NOT NULL)::int::bigint AS lapsed FROM {schema}.{prefix}_deliveries
  WHERE ready AND key IS NULL ORDER BY priority DESC, place LIMIT $1 FOR UPDATE SKIP LOCKED"
);

/// Of the keys in `$4` all other receipts are void.
const CLAIM: &str = claim!(
    "\
  SELECT id, (leased_until IS NOT NULL)::int::bigint AS lapsed FROM {schema}.{prefix}_deliveries
  WHERE id = ANY ($1) ORDER BY id FOR UPDATE
), void AS (
  UPDATE {schema}.{prefix}_deliveries SET holder = NULL, leased_until = NULL
  WHERE key = ANY ($4) AND leased_until IS NOT NULL AND id <> ALL ($1)"
);

const LOOSE: &str = "\
SELECT id, priority, place FROM {schema}.{prefix}_deliveries
WHERE ready AND key IS NULL ORDER BY priority DESC, place LIMIT $1 FOR UPDATE SKIP LOCKED";

/// Locks the turns, not the rows: what has changed before the lock is seen by the next statement.
const KEYED: &str = "\
SELECT d.id, d.priority, d.place, d.key FROM {schema}.{prefix}_deliveries AS d
JOIN {schema}.{prefix}_turns AS t ON t.turn = d.turn
WHERE d.ready AND d.key IS NOT NULL ORDER BY d.priority DESC, d.place LIMIT $1 FOR UPDATE OF t SKIP LOCKED";

/// The first message of each key in `k`: the one that is out, or else the one with the lowest place.
macro_rules! firsts {
    () => {
        "\
FROM unnest($1) AS k (key) CROSS JOIN LATERAL (
  (
    SELECT 0 AS rank, id, due, head, ready FROM {schema}.{prefix}_deliveries AS e
    WHERE e.key = k.key AND e.leased_until IS NOT NULL AND e.leased_until > $2 LIMIT 1
  ) UNION ALL (
    SELECT 1 AS rank, id, due, head, ready FROM {schema}.{prefix}_deliveries AS e
    WHERE e.key = k.key AND e.due IS NOT NULL ORDER BY e.place LIMIT 1
  ) ORDER BY rank LIMIT 1
) AS f"
    };
}

const FIRSTS: &str = concat!(
    "SELECT k.key, f.id, (f.ready OR f.due <= $2)::int::bigint ",
    firsts!()
);

const DEMOTE: &str =
    "UPDATE {schema}.{prefix}_deliveries SET head = NULL, ready = false WHERE id = ANY ($1)";

const MESSAGES: &str = "\
SELECT id, key, priority, sent_at, headers, payload FROM {schema}.{prefix}_messages WHERE id = ANY ($1)";

const LOCK_TURNS: &str = "\
SELECT turn FROM {schema}.{prefix}_turns
WHERE turn = ANY (ARRAY(SELECT turn FROM {schema}.{prefix}_deliveries WHERE id = ANY ($1)))
ORDER BY turn FOR UPDATE";

const LOCK_ROWS: &str = "\
SELECT id, key, bytes, due, count, holder, leased_until, ends FROM {schema}.{prefix}_deliveries
WHERE id = ANY ($1) ORDER BY id FOR UPDATE";

const DELETE: &str = "\
WITH gone AS (DELETE FROM {schema}.{prefix}_deliveries WHERE id = ANY ($1) RETURNING id)
DELETE FROM {schema}.{prefix}_messages WHERE id IN (SELECT id FROM gone)";

/// What has no key, by receipts that have a say.
const DONE_LOOSE: &str = "\
WITH gone AS (
  DELETE FROM {schema}.{prefix}_deliveries AS d USING unnest($1, $2) AS r (id, count)
  WHERE
    d.id = r.id AND d.count = r.count AND d.key IS NULL AND d.holder IS NOT NULL AND d.due IS NOT NULL
    AND (d.ends IS NULL OR d.ends > $3)
  RETURNING d.id, d.count
), deleted AS (DELETE FROM {schema}.{prefix}_messages WHERE id IN (SELECT id FROM gone))
SELECT id, count FROM gone";

/// The first of each key is what a receive finds. Run under the locks of the turns; returns how many were not found, and for
/// how many keys there is a message.
const PROMOTE: &str = concat!(
    "WITH firsts AS (SELECT f.id ",
    firsts!(),
    "
), promoted AS (
  UPDATE {schema}.{prefix}_deliveries AS d SET head = d.due, ready = d.due <= $2 FROM firsts
  WHERE d.id = firsts.id AND d.head IS DISTINCT FROM d.due RETURNING 1
)
SELECT (SELECT count(*) FROM promoted)::bigint, (SELECT count(*) FROM firsts)::bigint"
);

const RETRY: &str = "\
UPDATE {schema}.{prefix}_deliveries AS d
SET due = n.due, head = n.due, ends = expires, holder = NULL, leased_until = NULL, ready = false, reason = n.reason
FROM unnest($1, $2, $3) AS n (id, due, reason) WHERE d.id = n.id";

const REJECT: &str = "\
UPDATE {schema}.{prefix}_deliveries AS d
SET
  due = NULL, head = NULL, ends = NULL, holder = NULL, leased_until = NULL, ready = false,
  reason = n.reason, rejected_at = $3
FROM unnest($1, $2) AS n (id, reason) WHERE d.id = n.id";

const EXTEND: &str = "\
UPDATE {schema}.{prefix}_deliveries
SET
  leased_until = $2, due = $2, head = $2, ready = false,
  ends = CASE WHEN expires IS NOT NULL THEN greatest(expires, $2) END
WHERE id = ANY ($1)";

const LEASED: &str = "\
SELECT leased_until FROM {schema}.{prefix}_deliveries
WHERE holder = $1 AND leased_until > $2 ORDER BY leased_until LIMIT 1";

const LOCK_ALL_TURNS: &str = "SELECT turn FROM {schema}.{prefix}_turns ORDER BY turn FOR UPDATE";

const RELEASE_ALL: &str = "\
WITH released AS (
  UPDATE {schema}.{prefix}_deliveries
  SET due = $1, head = $1, ends = expires, holder = NULL, leased_until = NULL, ready = true
  WHERE id = ANY (ARRAY(
    SELECT id FROM {schema}.{prefix}_deliveries WHERE leased_until IS NOT NULL ORDER BY id FOR UPDATE
  )) RETURNING 1
)
SELECT count(*)::bigint FROM released";

const DEAD: &str = "\
SELECT id, count, reason, rejected_at FROM {schema}.{prefix}_deliveries
WHERE id > $1 AND due IS NULL ORDER BY id LIMIT $2";

const REPLAY: &str = "\
UPDATE {schema}.{prefix}_deliveries
SET
  place = nextval('{schema}.{prefix}_numbers'), due = $2, head = $2, ready = false, base = count,
  expires = NULL, ends = NULL, reason = NULL, rejected_at = NULL
WHERE id = $1";

const PLACE: &str =
    "SELECT place FROM {schema}.{prefix}_deliveries WHERE id = $1 AND due IS NOT NULL";

const PEEK: &str = "\
SELECT id, count, reason, leased_until FROM {schema}.{prefix}_deliveries
WHERE place > $1 AND due IS NOT NULL ORDER BY place LIMIT $2";

const PURGEABLE: &str = "\
SELECT id FROM {schema}.{prefix}_deliveries
WHERE due IS NOT NULL AND (leased_until IS NULL OR leased_until <= $1) ORDER BY place LIMIT $2";

const COUNT_READY: &str = "\
SELECT
  (SELECT count(*) FROM {schema}.{prefix}_deliveries WHERE ready AND key IS NULL)::bigint
  + (
    SELECT count(*) FROM {schema}.{prefix}_deliveries AS d
    WHERE d.ready AND d.key IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM {schema}.{prefix}_deliveries AS e WHERE e.key = d.key AND e.due IS NOT NULL AND e.place < d.place
    ) AND NOT EXISTS (
      SELECT 1 FROM {schema}.{prefix}_deliveries AS e
      WHERE e.key = d.key AND e.leased_until IS NOT NULL AND e.leased_until > $1 AND e.id <> d.id
    )
  )::bigint";

const COUNT_LEASED: &str = "\
SELECT count(*)::bigint FROM {schema}.{prefix}_deliveries WHERE leased_until IS NOT NULL AND leased_until > $1";

const OLDEST: &str = "\
SELECT m.sent_at FROM {schema}.{prefix}_deliveries AS d JOIN {schema}.{prefix}_messages AS m ON m.id = d.id
WHERE d.due IS NOT NULL ORDER BY d.place LIMIT 1";

const SET_PAUSED: &str = "UPDATE {schema}.{prefix}_queue SET paused = $1 WHERE one = 1";

/// Nothing is lost with a notification: its commit, which comes behind that of what it tells of, waits for no disk.
const NOTIFY: &str = "\
SELECT set_config('synchronous_commit', 'off', true), pg_notify('dpat_queue', '{schema}.{prefix}')::text";

macro_rules! statements {
    ($($name:ident = $text:expr,)+) => {
        pub(crate) struct Statements {
            /// The name of the table, for errors.
            pub(super) messages: String,
            $(pub(super) $name: String,)+
        }

        impl Statements {
            pub(crate) fn of(config: &Config) -> Self {
                Self {
                    messages: config.table("messages"),
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
    send = sql::SEND,
    send_many = SEND_MANY,
    draw = DRAW,
    durable = DURABLE,
    count_live = COUNT_LIVE,
    count_dead = COUNT_DEAD,
    count_dedups = COUNT_DEDUPS,
    dedup = DEDUP,
    remember = REMEMBER,
    forget_dedups = FORGET_DEDUPS,
    look = LOOK,
    ended = ENDED,
    make_ready = MAKE_READY,
    receive = RECEIVE,
    claim_loose = CLAIM_LOOSE,
    loose = LOOSE,
    keyed = KEYED,
    firsts = FIRSTS,
    demote = DEMOTE,
    claim = CLAIM,
    contents = MESSAGES,
    lock_turns = LOCK_TURNS,
    lock_rows = LOCK_ROWS,
    delete = DELETE,
    done_loose = DONE_LOOSE,
    promote = PROMOTE,
    retry = RETRY,
    reject = REJECT,
    extend = EXTEND,
    leased = LEASED,
    lock_all_turns = LOCK_ALL_TURNS,
    release_all = RELEASE_ALL,
    dead = DEAD,
    replay = REPLAY,
    place = PLACE,
    peek = PEEK,
    purgeable = PURGEABLE,
    count_ready = COUNT_READY,
    count_leased = COUNT_LEASED,
    oldest = OLDEST,
    set_paused = SET_PAUSED,
    notify = NOTIFY,
}
