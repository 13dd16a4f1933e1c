-- Looks whether everything may be done and nothing else is there, before anything is. Returns the schema (0), a command that is
-- not allowed (empty: none is missing), a key that holds something else, and what it holds.
local needs = {
  { 'HMGET', META, 'a' }, { 'TYPE', META }, { 'HGET', META, 'a' }, { 'HSET', META, 'a', 'b' },
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
