-- ARGV: 3 messages_max, 4 bytes_max, 5 dedup_max, 6 dedup_window; then of each message: priority, bytes, delay, ttl (0: none),
-- key, dedup (empty: none), body. Returns of each a code and a number: 0 id, 1 id of the first, 2 messages_max, 3 bytes_max,
-- 4 dedup_max.
local messages_max, bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4])
local dedup_max, dedup_window = tonumber(ARGV[5]), tonumber(ARGV[6])
local messages = call('XLEN', LOG)
local answers = {}

local function answer(code, number)
  answers[#answers + 1] = code
  answers[#answers + 1] = number
end

-- Of what is sent, written at the end by one command each.
local new_facts, new_bodies = {}, {}
readied = {}

local function write()
  many('HSET', FACTS, new_facts)
  many('HSET', BODIES, new_bodies)
  many('ZADD', READY, readied)
  new_facts, new_bodies, readied = {}, {}, {}
end

local ticked = false
local function is_full(size)
  if messages >= messages_max or counters.bytes + size > bytes_max then
    if not ticked then
      -- What has ended makes room.
      ticked = true
      write()
      tick()
      write()
      messages = call('XLEN', LOG)
    end
    if messages >= messages_max then
      return 2
    end
    if counters.bytes + size > bytes_max then
      return 3
    end
  end
  return nil
end

local function forget(dedup)
  call('HDEL', DEDUPS, dedup)
  call('ZREM', WINDOWS, dedup)
end

local function first_of(dedup)
  local known = call('ZSCORE', WINDOWS, dedup)
  if known and tonumber(known) > now then
    return tonumber(call('HGET', DEDUPS, dedup))
  end
  if known then
    forget(dedup)
  end
  for _, old in ipairs(call('ZRANGE', WINDOWS, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    forget(old)
  end
  return nil
end

for at = 7, #ARGV, 7 do
  local size, dedup = tonumber(ARGV[at + 1]), ARGV[at + 5]
  local first = dedup ~= '' and first_of(dedup)
  if first then
    answer(1, first)
  elseif dedup ~= '' and call('ZCARD', WINDOWS) >= dedup_max then
    answer(4, 0)
  else
    local full = is_full(size)
    if full then
      answer(full, 0)
    else
      local place = draw()
      local id = whole(place)
      local due, ttl = now + tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
      local f = {
        place = place, priority = tonumber(ARGV[at]), bytes = size, sent = now, due = due,
        expires = ttl > 0 and due + ttl, key = ARGV[at + 4], count = 0, base = 0, reason = '', rejected = false,
      }
      call('XADD', LOG, id .. '-0', 'm', id)
      local n = #new_facts
      new_facts[n + 1], new_facts[n + 2] = id, packed(f)
      new_bodies[n + 1], new_bodies[n + 2] = id, ARGV[at + 6]
      if f.expires then
        schedule(ENDS, f.expires, id)
      end
      if dedup ~= '' then
        call('HSET', DEDUPS, dedup, id)
        call('ZADD', WINDOWS, now + dedup_window, dedup)
      end
      add('bytes', size)
      messages = messages + 1
      enter(id, f)
      answer(0, place)
    end
  end
end
write()
finish()
return answers
