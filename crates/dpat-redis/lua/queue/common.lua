-- What all scripts of a queue share. Times are microseconds since 1970, by the caller's clock or, if it passed none, by the
-- server's. A message is named by its id; its place is its entry in the stream, and a replayed one has a new place.
--
-- META     hash    schema, last (number drawn), bytes, dead_bytes, paused
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
-- How much that has come due is moved by one script.
local STEP = 1000
-- Larger than every place, and ten of it are a whole number in a double; priorities are multiples of it.
local PLACES = 900000000000000

local call = redis.call

local function clock()
  if ARGV[1] ~= '' then
    return tonumber(ARGV[1])
  end
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end
local now = clock()
local channel = ARGV[2]

local function whole(number)
  return string.format('%.0f', number)
end

local function entry(place)
  return string.format('%.0f-0', place)
end

local function counter(name)
  return tonumber(call('HGET', META, name) or '0')
end

-- Makes the queue if it is not there: the first time, and after somebody has emptied the server.
local function ensure()
  if call('EXISTS', META) == 0 then
    call('XGROUP', 'CREATE', LOG, GROUP, '0', 'MKSTREAM')
    call('HSET', META, 'schema', SCHEMA, 'bytes', 0, 'dead_bytes', 0)
  end
end

-- Draws a place. Not below the server's time: also in a queue that was emptied, or is on a replica that was not told of all, none is
-- given twice.
local function draw()
  local time = call('TIME')
  local least = (time[1] * 1000 + math.floor(time[2] / 1000)) * 128
  local place = math.max(counter('last') + 1, least)
  call('HSET', META, 'last', whole(place))
  return place
end

local function find(id)
  local packed = call('HGET', FACTS, id)
  if not packed then
    return nil
  end
  local f = cmsgpack.unpack(packed)
  return {
    place = f[1], priority = f[2], bytes = f[3], sent = f[4], due = f[5], expires = f[6],
    key = f[7], count = f[8], base = f[9], reason = f[10], rejected = f[11],
  }
end

-- Of a message that is there.
local function facts(id)
  return find(id) or error({ err = 'CORRUPT message ' .. id .. ' is listed, and its facts are gone' })
end

local function body(id)
  return call('HGET', BODIES, id) or error({ err = 'CORRUPT message ' .. id .. ' is listed, and its body is gone' })
end

local function keep(id, f)
  call('HSET', FACTS, id, cmsgpack.pack({
    f.place, f.priority, f.bytes, f.sent, f.due, f.expires, f.key, f.count, f.base, f.reason, f.rejected,
  }))
end

local wakes = false

local function make_ready(id, f)
  if not wakes and call('ZCARD', READY) == 0 then
    wakes = true
  end
  call('ZADD', READY, (9 - f.priority) * PLACES + f.place, id)
end

-- Puts a message that nothing of its key is before where its time says.
local function arm(id, f)
  if f.due <= now then
    make_ready(id, f)
    return
  end
  call('ZADD', DELAYED, f.due, id)
  if call('ZRANK', DELAYED, id) == 0 then
    wakes = true
  end
end

-- Tells who waits that there is something to look for.
local function wake()
  if wakes then
    call('PUBLISH', channel, '')
  end
end

local function lane(key)
  return string.format('%02x', #key) .. key
end

-- The first message of a key.
local function head(key)
  local prefix = lane(key)
  local first = call('ZRANGEBYLEX', LANES, '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, 1)[1]
  return first and string.sub(first, #prefix + 17)
end

local function lane_member(id, f)
  return lane(f.key) .. string.format('%016.0f', f.place) .. id
end

-- Puts a message behind those of its key; only the first of them is armed.
local function enter(id, f)
  if f.key == '' then
    return arm(id, f)
  end
  local first = head(f.key)
  call('ZADD', LANES, 0, lane_member(id, f))
  if not first then
    arm(id, f)
  end
end

-- Takes a message out of its key, and arms the one behind it.
local function leave(id, f)
  if f.key == '' then
    return
  end
  local first = head(f.key) == id
  call('ZREM', LANES, lane_member(id, f))
  local next = first and head(f.key)
  if next then
    arm(next, facts(next))
  end
end

-- Takes a message out of everything but FACTS and BODIES.
local function detach(id, f)
  call('XACK', LOG, GROUP, entry(f.place))
  call('XDEL', LOG, entry(f.place))
  call('ZREM', LEASES, id)
  call('ZREM', READY, id)
  call('ZREM', DELAYED, id)
  if f.expires then
    call('ZREM', ENDS, id)
  end
  call('HINCRBY', META, 'bytes', -f.bytes)
  leave(id, f)
end

local function drop(id, f)
  detach(id, f)
  call('HDEL', FACTS, id)
  call('HDEL', BODIES, id)
end

-- Who has a message, and how often it was handed out.
local function held(f)
  local pending = call('XPENDING', LOG, GROUP, entry(f.place), entry(f.place), 1)[1]
  if pending then
    return pending[2], pending[4]
  end
  return nil, f.count
end

-- Facts of a message that a receipt has a say in; and the count.
local function of_receipt(id, consumer, count)
  local f = find(id)
  if not f or f.rejected then
    return nil
  end
  local by, times = held(f)
  if by ~= consumer or times ~= count then
    return nil
  end
  return f
end

-- Moves what has come due: ended leases, times that have passed, messages that have ended.
local function tick()
  local lapsed, expired, moved = 0, 0, 0
  for _, id in ipairs(call('ZRANGE', LEASES, '-inf', now, 'BYSCORE', 'LIMIT', 0, STEP)) do
    local f = facts(id)
    call('ZREM', LEASES, id)
    lapsed = lapsed + 1
    if f.expires and f.expires <= now then
      drop(id, f)
      expired = expired + 1
    else
      if f.expires then
        call('ZADD', ENDS, f.expires, id)
      end
      make_ready(id, f)
    end
  end
  local ended = call('ZRANGE', ENDS, '-inf', now, 'BYSCORE', 'LIMIT', 0, STEP)
  for _, id in ipairs(ended) do
    drop(id, facts(id))
    expired = expired + 1
  end
  local due = call('ZRANGE', DELAYED, '-inf', now, 'BYSCORE', 'LIMIT', 0, STEP)
  for _, id in ipairs(due) do
    call('ZREM', DELAYED, id)
    make_ready(id, facts(id))
  end
  local more = lapsed == STEP or #ended == STEP or #due == STEP
  return lapsed, expired, more and 1 or 0
end

-- Microseconds until a message or a lease comes due; -1: never.
local function until_next()
  local first = -1
  for _, timers in ipairs({ DELAYED, LEASES }) do
    local next = call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
    if next then
      local left = math.max(0, tonumber(next) - now)
      if first < 0 or left < first then
        first = left
      end
    end
  end
  return first
end
