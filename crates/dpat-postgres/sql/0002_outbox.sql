-- Outbox, version 2: a function that appends. The server keeps the plans of its statements for each connection: for clients that
-- do not prepare what they run. What version 1 wrote stays as it is, and appends of version 1 go on.

-- Of an event: id, topic, key or NULL, deduplication key or NULL, time, the event, whether to notify. Returns its position, or
-- NULL if it is there already.
CREATE OR REPLACE FUNCTION {schema}.{prefix}_append(BYTEA, TEXT, TEXT, TEXT, BIGINT, BYTEA, BOOLEAN) RETURNS BIGINT
LANGUAGE plpgsql VOLATILE AS $append$
DECLARE
  appended BIGINT;
BEGIN
  INSERT INTO {schema}.{prefix}_events (id, topic, dedup, event) VALUES ($1, $2, $4, $6)
  ON CONFLICT DO NOTHING
  RETURNING position INTO appended;
  IF appended IS NULL THEN
    RETURN NULL;
  END IF;
  INSERT INTO {schema}.{prefix}_states
    (position, key, lane, bytes, phase, attempts, appended_at, entered_at, due, head)
  VALUES
    (appended, $3, get_byte(sha256(convert_to($3, 'UTF8')), 0), length($6), 'pending', 0, $5, $5, $5, $5);
  IF $7 THEN
    PERFORM pg_notify('dpat_outbox', '{schema}.{prefix}');
  END IF;
  RETURN appended;
END
$append$;

INSERT INTO {schema}.{prefix}_schema (part, version) VALUES ('outbox', 2)
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
