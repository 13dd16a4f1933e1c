-- Outbox: events that wait, their bytes, given up, sent and not yet purged.
SELECT backlog_rows, backlog_bytes, parked, sent FROM {prefix}_outbox;

-- Outbox: how long the oldest event has waited, in seconds.
SELECT strftime('%s', 'now') - min(appended_at) / 1000000000 AS seconds FROM {prefix}_states WHERE due IS NOT NULL;

-- Outbox: what was given up, and why.
SELECT position, topic, attempts, reason FROM {prefix}_states JOIN {prefix}_events USING (position) WHERE phase = 'parked';

-- Queue: messages that are not handled, their bytes, dead letters, keys that are remembered, whether it is paused.
SELECT live, live_bytes, dead, dedups, paused FROM {prefix}_queue;

-- Queue: how many are out.
SELECT count(*) AS leased FROM {prefix}_deliveries WHERE leased_until IS NOT NULL;

-- Queue: dead letters, and why.
SELECT id, count, reason FROM {prefix}_deliveries WHERE due IS NULL;

-- Inbox and response store: rows against their limits.
SELECT markers FROM {prefix}_inbox;
SELECT records, bytes FROM {prefix}_responses;
