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

-- Messages without a key that are done: they go at the end, by one command for all.
local gone, gone_entries, gone_ends, is_gone = {}, {}, {}, {}

local function done(id, f)
  if f.key ~= '' then
    return drop(id, f)
  end
  is_gone[id] = true
  gone[#gone + 1] = id
  gone_entries[#gone_entries + 1] = entry(f.place)
  if f.expires then
    gone_ends[#gone_ends + 1] = id
  end
  add('bytes', -f.bytes)
end

local function remove_gone()
  if #gone == 0 then
    return
  end
  many('XDEL', LOG, gone_entries)
  table.insert(gone_entries, 1, GROUP)
  many('XACK', LOG, gone_entries)
  -- What is not leased any more is ready again.
  if many('ZREM', LEASES, gone) < #gone then
    many('ZREM', READY, gone)
  end
  many('ZREM', ENDS, gone_ends)
  many('HDEL', FACTS, gone)
  many('HDEL', BODIES, gone)
end

local lapsed, expired = tick()
local answers = { lapsed, expired }
local ids = {}
for at = 5, #ARGV, 6 do
  ids[#ids + 1] = ARGV[at]
end
-- A second settlement of one delivery finds it acknowledged, whatever these say.
local known = many('HMGET', FACTS, ids)
for number, id in ipairs(ids) do
  local at = 6 * number - 1
  local count, outcome = tonumber(ARGV[at + 2]), ARGV[at + 3]
  local f = not is_gone[id] and unpacked(known[number])
  local code = 0
  if not has_say(f, ARGV[at + 1], count) then
    code = 1
  elseif outcome == 'done' then
    done(id, f)
  elseif outcome == 'retry' then
    retry(id, f, count, tonumber(ARGV[at + 4]), ARGV[at + 5])
  else
    code = reject(id, f, count, ARGV[at + 5])
  end
  answers[#answers + 1] = code
end
remove_gone()
finish()
return answers
