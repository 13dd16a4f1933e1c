-- Inbox, version 1. `{schema}` stands for the schema, `{prefix}` for the prefix of the tables; times are nanoseconds
-- since 1970.

CREATE TABLE IF NOT EXISTS {schema}.{prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL
);

-- The messages that took effect or were cancelled, and when.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_markers (
  scope TEXT COLLATE "C" NOT NULL,
  id TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  marker BYTEA NOT NULL,
  PRIMARY KEY (scope, id)
);

CREATE INDEX IF NOT EXISTS {prefix}_markers_at ON {schema}.{prefix}_markers (at);

INSERT INTO {schema}.{prefix}_schema (part, version) VALUES ('inbox', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
