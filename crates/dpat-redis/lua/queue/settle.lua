-- ARGV: 3 dead_max, 4 dead_bytes_max; then of each delivery: id, consumer, count, outcome (done, retry, reject), delay, reason.
-- Returns lapsed, expired, and of each: 0 settled, 1 stale, 2 dead_max, 3 dead_bytes_max.
local dead_max, dead_bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4])

local function retry(id, f, count, delay, reason)
  call('XACK', LOG, GROUP, entry(f.place))
  if call('ZREM', LEASES, id) == 0 then
    call('ZREM', READY, id)
  end
  f.count, f.due, f.reason = count, now + delay, reason
  if f.expires and f.expires <= now then
    return drop(id, f)
  end
  keep(id, f)
  if f.expires then
    schedule(ENDS, f.expires, id)
  end
  arm(id, f)
end

local function reject(id, f, count, reason)
  if call('ZCARD', DEAD) >= dead_max then
    return 2
  end
  if counters.dead_bytes + f.bytes > dead_bytes_max then
    return 3
  end
  detach(id, f)
  f.count, f.reason, f.rejected = count, reason, now
  keep(id, f)
  call('ZADD', DEAD, id, id)
  add('dead_bytes', f.bytes)
  return 0
end

local lapsed, expired = tick()
local answers = { lapsed, expired }
for at = 5, #ARGV, 6 do
  local id, count, outcome = ARGV[at], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local f = of_receipt(id, ARGV[at + 1], count)
  local code = 0
  if not f then
    code = 1
  elseif outcome == 'done' then
    drop(id, f)
  elseif outcome == 'retry' then
    retry(id, f, count, tonumber(ARGV[at + 4]), ARGV[at + 5])
  else
    code = reject(id, f, count, ARGV[at + 5])
  end
  answers[#answers + 1] = code
end
finish()
return answers
