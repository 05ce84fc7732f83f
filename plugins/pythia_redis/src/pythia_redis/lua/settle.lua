-- Settle entries, each only if it is still pending for this very consumer: XACK and XCLAIM themselves ask for no owner,
-- so a worker that slept past its lease would settle, or take back, what another one is at work on.
--
-- KEYS: stream. ARGV: verb (done, release, renew), group, consumer, first and last id to look at, consumer that holds
-- what was released, lease in ms, what becomes of done entries (keep, delete, ackdel), the server's time in ms when the
-- first of them was surely ours (0: unknown), then the ids.
-- Returns the ids that were refused; with "delete", false before them if entries were kept for another group.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0: XPENDING counts as random there

local stream, verb, group, consumer = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local FIRST, LAST, STEP = 10, #ARGV, 4000 -- Lua passes at most 8,000 arguments
local unpack, call = unpack, redis.call

-- What was ours less than half a lease ago can have gone to nobody, by the very clock that claims go by. That is so for
-- nearly all that is done, and asking would cost four times the acknowledgement itself.
local function surely_ours()
  local since = tonumber(ARGV[9])
  if verb ~= 'done' or since == 0 then return false end
  local time = call('TIME')
  local age = time[1] * 1000 + time[2] / 1000 - since
  return age >= 0 and age < ARGV[7] / 2
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

-- XCLAIM with options, without a delivery being counted.
local function claim(consumer, ids, from, to, ...)
  for i = from, to, STEP do
    local command = {'XCLAIM', stream, group, consumer, 0, unpack(ids, i, math.min(i + STEP - 1, to))}
    for _, option in ipairs({...}) do command[#command + 1] = option end
    command[#command + 1] = 'JUSTID'
    call(unpack(command))
  end
end

if verb == 'done' then
  local keep = ARGV[8]
  local shared = keep == 'delete' and #call('XINFO', 'GROUPS', stream) > 1
  for i = from, to, STEP do
    local j = math.min(i + STEP - 1, to)
    if keep == 'ackdel' then
      call('XACKDEL', stream, group, 'ACKED', 'IDS', j - i + 1, unpack(mine, i, j))
    else
      call('XACK', stream, group, unpack(mine, i, j))
      if keep == 'delete' and not shared then call('XDEL', stream, unpack(mine, i, j)) end
    end
  end
  if shared then table.insert(refused, 1, false) end
elseif verb == 'renew' then
  claim(consumer, mine, from, to)
else
  -- A release is no failed delivery, so the count goes back by one; whoever takes the entry raises it again.
  local by_count = {}
  for i = from, to do
    local count = deliveries[mine[i]]
    by_count[count] = by_count[count] or {}
    table.insert(by_count[count], mine[i])
  end
  for count, ids in pairs(by_count) do
    claim(ARGV[6], ids, 1, #ids, 'IDLE', ARGV[7], 'RETRYCOUNT', math.max(count - 1, 0))
  end
end
return refused
