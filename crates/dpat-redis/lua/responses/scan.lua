-- ARGV: 1 from where (as ZRANGEBYLEX has it), 2 max. Returns of each row key and row; fewer than max when 16 MiB are reached.
local answer, room = {}, 16777216
for _, key in ipairs(call('ZRANGEBYLEX', INDEX, ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local row = call('HGET', ROWS, key)
  if not row then
    error({ err = 'CORRUPT row of a key of ' .. #key .. ' bytes: it is listed and gone' })
  end
  if #answer > 0 and #row > room then
    break
  end
  room = room - #row
  answer[#answer + 1] = key
  answer[#answer + 1] = row
end
return answer
