-- Move entries that nobody has renewed for a lease to the consumer that holds what is released, where every worker looks.
-- No delivery is counted here, so that an answer that is lost loses nothing.
--
-- KEYS: stream. ARGV: group, our own consumer, the consumer that holds what is released, lease in ms, cursor, the most
-- entries to look at. Returns {cursor, how many were moved, ids that were trimmed or deleted, our own overdue ids}.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local stream, group, me, released, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Half a lease, since the clock goes on between this look and the next: what is ours must be known before it is moved.
local rows = redis.pcall('XPENDING', stream, group, 'IDLE', math.floor(lease / 2), '-', '+', 1000000, me)
if rows.err then return rows end
local overdue = {}
for i, row in ipairs(rows) do
  overdue[i] = row[1]
  overdue[row[1]] = true
end

local function waiting() -- with the consumer that holds what is released
  for _, row in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
    if row[1] == released then return tonumber(row[2]) end
  end
  return 0
end

local before = waiting()
local answer = redis.call('XAUTOCLAIM', stream, group, released, lease, ARGV[5], 'COUNT', ARGV[6], 'JUSTID')
local mine, moved = {}, {}
for _, id in ipairs(answer[2]) do
  table.insert(overdue[id] and mine or moved, id)
end

-- Its age stays a lease, so that consumers that know nothing of us find it too; what is ours, and late, is renewed.
local function claim(consumer, ids, idle)
  if #ids == 0 then return end
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids)}
  for _, option in ipairs({'IDLE', idle, 'JUSTID'}) do command[#command + 1] = option end
  redis.call(unpack(command))
end

claim(me, mine, 0)
claim(released, moved, lease)
return {answer[1], math.max(waiting() - before, 0), answer[3] or {}, mine}
