-- Remove consumers that are gone, but only with nothing pending: XGROUP DELCONSUMER forgets what is, for ever.
--
-- KEYS: stream. ARGV: group, our own consumer, milliseconds idle after which another one of ours counts as gone, or
-- "self" to remove our own. Returns how many were removed.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, group, me, idle = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if found.err then return found end

local removed = 0
for _, flat in ipairs(found) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  local gone
  if idle then
    local ours = consumer.name:match('^.+:[^:]+:%d+:%w+$') -- as name_member() in source.py makes them
    gone = ours and consumer.name ~= me and consumer.idle > idle
  else
    gone = consumer.name == me
  end
  if gone and consumer.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    removed = removed + 1
  end
end
return removed
