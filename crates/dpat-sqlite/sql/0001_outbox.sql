-- Outbox, version 1. `{prefix}` stands for the prefix of the tables; times are nanoseconds since 1970.
-- What may become of an event is decided by `state`; the columns beside it are for indexes and for people.

CREATE TABLE IF NOT EXISTS {prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT;

-- What is sent. Written once: an INSERT here is an append, a DELETE forgets the event altogether.
CREATE TABLE {prefix}_events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  topic TEXT NOT NULL,
  key TEXT,
  dedup TEXT UNIQUE,
  appended_at INTEGER NOT NULL,
  event BLOB NOT NULL
) STRICT;

-- Where each event stands. Apart from the payload, which no change of state writes again.
CREATE TABLE {prefix}_states (
  position INTEGER PRIMARY KEY,
  key TEXT,
  bytes INTEGER NOT NULL,
  phase TEXT NOT NULL CHECK (phase IN ('pending', 'claimed', 'sent', 'parked')),
  attempts INTEGER NOT NULL,
  appended_at INTEGER NOT NULL,
  entered_at INTEGER NOT NULL,
  -- From when on it can be claimed; the largest number: it blocks its key; NULL: it is in nobody's way.
  due INTEGER,
  -- `due` of the first event of each key, and of events without a key, unless it blocks.
  head INTEGER,
  sent_at INTEGER,
  reason TEXT,
  -- NULL: as it was appended.
  state BLOB
) STRICT;

CREATE INDEX {prefix}_states_lanes ON {prefix}_states (key, position) WHERE due IS NOT NULL;
CREATE INDEX {prefix}_states_heads ON {prefix}_states (head, position) WHERE head IS NOT NULL;
CREATE UNIQUE INDEX {prefix}_states_head ON {prefix}_states (key) WHERE head IS NOT NULL;
CREATE INDEX {prefix}_states_phases ON {prefix}_states (phase, position);
CREATE INDEX {prefix}_states_sent ON {prefix}_states (sent_at, position) WHERE sent_at IS NOT NULL;

-- Counts, so that nobody has to count.
CREATE TABLE {prefix}_outbox (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  backlog_rows INTEGER NOT NULL,
  backlog_bytes INTEGER NOT NULL,
  parked INTEGER NOT NULL,
  sent INTEGER NOT NULL
) STRICT;

INSERT INTO {prefix}_outbox (one, backlog_rows, backlog_bytes, parked, sent) VALUES (1, 0, 0, 0, 0);

CREATE TRIGGER {prefix}_events_insert AFTER INSERT ON {prefix}_events BEGIN
  INSERT INTO {prefix}_states (position, key, bytes, phase, attempts, appended_at, entered_at, due, head)
  VALUES (
    NEW.position, NEW.key, length(NEW.event), 'pending', 0, NEW.appended_at, NEW.appended_at, NEW.appended_at,
    CASE
      WHEN EXISTS (SELECT 1 FROM {prefix}_states WHERE key = NEW.key AND due IS NOT NULL) THEN NULL
      ELSE NEW.appended_at
    END
  );
  UPDATE {prefix}_outbox
  SET backlog_rows = backlog_rows + 1, backlog_bytes = backlog_bytes + length(NEW.event)
  WHERE one = 1;
END;

CREATE TRIGGER {prefix}_events_delete AFTER DELETE ON {prefix}_events BEGIN
  DELETE FROM {prefix}_states WHERE position = OLD.position;
END;

CREATE TRIGGER {prefix}_states_due AFTER UPDATE OF due ON {prefix}_states WHEN NEW.due IS NOT OLD.due BEGIN
  UPDATE {prefix}_states SET head = NULLIF(NEW.due, 9223372036854775807)
  WHERE position = NEW.position AND NEW.key IS NULL;
  UPDATE {prefix}_states SET head = NULL WHERE key = NEW.key AND head IS NOT NULL;
  UPDATE {prefix}_states SET head = NULLIF(due, 9223372036854775807)
  WHERE position = (
    SELECT position FROM {prefix}_states WHERE key = NEW.key AND due IS NOT NULL ORDER BY position LIMIT 1
  );
END;

CREATE TRIGGER {prefix}_states_count AFTER UPDATE OF phase, bytes ON {prefix}_states
WHEN (NEW.phase IN ('pending', 'claimed')) <> (OLD.phase IN ('pending', 'claimed')) OR NEW.bytes <> OLD.bytes
BEGIN
  UPDATE {prefix}_outbox
  SET
    backlog_rows = backlog_rows + (NEW.phase IN ('pending', 'claimed')) - (OLD.phase IN ('pending', 'claimed')),
    backlog_bytes = backlog_bytes + NEW.bytes * (NEW.phase IN ('pending', 'claimed'))
      - OLD.bytes * (OLD.phase IN ('pending', 'claimed')),
    parked = parked + (NEW.phase = 'parked') - (OLD.phase = 'parked'),
    sent = sent + (NEW.phase = 'sent') - (OLD.phase = 'sent')
  WHERE one = 1;
END;

CREATE TRIGGER {prefix}_states_delete AFTER DELETE ON {prefix}_states BEGIN
  UPDATE {prefix}_outbox
  SET
    backlog_rows = backlog_rows - (OLD.phase IN ('pending', 'claimed')),
    backlog_bytes = backlog_bytes - OLD.bytes * (OLD.phase IN ('pending', 'claimed')),
    parked = parked - (OLD.phase = 'parked'),
    sent = sent - (OLD.phase = 'sent')
  WHERE one = 1;
  UPDATE {prefix}_states SET head = NULLIF(due, 9223372036854775807)
  WHERE position = (
    SELECT position FROM {prefix}_states WHERE key = OLD.key AND due IS NOT NULL ORDER BY position LIMIT 1
  );
END;

INSERT INTO {prefix}_schema (part, version) VALUES ('outbox', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
