-- What the scripts of a queue do again and again.

-- How much that has come due is moved by one script.
local STEP = 1000
-- Larger than every place, and ten of it are a whole number in a double; priorities are multiples of it.
local PLACES = 900000000000000

-- Later than every time.
local NEVER = '9007199254740991'

-- Microseconds by the server's clock; asked for once.
local server_time
local function server_clock()
  if not server_time then
    local time = call('TIME')
    server_time = time[1] * 1000000 + time[2]
  end
  return server_time
end

local now = ARGV[1] ~= '' and tonumber(ARGV[1]) or server_clock()

local function whole(number)
  return string.format('%.0f', number)
end

local function entry(place)
  return string.format('%.0f-0', place)
end

-- The counters as they are now; `store` writes those that have changed.
local meta = call('HMGET', META, 'schema', 'last', 'bytes', 'dead_bytes', 'next', 'paused')
local schema, paused = tonumber(meta[1] or '0'), meta[6] == '1'
local counters = {
  last = tonumber(meta[2] or '0'), bytes = tonumber(meta[3] or '0'), dead_bytes = tonumber(meta[4] or '0'),
  -- Nothing comes due before this. If it is not there, look.
  next = tonumber(meta[5] or '0'),
}
local changed = {}

local function add(name, number)
  counters[name] = counters[name] + number
  changed[name] = true
end

local function store()
  local fields = {}
  for name in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = whole(counters[name])
  end
  if #fields > 0 then
    call('HSET', META, unpack(fields))
  end
end

-- Puts a message where it comes due at a time.
local function schedule(timer, time, id)
  call('ZADD', timer, time, id)
  if time < counters.next then
    counters.next = time
    changed.next = true
  end
end

-- Makes the queue if it is not there: the first time, and after somebody has emptied the server.
if not meta[1] then
  call('XGROUP', 'CREATE', LOG, GROUP, '0', 'MKSTREAM')
  call('HSET', META, 'schema', SCHEMA)
end

-- Draws a place. Not below the server's time: also in a queue that was emptied, or is on a replica that was not told of all,
-- none is given twice.
local function draw()
  local least = math.floor(server_clock() / 1000) * 128
  counters.last = math.max(counters.last + 1, least)
  changed.last = true
  return counters.last
end

local function unpacked(packed)
  if not packed then
    return nil
  end
  local f = cmsgpack.unpack(packed)
  return {
    place = f[1], priority = f[2], bytes = f[3], sent = f[4], due = f[5], expires = f[6],
    key = f[7], count = f[8], base = f[9], reason = f[10], rejected = f[11],
  }
end

local function find(id)
  return unpacked(call('HGET', FACTS, id))
end

local function lacks(id, what)
  return error({ err = 'CORRUPT message ' .. id .. ' is listed, and its ' .. what })
end

-- Of a message that is there.
local function facts(id)
  return find(id) or lacks(id, 'facts are gone')
end

local function body(id)
  return call('HGET', BODIES, id) or lacks(id, 'body is gone')
end

local function packed(f)
  return cmsgpack.pack({
    f.place, f.priority, f.bytes, f.sent, f.due, f.expires, f.key, f.count, f.base, f.reason, f.rejected,
  })
end

local function keep(id, f)
  call('HSET', FACTS, id, packed(f))
end

-- One command for many: a script costs by its commands.
local function many(command, key, arguments)
  if #arguments > 0 then
    return call(command, key, unpack(arguments))
  end
  return 0
end

local wakes = false
-- Where a script makes many ready: scores and ids, which it adds at its end.
local readied

local function make_ready(id, f)
  if not wakes and call('ZCARD', READY) == 0 then
    wakes = true
  end
  local score = (9 - f.priority) * PLACES + f.place
  if readied then
    readied[#readied + 1] = score
    readied[#readied + 1] = id
  else
    call('ZADD', READY, score, id)
  end
end

-- Puts a message that nothing of its key is before where its time says.
local function arm(id, f)
  if f.due <= now then
    make_ready(id, f)
    return
  end
  schedule(DELAYED, f.due, id)
  if call('ZRANK', DELAYED, id) == 0 then
    wakes = true
  end
end

-- Ends a script: writes the counters, and tells who waits that there is something to look for.
local function finish()
  store()
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
  -- It is in one of them, or waits behind another of its key.
  if call('ZREM', LEASES, id) == 0 and call('ZREM', READY, id) == 0 then
    call('ZREM', DELAYED, id)
  end
  if f.expires then
    call('ZREM', ENDS, id)
  end
  add('bytes', -f.bytes)
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

-- Whether a receipt has a say in a message with these facts.
local function has_say(f, consumer, count)
  if not f or f.rejected then
    return false
  end
  local by, times = held(f)
  return by == consumer and times == count
end

local function first_time(timer)
  return tonumber(call('ZRANGE', timer, 0, 0, 'WITHSCORES')[2] or NEVER)
end

-- Moves what has come due: ended leases, times that have passed, messages that have ended. Says how many leases and messages ended,
-- and whether there is more.
local function tick()
  if now < counters.next then
    return 0, 0, 0
  end
  local lapsed, expired = 0, 0
  for _, id in ipairs(call('ZRANGE', LEASES, '-inf', now, 'BYSCORE', 'LIMIT', 0, STEP)) do
    local f = facts(id)
    call('ZREM', LEASES, id)
    lapsed = lapsed + 1
    if f.expires and f.expires <= now then
      drop(id, f)
      expired = expired + 1
    else
      -- What is ready has its count in its facts.
      local _, count = held(f)
      f.count = count
      keep(id, f)
      if f.expires then
        schedule(ENDS, f.expires, id)
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
  counters.next = math.min(first_time(LEASES), first_time(ENDS), first_time(DELAYED))
  changed.next = true
  local more = lapsed == STEP or #ended == STEP or #due == STEP
  return lapsed, expired, more and 1 or 0
end

-- Microseconds until a message or a lease comes due; -1: never.
local function until_next()
  local first = math.min(first_time(LEASES), first_time(DELAYED))
  return first == tonumber(NEVER) and -1 or math.max(0, first - now)
end
