-- Look at what a group has left, without sending a single body.
--
-- KEYS: stream. ARGV: group, the most entries to count.
-- Returns {known, lag or -1, counted, pending, id of the oldest pending or "", id of the next to be delivered or "",
-- seconds of the server's clock}; known is 0 if there is no such group, and everything in the stream is then waiting.

local stream, group, most = KEYS[1], ARGV[1], ARGV[2]
local now = tonumber(redis.call('TIME')[1])
if redis.call('EXISTS', stream) == 0 then return {0, 0, 0, 0, '', '', now} end

local function flat(list)
  local fields = {}
  for i = 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

local state
for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local found = flat(list)
  if found.name == group then state = found end
end
local after = state and '(' .. state['last-delivered-id'] or '-'
local next = redis.call('XRANGE', stream, after, '+', 'COUNT', 1)[1]
next = next and next[1] or ''
if not state then return {0, redis.call('XLEN', stream), 0, 0, '', next, now} end

local lag, counted = tonumber(state.lag), 0
if not lag then -- NULL after a deletion in the middle or for a group made there, and absent in Redis 6.2
  lag, counted = -1, #redis.call('XRANGE', stream, after, '+', 'COUNT', most)
end
local oldest = state.pending > 0 and redis.call('XPENDING', stream, group)[2] or ''
return {1, lag, counted, state.pending, oldest, next, now}
