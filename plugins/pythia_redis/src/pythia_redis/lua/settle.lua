-- Settle entries, each only if it is still pending for this very consumer: XACK and XCLAIM themselves ask for no owner,
-- so a worker that slept past its lease would settle, or take back, what another one is at work on.
--
-- KEYS: stream. ARGV: verb (done, release, "release uncounted" if their delivery was not counted, renew), group, consumer,
-- first and last id to look at, consumer that holds what was released, lease in ms, what becomes of done entries (keep,
-- delete, ackdel), a time in ms since which all of them are ours (0: unknown), then the ids, of which Lua takes fewer than
-- 8,000.
-- Returns the ids that were refused; with "delete", false before them if entries were kept for another group.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0: XPENDING counts as random there

local stream, verb, group, consumer, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[7]
local FIRST, LAST = 10, #ARGV
local unpack, call = unpack, redis.call

-- What became ours less than half a lease ago can have gone to nobody, by the very clock that claims go by. That is so
-- for nearly all that is done, and asking would cost four times the acknowledgement itself.
local function surely_ours()
  local since = tonumber(ARGV[9])
  if verb ~= 'done' or since == 0 then return false end
  local time = call('TIME')
  local age = time[1] * 1000 + time[2] / 1000 - since
  return age >= 0 and age < lease / 2
end

local deliveries, refused, mine, from, to = {}, {}, ARGV, FIRST, LAST
if not surely_ours() then
  -- One look at our own pending entries in the range, instead of one for each id. The range is a guess by text, which ids
  -- of unequal length defy: what it does not show is asked for by itself.
  local rows = redis.pcall('XPENDING', stream, group, ARGV[4], ARGV[5], 1000000, consumer)
  if rows.err then return rows end
  for i = 1, #rows do
    local row = rows[i]
    deliveries[row[1]] = row[4]
  end
  for i = FIRST, LAST do
    local id = ARGV[i]
    if not deliveries[id] then
      local row = call('XPENDING', stream, group, id, id, 1, consumer)[1]
      if row then deliveries[id] = row[4] else refused[#refused + 1] = id end
    end
  end
  if #refused > 0 then -- rare enough for a copy
    mine, from = {}, 1
    for i = FIRST, LAST do
      if deliveries[ARGV[i]] then mine[#mine + 1] = ARGV[i] end
    end
    to = #mine
  end
end
if to < from then return refused end

local function acknowledge()
  local keep = ARGV[8]
  if keep == 'ackdel' then
    call('XACKDEL', stream, group, 'ACKED', 'IDS', to - from + 1, unpack(mine, from, to))
    return
  end
  if call('XACK', stream, group, unpack(mine, from, to)) == 0 then -- the group is gone, and all that was ours with it
    for i = from, to do refused[#refused + 1] = mine[i] end
  elseif keep == 'delete' then
    if #call('XINFO', 'GROUPS', stream) > 1 then
      table.insert(refused, 1, false)
    else
      call('XDEL', stream, unpack(mine, from, to))
    end
  end
end

-- XCLAIM with options, without a delivery being counted.
local function claim(consumer, ids, from, to, ...)
  local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids, from, to)}
  for _, option in ipairs({...}) do command[#command + 1] = option end
  command[#command + 1] = 'JUSTID'
  call(unpack(command))
end

-- A release is no failed delivery, so a count that was raised goes back by one; whoever takes the entry raises it again.
-- Its age is a lease, so that consumers that know nothing of us find it too.
local function release(raised)
  local by_count = {}
  for i = from, to do
    local count = deliveries[mine[i]]
    by_count[count] = by_count[count] or {}
    table.insert(by_count[count], mine[i])
  end
  for count, ids in pairs(by_count) do
    claim(ARGV[6], ids, 1, #ids, 'IDLE', lease, 'RETRYCOUNT', math.max(count - raised, 0))
  end
end

if verb == 'done' then
  acknowledge()
elseif verb == 'renew' then
  claim(consumer, mine, from, to)
else
  release(verb == 'release' and 1 or 0)
end
return refused
