-- What is done by hand, and by those who end. ARGV: 3 what; the rest as each says.
local what = ARGV[3]

-- Whether another piece fits in an answer; the first always does.
local room = 16777216
local function fits(answer, f)
  room = room - f.bytes
  return #answer == 0 or room >= 0
end

local function put(answer, ...)
  for _, part in ipairs({ ... }) do
    answer[#answer + 1] = part
  end
end

-- 4 id behind which, 5 max. Of each dead letter: id, count, rejected, sent, priority, key, reason, body.
local function letters()
  local answer = {}
  for _, id in ipairs(call('ZRANGE', DEAD, '(' .. ARGV[4], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[5])) do
    local f = facts(id)
    if not fits(answer, f) then
      break
    end
    put(answer, tonumber(id), f.count, f.rejected, f.sent, f.priority, f.key, f.reason, body(id))
  end
  return answer
end

-- 4 id, 5 messages_max, 6 bytes_max. 0 replayed, 1 not there, 2 messages_max, 3 bytes_max.
local function replay()
  local id = ARGV[4]
  local f = find(id)
  if not f or not f.rejected then
    return 1
  end
  tick()
  if call('XLEN', LOG) >= tonumber(ARGV[5]) then
    return 2
  end
  if counters.bytes + f.bytes > tonumber(ARGV[6]) then
    return 3
  end
  f.place = draw()
  f.due, f.expires, f.base, f.reason, f.rejected = now, false, f.count, '', false
  call('ZREM', DEAD, id)
  add('dead_bytes', -f.bytes)
  call('XADD', LOG, entry(f.place), 'm', id)
  keep(id, f)
  add('bytes', f.bytes)
  enter(id, f)
  return 0
end

-- 4 id. 0 discarded, 1 not there.
local function discard()
  local id = ARGV[4]
  local f = find(id)
  if not f or not f.rejected then
    return 1
  end
  call('ZREM', DEAD, id)
  add('dead_bytes', -f.bytes)
  call('HDEL', FACTS, id)
  call('HDEL', BODIES, id)
  return 0
end

-- 4 id behind which, 5 max. Of each message: id, count, 1 if it is out, sent, priority, key, reason, body.
local function peek()
  tick()
  local f = find(ARGV[4])
  -- One that is gone meanwhile had its place not before its id.
  local after = f and not f.rejected and entry(f.place) or ARGV[4] .. '-0'
  local answer = {}
  for _, one in ipairs(call('XRANGE', LOG, '(' .. after, '+', 'COUNT', ARGV[5])) do
    local id = one[2][2]
    f = facts(id)
    if not fits(answer, f) then
      break
    end
    local _, count = held(f)
    local out = call('ZSCORE', LEASES, id) and 1 or 0
    put(answer, tonumber(id), count, out, f.sent, f.priority, f.key, f.reason, body(id))
  end
  return answer
end

-- 4 place behind which, 5 last place (empty: the last that there is), 6 max. Purged, place reached (-1: the end), last place.
local function purge()
  tick()
  local last = ARGV[5] ~= '' and ARGV[5] or whole(counters.last)
  local seen = call('XRANGE', LOG, '(' .. ARGV[4] .. '-0', last .. '-0', 'COUNT', ARGV[6])
  local purged, reached = 0, -1
  for _, one in ipairs(seen) do
    local id = one[2][2]
    local f = facts(id)
    reached = f.place
    if not call('ZSCORE', LEASES, id) then
      drop(id, f)
      purged = purged + 1
    end
  end
  if #seen < tonumber(ARGV[6]) then
    reached = -1
  end
  return { purged, reached, tonumber(last) }
end

-- Lapsed, expired, 1 if more has come due; ready, out, all, dead letters, bytes, 1 if paused, age of the oldest (-1: none).
local function stats()
  local lapsed, expired, more = tick()
  local first = call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  local age = -1
  if first then
    age = math.max(0, now - facts(first[2][2]).sent)
  end
    return {
    lapsed, expired, more, call('ZCARD', READY), call('ZCARD', LEASES), call('XLEN', LOG), call('ZCARD', DEAD),
    counters.bytes, paused and 1 or 0, age,
  }
end

-- 4 0 or 1.
local function pause()
  call('HSET', META, 'paused', ARGV[4])
  wakes = true
  return 0
end

-- 4 consumer, 5 place behind which. Microseconds until a lease of it ends (-1: none seen), place reached (-1: the end).
local function leased()
  local pending = call('XPENDING', LOG, GROUP, '(' .. ARGV[5] .. '-0', '+', STEP, ARGV[4])
  local first, reached = -1, -1
  for _, one in ipairs(pending) do
    local place = string.match(one[1], '^%d+')
    reached = tonumber(place)
    local found = call('XRANGE', LOG, one[1], one[1])[1]
    local ends = found and call('ZSCORE', LEASES, found[2][2])
    if ends and tonumber(ends) > now then
      first = tonumber(ends) - now
      break
    end
  end
  if #pending < STEP then
    reached = -1
  end
  return { first, reached }
end

-- Ends leases, whoever has them. How many; 1 if there are more.
local function release()
  local pending = call('XPENDING', LOG, GROUP, '-', '+', STEP)
  local released = 0
  for _, one in ipairs(pending) do
    call('XACK', LOG, GROUP, one[1])
    local found = call('XRANGE', LOG, one[1], one[1])[1]
    if found then
      local id = found[2][2]
      local f = facts(id)
      f.count = one[4]
      keep(id, f)
      if call('ZREM', LEASES, id) == 1 then
        released = released + 1
        if f.expires then
          schedule(ENDS, f.expires, id)
        end
        make_ready(id, f)
      end
    end
  end
  return { released, #pending == STEP and 1 or 0 }
end

local all = {
  letters = letters, replay = replay, discard = discard, peek = peek, purge = purge, stats = stats, pause = pause,
  leased = leased, release = release,
}
local answer = all[what]()
finish()
return answer
