-- ARGV: 1 up to where (as ZRANGEBYLEX has it), 2 max. Returns how many were forgotten.
ensure()
local over = call('ZRANGEBYLEX', EXPIRES, '-', ARGV[1], 'LIMIT', 0, ARGV[2])
local bytes = 0
for _, one in ipairs(over) do
  local key = string.sub(one, 21)
  local row = call('HGET', ROWS, key)
  if not row then
    error({ err = 'CORRUPT row of a key of ' .. #key .. ' bytes: it is listed and gone' })
  end
  local _, expires = parts(row)
  if not expires then
    error({ err = 'CORRUPT row of a key of ' .. #key .. ' bytes: it has no version' })
  end
  call('HDEL', ROWS, key)
  call('ZREM', INDEX, key)
  call('ZREM', EXPIRES, one)
  bytes = bytes + #key + #row
end
-- Not -bytes: that of 0 is -0, which is no integer.
call('HINCRBY', META, 'bytes', 0 - bytes)
return #over
