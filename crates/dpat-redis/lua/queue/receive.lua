-- ARGV: 3 max, 4 visibility, 5 consumer, 6 bytes of bodies at most, beyond the first. Returns lapsed, expired, microseconds until
-- something comes due (-1: never), 1 if those bytes were too few, and of each message: id, count, attempt, sent, priority, key,
-- body.
if paused then
  return { 0, 0, -1, 0 }
end
local max, ends, room = tonumber(ARGV[3]), now + tonumber(ARGV[4]), tonumber(ARGV[6])
local lapsed, expired = tick()
-- Of what is taken: ids, facts, pairs of end and id, those that would have ended, entries by the count that they get.
local taken, known, leased, ending, claimed = {}, {}, {}, {}, {}
local full = false

local function take(id, f)
  room = room - f.bytes
  f.count = f.count + 1
  taken[#taken + 1] = id
  known[#known + 1] = f
  leased[#leased + 1] = ends
  leased[#leased + 1] = id
  if f.expires then
    ending[#ending + 1] = id
  end
  claimed[f.count] = claimed[f.count] or {}
  table.insert(claimed[f.count], entry(f.place))
end

-- Takes what is ready as long as there is room for it; false: it has ended, and there may be more behind it.
local function take_ready()
  local ready = call('ZRANGE', READY, 0, max - #taken - 1)
  if #ready == 0 then
    return true
  end
  local over = true
  for at, found in ipairs(call('HMGET', FACTS, unpack(ready))) do
    local id = ready[at]
    local f = unpacked(found) or lacks(id, 'facts are gone')
    if f.expires and f.expires <= now then
      drop(id, f)
      expired = expired + 1
      over = false
    elseif #taken > 0 and f.bytes > room then
      full = true
      return true
    else
      take(id, f)
    end
  end
  return over
end

-- Done with `taken` in one step: what the next look would find again is no longer there.
local reached = 0
repeat
  local over = take_ready()
  local new = {}
  for at = reached + 1, #taken do
    new[#new + 1] = taken[at]
  end
  reached = #taken
  many('ZREM', READY, new)
until over or reached >= max
many('ZADD', LEASES, leased)
many('ZREM', ENDS, ending)
for count, entries in pairs(claimed) do
  local arguments = { GROUP, ARGV[5], 0 }
  for _, one in ipairs(entries) do
    arguments[#arguments + 1] = one
  end
  for _, option in ipairs({ 'RETRYCOUNT', count, 'FORCE', 'JUSTID' }) do
    arguments[#arguments + 1] = option
  end
  many('XCLAIM', LOG, arguments)
end
local answer = { lapsed, expired, 0, full and 1 or 0 }
if #taken == 0 then
  answer[3] = until_next()
else
  if ends < counters.next then
    counters.next = ends
    changed.next = true
  end
  local bodies = call('HMGET', BODIES, unpack(taken))
  for at, f in ipairs(known) do
    local id = taken[at]
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = tonumber(id), f.count, f.count - f.base, f.sent
    answer[n + 5], answer[n + 6], answer[n + 7] = f.priority, f.key, bodies[at] or lacks(id, 'body is gone')
  end
end
finish()
return answer
