-- ARGV: 1 key, 2 expected version (empty: no row), 3 put, insert or remove, 4 record, 5 end (-: none), 6 rows, 7 bytes at
-- most.
-- Returns 0 done, 1 another version, 2 rows, 3 bytes; to an insert 0 and the version, and 1 and the row that is there.
ensure()
local key = ARGV[1]
local old = call('HGET', ROWS, key)
local version, expires = '', '-'
if old then
  version, expires = parts(key, old)
end
local inserts = ARGV[3] == 'insert'
if version ~= ARGV[2] then
  if inserts then
    return { 1, old }
  end
  return 1
end
if ARGV[3] == 'remove' then
  if old then
    call('HINCRBY', META, 'bytes', -remove(key, old))
  end
  return 0
end
if not old and call('HLEN', ROWS) >= tonumber(ARGV[6]) then
  return 2
end
-- Not below the server's time: also in a store that was emptied no version comes back.
local time = call('TIME')
local next = math.max(counter('version') + 1, time[1] * 1000000 + time[2])
local row = string.format('%.0f %s ', next, ARGV[5]) .. ARGV[4]
local grows = #row - #(old or '')
if not old then
  grows = grows + #key
end
if counter('bytes') + grows > tonumber(ARGV[7]) then
  return 3
end
call('HSET', ROWS, key, row)
call('HSET', META, 'version', string.format('%.0f', next))
call('HINCRBY', META, 'bytes', grows)
if not old then
  call('ZADD', INDEX, 0, key)
end
if expires ~= ARGV[5] then
  if expires ~= '-' then
    call('ZREM', EXPIRES, expires .. key)
  end
  if ARGV[5] ~= '-' then
    call('ZADD', EXPIRES, 0, ARGV[5] .. key)
  end
end
if inserts then
  return { 0, string.format('%.0f', next) }
end
return 0
