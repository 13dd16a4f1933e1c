-- Queue, version 1. `{prefix}` stands for the prefix of the tables; times are nanoseconds since 1970.

CREATE TABLE IF NOT EXISTS {prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT;

-- What is sent. Written once: an INSERT here is a send, a DELETE forgets the message altogether.
CREATE TABLE {prefix}_messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT,
  priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
  sent_at INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  -- When it ends if it is not delivered; NULL: never.
  expires INTEGER,
  -- What it counts against the limit of bytes.
  bytes INTEGER NOT NULL,
  headers BLOB,
  payload BLOB NOT NULL
) STRICT;

-- Where each message stands. Apart from the payload, which no delivery writes again.
CREATE TABLE {prefix}_deliveries (
  id INTEGER PRIMARY KEY,
  -- In the order of sending; a dead letter that is replayed gets a new one.
  place INTEGER NOT NULL,
  key TEXT,
  priority INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  -- From when on it can be handed out; NULL: it is a dead letter.
  due INTEGER,
  -- `due` of the first message of each key, and of messages without a key.
  head INTEGER,
  -- 1: `head` has passed.
  ready INTEGER NOT NULL DEFAULT 0,
  expires INTEGER,
  -- When it ends: `expires`, but not while it is leased.
  ends INTEGER,
  count INTEGER NOT NULL DEFAULT 0,
  -- `count` when it was last replayed.
  base INTEGER NOT NULL DEFAULT 0,
  -- Whose receipt has a say, and until when it is leased.
  holder INTEGER,
  leased_until INTEGER,
  reason TEXT,
  rejected_at INTEGER
) STRICT;

CREATE INDEX {prefix}_deliveries_lanes ON {prefix}_deliveries (key, place) WHERE due IS NOT NULL;
CREATE UNIQUE INDEX {prefix}_deliveries_head ON {prefix}_deliveries (key) WHERE head IS NOT NULL;
CREATE INDEX {prefix}_deliveries_timer ON {prefix}_deliveries (head) WHERE head IS NOT NULL AND ready = 0;
CREATE INDEX {prefix}_deliveries_ready ON {prefix}_deliveries (priority DESC, place) WHERE ready = 1;
CREATE INDEX {prefix}_deliveries_ends ON {prefix}_deliveries (ends) WHERE ends IS NOT NULL;
CREATE INDEX {prefix}_deliveries_leases ON {prefix}_deliveries (holder, leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX {prefix}_deliveries_places ON {prefix}_deliveries (place) WHERE due IS NOT NULL;
CREATE INDEX {prefix}_deliveries_dead ON {prefix}_deliveries (due, id) WHERE due IS NULL;

-- Deduplication keys, and how long they are remembered.
CREATE TABLE {prefix}_dedups (
  dedup TEXT NOT NULL PRIMARY KEY,
  id INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT;

CREATE INDEX {prefix}_dedups_until ON {prefix}_dedups (until);

-- Counts, so that nobody has to count.
CREATE TABLE {prefix}_queue (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  last_place INTEGER NOT NULL,
  last_holder INTEGER NOT NULL,
  live INTEGER NOT NULL,
  live_bytes INTEGER NOT NULL,
  dead INTEGER NOT NULL,
  dead_bytes INTEGER NOT NULL,
  dedups INTEGER NOT NULL,
  paused INTEGER NOT NULL
) STRICT;

INSERT INTO {prefix}_queue (one, last_place, last_holder, live, live_bytes, dead, dead_bytes, dedups, paused)
VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE TRIGGER {prefix}_messages_insert AFTER INSERT ON {prefix}_messages BEGIN
  UPDATE {prefix}_queue
  SET last_place = last_place + 1, live = live + 1, live_bytes = live_bytes + NEW.bytes
  WHERE one = 1;
  INSERT INTO {prefix}_deliveries (id, place, key, priority, bytes, due, head, expires, ends)
  SELECT
    NEW.id, last_place, NEW.key, NEW.priority, NEW.bytes, NEW.not_before,
    CASE
      WHEN EXISTS (SELECT 1 FROM {prefix}_deliveries WHERE key = NEW.key AND due IS NOT NULL) THEN NULL
      ELSE NEW.not_before
    END,
    NEW.expires, NEW.expires
  FROM {prefix}_queue WHERE one = 1;
END;

CREATE TRIGGER {prefix}_messages_delete AFTER DELETE ON {prefix}_messages BEGIN
  DELETE FROM {prefix}_deliveries WHERE id = OLD.id;
END;

CREATE TRIGGER {prefix}_deliveries_due AFTER UPDATE OF due ON {prefix}_deliveries WHEN NEW.due IS NOT OLD.due BEGIN
  UPDATE {prefix}_deliveries SET head = NEW.due WHERE id = NEW.id AND NEW.key IS NULL;
  UPDATE {prefix}_deliveries SET head = NULL, ready = 0 WHERE key = NEW.key AND head IS NOT NULL;
  UPDATE {prefix}_deliveries SET head = due
  WHERE id = (SELECT id FROM {prefix}_deliveries WHERE key = NEW.key AND due IS NOT NULL ORDER BY place LIMIT 1);
END;

CREATE TRIGGER {prefix}_deliveries_count AFTER UPDATE OF due ON {prefix}_deliveries
WHEN (NEW.due IS NULL) <> (OLD.due IS NULL)
BEGIN
  UPDATE {prefix}_queue
  SET
    live = live + (NEW.due IS NOT NULL) - (OLD.due IS NOT NULL),
    live_bytes = live_bytes + NEW.bytes * ((NEW.due IS NOT NULL) - (OLD.due IS NOT NULL)),
    dead = dead + (NEW.due IS NULL) - (OLD.due IS NULL),
    dead_bytes = dead_bytes + NEW.bytes * ((NEW.due IS NULL) - (OLD.due IS NULL))
  WHERE one = 1;
END;

CREATE TRIGGER {prefix}_deliveries_delete AFTER DELETE ON {prefix}_deliveries BEGIN
  UPDATE {prefix}_queue
  SET
    live = live - (OLD.due IS NOT NULL),
    live_bytes = live_bytes - OLD.bytes * (OLD.due IS NOT NULL),
    dead = dead - (OLD.due IS NULL),
    dead_bytes = dead_bytes - OLD.bytes * (OLD.due IS NULL)
  WHERE one = 1;
  UPDATE {prefix}_deliveries SET head = due
  WHERE head IS NULL
    AND id = (SELECT id FROM {prefix}_deliveries WHERE key = OLD.key AND due IS NOT NULL ORDER BY place LIMIT 1);
END;

CREATE TRIGGER {prefix}_dedups_insert AFTER INSERT ON {prefix}_dedups BEGIN
  UPDATE {prefix}_queue SET dedups = dedups + 1 WHERE one = 1;
END;

CREATE TRIGGER {prefix}_dedups_delete AFTER DELETE ON {prefix}_dedups BEGIN
  UPDATE {prefix}_queue SET dedups = dedups - 1 WHERE one = 1;
END;

INSERT INTO {prefix}_schema (part, version) VALUES ('queue', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
