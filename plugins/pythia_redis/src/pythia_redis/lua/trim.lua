-- Remove the entries that every group has settled: those before the smallest id that any of them still needs. MAXLEN
-- does not ask who has read what, and so is no way to trim a queue.
--
-- KEYS: stream. Returns how many entries were removed.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream = KEYS[1]
local groups = redis.call('XINFO', 'GROUPS', stream)
if #groups == 0 then return 0 end

local function parts(id) return id:match('^(%d+)-(%d+)$') end

-- Ids are 64-bit numbers, which Lua's are not: compare them as texts, the longer is the larger.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function before(a, b)
  local a_ms, a_sequence = parts(a)
  local b_ms, b_sequence = parts(b)
  if a_ms ~= b_ms then return less(a_ms, b_ms) end
  return less(a_sequence, b_sequence)
end

local first
local function need(id)
  if not first or before(id, first) then first = id end
end

for _, flat in ipairs(groups) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  if group.pending > 0 then need(redis.call('XPENDING', stream, group.name)[2]) end
  local next = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
  if next then need(next[1]) end
end
if first then return redis.call('XTRIM', stream, 'MINID', first) end
return redis.call('XTRIM', stream, 'MAXLEN', 0) -- nobody needs anything
