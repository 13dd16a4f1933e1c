-- Looks whether everything may be done and nothing else is there, and makes the store if it is missing. Returns as that of a queue.
local needs = {
  { 'EXISTS', META }, { 'TYPE', META }, { 'HGET', META, 'a' }, { 'HSET', META, 'a', 'b' }, { 'HINCRBY', META, 'a', 1 },
  { 'HDEL', ROWS, 'a' }, { 'HMGET', ROWS, 'a' }, { 'HLEN', ROWS }, { 'ZADD', INDEX, 0, 'a' }, { 'ZREM', INDEX, 'a' },
  { 'ZRANGEBYLEX', INDEX, '-', '+' }, { 'TIME' },
}
for _, command in ipairs(needs) do
  if not redis.acl_check_cmd(unpack(command)) then
    return { 0, command[1], '', '' }
  end
end
local kinds = { 'hash', 'hash', 'zset', 'zset' }
for at, kind in ipairs(kinds) do
  local found = call('TYPE', KEYS[at]).ok
  if found ~= 'none' and found ~= kind then
    return { 0, '', KEYS[at], found }
  end
end
ensure()
return { counter('schema'), '', '', '' }
