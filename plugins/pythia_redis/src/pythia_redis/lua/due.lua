-- Move what is due from the set of what is held back into the stream. One step: whatever dies, an entry is in exactly one
-- of them.
--
-- KEYS: the stream, the set. ARGV: the most entries to move. Returns {how many were moved, milliseconds until the next is
-- due, or -1 if none is held back}.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, held = KEYS[1], KEYS[2]
local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
if #first == 0 then return {0, -1} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(first[2]) > now then return {0, first[2] - now} end

local due = redis.call('ZRANGEBYSCORE', held, '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local parts = cmsgpack.unpack(member)
  if parts[2] == '' then
    redis.call('XADD', stream, '*', unpack(parts, 3))
  else
    redis.call('XADD', stream, 'MAXLEN', '~', parts[2], '*', unpack(parts, 3))
  end
  redis.call('ZREM', held, member)
end
local next = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
if #next == 0 then return {#due, -1} end
return {#due, math.max(next[2] - now, 0)}
