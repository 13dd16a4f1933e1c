-- Inbox, version 1. `{prefix}` stands for the prefix of the tables; times are nanoseconds since 1970.

CREATE TABLE IF NOT EXISTS {prefix}_schema (
  part TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT;

-- The messages that took effect or were cancelled, and when.
CREATE TABLE {prefix}_markers (
  scope TEXT NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  marker BLOB NOT NULL,
  PRIMARY KEY (scope, id)
) STRICT;

CREATE INDEX {prefix}_markers_at ON {prefix}_markers (at);

-- A count, so that nobody has to count.
CREATE TABLE {prefix}_inbox (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  markers INTEGER NOT NULL
) STRICT;

INSERT INTO {prefix}_inbox (one, markers) VALUES (1, 0);

CREATE TRIGGER {prefix}_markers_insert AFTER INSERT ON {prefix}_markers BEGIN
  UPDATE {prefix}_inbox SET markers = markers + 1 WHERE one = 1;
END;

CREATE TRIGGER {prefix}_markers_delete AFTER DELETE ON {prefix}_markers BEGIN
  UPDATE {prefix}_inbox SET markers = markers - 1 WHERE one = 1;
END;

INSERT INTO {prefix}_schema (part, version) VALUES ('inbox', 1)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
