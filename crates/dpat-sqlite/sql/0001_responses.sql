-- Response store, version 1. `{prefix}` stands for the prefix of the tables; times are nanoseconds since 1970.

CREATE TABLE IF NOT EXISTS {prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT;

-- Records of requests. `key` is the length of the scope in one byte, the scope, the id.
CREATE TABLE {prefix}_records (
  key BLOB NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  -- From when on it may be forgotten; NULL: it must be kept.
  expires INTEGER,
  record BLOB NOT NULL
) STRICT;

CREATE INDEX {prefix}_records_expires ON {prefix}_records (expires) WHERE expires IS NOT NULL;

-- Counts, so that nobody has to count. Versions are drawn once for all records, so that none comes twice.
CREATE TABLE {prefix}_responses (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  last_version INTEGER NOT NULL,
  records INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;

INSERT INTO {prefix}_responses (one, last_version, records, bytes) VALUES (1, 0, 0, 0);

CREATE TRIGGER {prefix}_records_insert AFTER INSERT ON {prefix}_records BEGIN
  UPDATE {prefix}_responses
  SET
    last_version = max(last_version, NEW.version),
    records = records + 1,
    bytes = bytes + length(NEW.key) + length(NEW.record)
  WHERE one = 1;
END;

CREATE TRIGGER {prefix}_records_update AFTER UPDATE OF version, record ON {prefix}_records BEGIN
  UPDATE {prefix}_responses
  SET last_version = max(last_version, NEW.version), bytes = bytes + length(NEW.record) - length(OLD.record)
  WHERE one = 1;
END;

CREATE TRIGGER {prefix}_records_delete AFTER DELETE ON {prefix}_records BEGIN
  UPDATE {prefix}_responses
  SET records = records - 1, bytes = bytes - length(OLD.key) - length(OLD.record)
  WHERE one = 1;
END;

INSERT INTO {prefix}_schema (part, version) VALUES ('responses', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
