-- Outbox, version 1. `{schema}` stands for the schema, `{prefix}` for the prefix of the tables; times are nanoseconds
-- since 1970. What may become of an event is decided by `state`; the columns beside it are for indexes and for people.

CREATE TABLE IF NOT EXISTS {schema}.{prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL
);

-- What is sent. Written once: an append inserts here and into the states.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_events (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id BYTEA NOT NULL UNIQUE CHECK (length(id) = 16),
  topic TEXT NOT NULL,
  dedup TEXT COLLATE "C" UNIQUE,
  event BYTEA NOT NULL
);

-- Where each event stands. Apart from the payload, which no change of state writes again.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_states (
  position BIGINT NOT NULL PRIMARY KEY REFERENCES {schema}.{prefix}_events ON DELETE CASCADE,
  key TEXT COLLATE "C",
  -- Of the key: which row of the lanes is locked by whoever changes a state of it.
  lane BIGINT,
  bytes BIGINT NOT NULL,
  phase TEXT COLLATE "C" NOT NULL CHECK (phase IN ('pending', 'claimed', 'sent', 'parked')),
  attempts BIGINT NOT NULL,
  appended_at BIGINT NOT NULL,
  entered_at BIGINT NOT NULL,
  -- From when on it can be claimed; the largest number: it blocks its key; NULL: it is in nobody's way.
  due BIGINT,
  -- `due` of events without a key and of the first event of each key, unless it blocks. Appends set it always, for no
  -- transaction knows which others are open; a claim clears what is not the first.
  head BIGINT,
  sent_at BIGINT,
  reason TEXT,
  -- NULL: as it was appended.
  state BYTEA
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS {prefix}_states_lanes ON {schema}.{prefix}_states (key, position)
WHERE due IS NOT NULL AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_states_heads ON {schema}.{prefix}_states (head, position)
WHERE head IS NOT NULL AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS {prefix}_states_loose ON {schema}.{prefix}_states (head, position)
WHERE head IS NOT NULL AND key IS NULL;
CREATE INDEX IF NOT EXISTS {prefix}_states_backlog ON {schema}.{prefix}_states (position) INCLUDE (bytes, entered_at)
WHERE phase IN ('pending', 'claimed');
CREATE INDEX IF NOT EXISTS {prefix}_states_parked ON {schema}.{prefix}_states (position) WHERE phase = 'parked';
CREATE INDEX IF NOT EXISTS {prefix}_states_sent ON {schema}.{prefix}_states (sent_at, position)
WHERE sent_at IS NOT NULL;

-- Locked by whoever changes the state of an event with a key, never by an append: one of 256 for each key.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_lanes (lane BIGINT NOT NULL PRIMARY KEY);

INSERT INTO {schema}.{prefix}_lanes (lane) SELECT generate_series(0, 255) ON CONFLICT DO NOTHING;

INSERT INTO {schema}.{prefix}_schema (part, version) VALUES ('outbox', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
