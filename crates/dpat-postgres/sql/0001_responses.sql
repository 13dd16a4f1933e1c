-- Response store, version 1. `{schema}` stands for the schema, `{prefix}` for the prefix of the tables; times are
-- nanoseconds since 1970.

CREATE TABLE IF NOT EXISTS {schema}.{prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL
);

-- Drawn for all records, so that no version comes twice.
CREATE SEQUENCE IF NOT EXISTS {schema}.{prefix}_versions;

-- Records of requests. `key` is the length of the scope in one byte, the scope, the id.
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_records (
  key BYTEA NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  -- From when on it may be forgotten; NULL: it must be kept.
  expires BIGINT,
  -- Of key and record.
  bytes BIGINT NOT NULL,
  record BYTEA NOT NULL
);

CREATE INDEX IF NOT EXISTS {prefix}_records_expires ON {schema}.{prefix}_records (expires)
WHERE expires IS NOT NULL;

INSERT INTO {schema}.{prefix}_schema (part, version) VALUES ('responses', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
