-- ARGV: 3 how long from now; then of each delivery: id, consumer, count. Returns lapsed, expired, and of each: 0 extended, 1 stale.
local ends = now + tonumber(ARGV[3])
local lapsed, expired = tick()
local answers = { lapsed, expired }
for at = 4, #ARGV, 3 do
  local id = ARGV[at]
  local f = find(id)
  local extends = has_say(f, ARGV[at + 1], tonumber(ARGV[at + 2]))
  if extends then
    schedule(LEASES, ends, id)
    call('ZREM', READY, id)
    if f.expires then
      call('ZREM', ENDS, id)
    end
  end
  answers[#answers + 1] = extends and 0 or 1
end
finish()
return answers
