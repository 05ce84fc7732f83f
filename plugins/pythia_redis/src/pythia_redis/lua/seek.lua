-- Find where a group's last delivered id would go, and how many entries lie between. Changes nothing.
--
-- KEYS: stream. ARGV: group, what a group that is not there reads (earliest, latest), where to (earliest, latest,
-- position, time, by), an id or milliseconds or a number of entries, the most entries to count.
-- Returns {id it would have, id of the last entry there ever was, entries read again (negative: never read)}.

local stream, group, start, kind, value, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local function flat(list)
  local fields = {}
  for i = 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

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

local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then return info end
local last = flat(info)['last-generated-id']

local present = start == 'latest' and last or '0-0'
for _, list in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local found = flat(list)
  if found.name == group then present = found['last-delivered-id'] end
end

local function since(milliseconds)
  if #redis.call('XRANGE', stream, milliseconds, '+', 'COUNT', 1) == 0 then return last end
  local earlier = redis.call('XREVRANGE', stream, '(' .. milliseconds .. '-0', '-', 'COUNT', 1)[1]
  return earlier and earlier[1] or '0-0'
end

local function by(count)
  if count < 0 then
    local entry = redis.call('XREVRANGE', stream, present, '-', 'COUNT', 1 - count)[1 - count]
    return entry and entry[1] or '0-0'
  end
  local entries = redis.call('XRANGE', stream, '(' .. present, '+', 'COUNT', count)
  return #entries > 0 and entries[#entries][1] or present
end

local to
if kind == 'earliest' then to = '0-0'
elseif kind == 'latest' then to = last
elseif kind == 'time' then to = since(value)
elseif kind == 'by' then to = by(tonumber(value))
else to = value end

local back = before(to, present)
local low, high = present, to
if back then low, high = to, present end
local between = low == high and 0 or #redis.call('XRANGE', stream, '(' .. low, high, 'COUNT', most)
return {to, last, back and between or -between}
