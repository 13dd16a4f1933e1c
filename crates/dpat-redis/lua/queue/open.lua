-- Forgets consumers that are gone. ARGV: 3 for how long they are silent then, in ms. Returns as the check does, with the
-- schema that is there.
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
