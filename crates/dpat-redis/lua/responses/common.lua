-- What all scripts of a response store share.
--
-- META     hash  schema, version (the last one given), bytes
-- ROWS     hash  key -> `VERSION EXPIRES RECORD`; EXPIRES is `-` or 20 digits of nanoseconds
-- INDEX    zset  keys, in their order
-- EXPIRES  zset  20 digits and a key, for rows that may be forgotten
local META, ROWS, INDEX, EXPIRES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SCHEMA = 0

local call = redis.call

local function counter(name)
  return tonumber(call('HGET', META, name) or '0')
end

local function ensure()
  if call('EXISTS', META) == 0 then
    call('HSET', META, 'schema', SCHEMA, 'bytes', 0)
  end
end

-- Version, end and record of a row.
local function parts(key, row)
  local version, expires, at = string.match(row, '^(%d+) ([-%d]+) ()')
  if not version then
    error({ err = 'CORRUPT row of a key of ' .. #key .. ' bytes: it has no version' })
  end
  return version, expires, at
end

-- Takes a row out of everything; how many bytes it was.
local function remove(key, row)
  local _, expires = parts(key, row)
  call('HDEL', ROWS, key)
  call('ZREM', INDEX, key)
  if expires ~= '-' then
    call('ZREM', EXPIRES, expires .. key)
  end
  return #key + #row
end
