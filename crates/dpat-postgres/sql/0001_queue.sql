-- Queue, version 1. `{schema}` stands for the schema, `{prefix}` for the prefix of the tables; times are nanoseconds
-- since 1970.

CREATE TABLE IF NOT EXISTS {schema}.{prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL
);

-- What is sent. Written once: a send inserts here and into the deliveries.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_messages (
  id BIGINT NOT NULL PRIMARY KEY,
  key TEXT,
  priority BIGINT NOT NULL CHECK (priority BETWEEN 0 AND 9),
  sent_at BIGINT NOT NULL,
  headers BYTEA,
  payload BYTEA NOT NULL
);

-- Draws ids, places and holders.
CREATE SEQUENCE IF NOT EXISTS {schema}.{prefix}_numbers;

-- Where each message stands. Apart from the payload, which no delivery writes again. One row for each message, by the
-- statements and not by a foreign key, which would look at each of both.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_deliveries (
  id BIGINT NOT NULL PRIMARY KEY,
  -- In the order of sending; a dead letter that is replayed gets a new one.
  place BIGINT NOT NULL,
  key TEXT COLLATE "C",
  -- Of the key: which row of the turns is locked by whoever changes a delivery of it.
  turn BIGINT,
  priority BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  -- From when on it can be handed out; NULL: it is a dead letter.
  due BIGINT,
  -- `due` of messages without a key and of the first message of each key, which is the one that is out, or else the one with
  -- the lowest place. A send sets it always, for no transaction knows which others are open; a receive clears what is not
  -- the first.
  head BIGINT,
  -- `head` has passed.
  ready BOOLEAN NOT NULL DEFAULT false,
  expires BIGINT,
  -- When it ends: `expires`, but not while it is leased.
  ends BIGINT,
  count BIGINT NOT NULL DEFAULT 0,
  -- `count` when it was last replayed.
  base BIGINT NOT NULL DEFAULT 0,
  -- Whose receipt has a say, and until when it is leased.
  holder BIGINT,
  leased_until BIGINT,
  reason TEXT,
  rejected_at BIGINT
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS {prefix}_deliveries_lanes ON {schema}.{prefix}_deliveries (key, place)
WHERE due IS NOT NULL AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_out ON {schema}.{prefix}_deliveries (key)
WHERE leased_until IS NOT NULL AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_timer ON {schema}.{prefix}_deliveries (head)
WHERE head IS NOT NULL AND NOT ready;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_loose ON {schema}.{prefix}_deliveries (priority DESC, place)
WHERE ready AND key IS NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_keyed ON {schema}.{prefix}_deliveries (priority DESC, place)
WHERE ready AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_ends ON {schema}.{prefix}_deliveries (ends) WHERE ends IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_leases ON {schema}.{prefix}_deliveries (holder, leased_until)
WHERE leased_until IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_places ON {schema}.{prefix}_deliveries (place) INCLUDE (bytes)
WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_deliveries_dead ON {schema}.{prefix}_deliveries (id) INCLUDE (bytes)
WHERE due IS NULL;

-- Deduplication keys, and how long they are remembered.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_dedups (
  dedup TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  id BIGINT NOT NULL,
  until BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS {prefix}_dedups_until ON {schema}.{prefix}_dedups (until);

-- Locked by whoever changes the delivery of a message with a key, never by a send: one of 256 for each key.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_turns (turn BIGINT NOT NULL PRIMARY KEY);

INSERT INTO {schema}.{prefix}_turns (turn) SELECT generate_series(0, 255) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS {schema}.{prefix}_queue (
  one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  paused BOOLEAN NOT NULL
);

INSERT INTO {schema}.{prefix}_queue (one, paused) VALUES (1, false) ON CONFLICT DO NOTHING;

INSERT INTO {schema}.{prefix}_schema (part, version) VALUES ('queue', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
