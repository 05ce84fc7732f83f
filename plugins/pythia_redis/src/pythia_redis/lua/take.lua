-- Take entries from a consumer (perhaps ourselves) and return them whole, each only if that consumer still has it and has
-- had it delivered as often as we know.
--
-- KEYS: stream. ARGV: group, consumer that takes, consumer that has them, then for each entry its id, its count of
-- deliveries and the count that it is to have. Returns {{id, fields} ...} and the ids of those that were trimmed or
-- deleted, which are acknowledged.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, group, consumer, owner = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local taken, lost = {}, {}
for i = 4, #ARGV, 3 do
  local id, before, after = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local rows = redis.pcall('XPENDING', stream, group, id, id, 1, owner)
  if rows.err then return rows end
  if rows[1] and rows[1][4] == before then
    local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', after)[1]
    if entry then
      taken[#taken + 1] = entry
    else
      redis.call('XACK', stream, group, id) -- Redis 7 has dropped it by now, 6.2 has not
      lost[#lost + 1] = id
    end
  end
end
return {taken, lost}
