-- ARGV: 3 max, 4 visibility, 5 consumer, 6 bytes of bodies at most, beyond the first. Returns lapsed, expired, microseconds until
-- something comes due (-1: never), 1 if those bytes were too few, and of each message: id, count, attempt, sent, priority, key,
-- body.
if paused then
  return { 0, 0, -1, 0 }
end
local max, ends, room = tonumber(ARGV[3]), now + tonumber(ARGV[4]), tonumber(ARGV[6])
local lapsed, expired = tick()
local answer = { 0, 0, 0, 0 }
local taken, full = 0, false
while taken < max do
  local ready = call('ZRANGE', READY, 0, max - taken - 1)
  if #ready == 0 then
    break
  end
  for _, id in ipairs(ready) do
    local f = facts(id)
    if f.expires and f.expires <= now then
      drop(id, f)
      expired = expired + 1
    else
      if taken > 0 and f.bytes > room then
        full = true
        break
      end
      room = room - f.bytes
      local _, count = held(f)
      count = count + 1
      call('XCLAIM', LOG, GROUP, ARGV[5], 0, entry(f.place), 'RETRYCOUNT', count, 'FORCE', 'JUSTID')
      call('ZREM', READY, id)
      schedule(LEASES, ends, id)
      if f.expires then
        call('ZREM', ENDS, id)
      end
      taken = taken + 1
      for _, part in ipairs({ tonumber(id), count, count - f.base, f.sent, f.priority, f.key, body(id) }) do
        answer[#answer + 1] = part
      end
    end
  end
  if full then
    break
  end
end
answer[1], answer[2], answer[3] = lapsed, expired, taken == 0 and until_next() or 0
answer[4] = full and 1 or 0
finish()
return answer
