-- What all scripts of a queue share. Times are microseconds since 1970, by the caller's clock or, if it passed none, by the
-- server's. A message is named by its id; its place is its entry in the stream, and a replayed one has a new place.
--
-- META     hash    schema, last (number drawn), bytes, dead_bytes, next (nothing comes due before it), paused
-- LOG      stream  one entry a message, `PLACE-0`, in the order of sending; the group `dpat` has what is out
-- FACTS    hash    id -> what scripts need to know of it
-- BODIES   hash    id -> headers and payload
-- READY    zset    what can be handed out, by priority and place
-- DELAYED  zset    what waits for its time
-- LEASES   zset    what is out, by the end of its lease
-- ENDS     zset    what ends unless it is handed out before
-- LANES    zset    the messages of each key, in order
-- DEAD     zset    dead letters
-- DEDUPS   hash    deduplication key -> id
-- WINDOWS  zset    deduplication keys, by the end of their window
local META, LOG, FACTS, BODIES, READY, DELAYED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local LEASES, ENDS, LANES, DEAD, DEDUPS, WINDOWS = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local GROUP = 'dpat'
local SCHEMA = 0
local call = redis.call
local channel = ARGV[2]

