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

-- Version and end of a row; none: it cannot be read.
local function parts(row)
  return string.match(row, '^(%d+) ([-%d]+) ')
end

local function version_of(row)
  local version = parts(row)
  return version
end

-- One command for many: a script costs by its commands.
local function many(command, key, arguments)
  if #arguments > 0 then
    call(command, key, unpack(arguments))
  end
end
