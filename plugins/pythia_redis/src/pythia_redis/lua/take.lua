-- Take entries from a consumer (perhaps ourselves) and return them whole, each only if that consumer still has it.
--
-- KEYS: stream. ARGV: group, consumer that takes, consumer that has them, 1 to count this as a delivery, then the ids.
-- Returns {{id, fields, deliveries} ...} and the ids of those that were trimmed or deleted, which are acknowledged.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, group, consumer, owner, raise = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local taken, lost = {}, {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local rows = redis.pcall('XPENDING', stream, group, id, id, 1, owner)
  if rows.err then return rows end
  if rows[1] then
    local deliveries = rows[1][4] + raise
    local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
    if entry then
      taken[#taken + 1] = {entry[1], entry[2], deliveries}
    else
      redis.call('XACK', stream, group, id) -- Redis 7 has dropped it by now, 6.2 has not
      lost[#lost + 1] = id
    end
  end
end
return {taken, lost}
