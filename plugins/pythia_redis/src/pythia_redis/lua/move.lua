-- Set a group's last delivered id, or make the group with it, unless somebody reads as the group: looked at and done in
-- one step, so that nobody can begin to read between.
--
-- KEYS: stream. ARGV: group, the id, milliseconds idle after which a consumer does not read, the consumer that is none but
-- holds what was released, "force" to do it all the same. Returns the names of those who read; if there are any, nothing
-- was changed.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, group, id, idle, released, force = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then
  if not consumers.err:find('NOGROUP', 1, true) then return consumers end
  redis.call('XGROUP', 'CREATE', stream, group, id)
  return {}
end

local reading = {}
for _, list in ipairs(consumers) do
  local consumer = {}
  for i = 1, #list, 2 do consumer[list[i]] = list[i + 1] end
  if consumer.name ~= released and consumer.idle < idle then reading[#reading + 1] = consumer.name end
end
if #reading > 0 and force ~= 'force' then return reading end
redis.call('XGROUP', 'SETID', stream, group, id)
return {}
