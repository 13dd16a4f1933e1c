-- Changes of rows, one after the other; what they come to is written at the end, by one command for all.
--
-- ARGV: 1 rows, 2 bytes at most; then of each change: put, insert or remove; key; expected version (empty: no row); record; end
-- (-: none).
-- Returns of each a code and a text: 0 done, and the version of what was inserted; 1 another version, and the row that an insert found;
-- 2 rows, 3 bytes, 4 the row cannot be read.
local rows_max, bytes_max = tonumber(ARGV[1]), tonumber(ARGV[2])
local keys, before, now = {}, {}, {}
for at = 3, #ARGV, 5 do
  local key = ARGV[at + 1]
  if before[key] == nil then
    before[key] = false
    keys[#keys + 1] = key
  end
end
for at, row in ipairs(call('HMGET', ROWS, unpack(keys))) do
  before[keys[at]], now[keys[at]] = row, row
end
local meta = call('HMGET', META, 'schema', 'version', 'bytes')
local last, bytes, rows = tonumber(meta[2] or '0'), tonumber(meta[3] or '0'), call('HLEN', ROWS)

-- Not below the server's time: also in a store that was emptied no version comes back.
local least
local function draw()
  if not least then
    local time = call('TIME')
    least = time[1] * 1000000 + time[2]
  end
  last = math.max(last + 1, least)
  return string.format('%.0f', last)
end

local function change(what, key, expected, record, ends)
  local old = now[key]
  local version = ''
  if old then
    version = version_of(old)
    if not version then
      return 4, ''
    end
  end
  if version ~= expected then
    return 1, what == 'insert' and old or ''
  end
  if what == 'remove' then
    if old then
      bytes = bytes - #key - #old
      rows = rows - 1
      now[key] = false
    end
    return 0, ''
  end
  if not old and rows >= rows_max then
    return 2, ''
  end
  -- One that is refused for its bytes has drawn a version in vain.
  local next = draw()
  local row = next .. ' ' .. ends .. ' ' .. record
  local grows = #row - #(old or '')
  if not old then
    grows = grows + #key
  end
  if bytes + grows > bytes_max then
    return 3, ''
  end
  bytes = bytes + grows
  if not old then
    rows = rows + 1
  end
  now[key] = row
  return 0, next
end

local answers = {}
for at = 3, #ARGV, 5 do
  local code, text = change(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  answers[#answers + 1] = code
  answers[#answers + 1] = text
end

local function end_of(row)
  if not row then
    return '-'
  end
  local _, ends = parts(row)
  return ends
end

local written, removed, listed, ending, ended = {}, {}, {}, {}, {}
local function put(list, ...)
  for _, one in ipairs({ ... }) do
    list[#list + 1] = one
  end
end
for _, key in ipairs(keys) do
  local old, new = before[key], now[key]
  if old ~= new then
    if new then
      put(written, key, new)
    else
      put(removed, key)
    end
    if new and not old then
      put(listed, 0, key)
    end
    local from, to = end_of(old), end_of(new)
    if from ~= to then
      if from ~= '-' then
        put(ended, from .. key)
      end
      if to ~= '-' then
        put(ending, 0, to .. key)
      end
    end
  end
end
if #written > 0 or #removed > 0 then
  many('HSET', ROWS, written)
  many('HDEL', ROWS, removed)
  many('ZADD', INDEX, listed)
  many('ZREM', INDEX, removed)
  many('ZREM', EXPIRES, ended)
  many('ZADD', EXPIRES, ending)
  call('HSET', META, 'schema', meta[1] or SCHEMA, 'version', string.format('%.0f', last), 'bytes', string.format('%.0f', bytes))
end
return answers
