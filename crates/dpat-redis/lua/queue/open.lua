-- Looks whether everything may be done and nothing else is there, makes the queue if it is missing, and forgets consumers
-- that are gone. ARGV: 3 idle time of consumers that are gone, in ms. Returns the schema that is there, a command that is
-- not allowed (empty: none is missing), a key that holds something else (empty: none), and what it holds.
local needs = {
  { 'EXISTS', META }, { 'TYPE', META }, { 'HGET', META, 'a' }, { 'HSET', META, 'a', 'b' }, { 'HINCRBY', META, 'a', 1 },
  { 'HDEL', META, 'a' }, { 'XGROUP', 'CREATE', LOG, GROUP, '0', 'MKSTREAM' }, { 'XINFO', 'CONSUMERS', LOG, GROUP },
  { 'XGROUP', 'DELCONSUMER', LOG, GROUP, 'a' }, { 'XADD', LOG, '1-0', 'm', '1' }, { 'XDEL', LOG, '1-0' },
  { 'XLEN', LOG }, { 'XRANGE', LOG, '-', '+' }, { 'XACK', LOG, GROUP, '1-0' }, { 'XCLAIM', LOG, GROUP, 'a', 0, '1-0' },
  { 'XPENDING', LOG, GROUP }, { 'ZADD', READY, 1, 'a' }, { 'ZREM', READY, 'a' }, { 'ZCARD', READY },
  { 'ZSCORE', READY, 'a' }, { 'ZRANK', READY, 'a' }, { 'ZRANGE', READY, 0, 0 }, { 'ZRANGEBYLEX', LANES, '-', '+' },
  { 'PUBLISH', channel, '' }, { 'TIME' },
}
for _, command in ipairs(needs) do
  if not redis.acl_check_cmd(unpack(command)) then
    return { 0, command[1], '', '' }
  end
end
local kinds = { 'hash', 'stream', 'hash', 'hash', 'zset', 'zset', 'zset', 'zset', 'zset', 'zset', 'hash', 'zset' }
for at, kind in ipairs(kinds) do
  local found = call('TYPE', KEYS[at]).ok
  if found ~= 'none' and found ~= kind then
    return { 0, '', KEYS[at], found }
  end
end
ensure()
local schema = counter('schema')
if schema <= SCHEMA then
  local gone = 0
  for _, info in ipairs(call('XINFO', 'CONSUMERS', LOG, GROUP)) do
    -- name NAME pending NUMBER idle MS
    if info[4] == 0 and info[6] > tonumber(ARGV[3]) and gone < 100 then
      call('XGROUP', 'DELCONSUMER', LOG, GROUP, info[2])
      gone = gone + 1
    end
  end
end
return { schema, '', '', '' }
