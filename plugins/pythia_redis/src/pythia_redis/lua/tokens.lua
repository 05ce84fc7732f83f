-- Take tokens of a bucket that fills by the server's clock, so that clocks of workers do not matter.
--
-- KEYS: the bucket, a string: the time at which it is full again. ARGV: tokens a second, tokens it holds, how many are
-- wanted. Returns how many were taken, and if none, the microseconds until there is one.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local rate, burst, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local moment = redis.call('TIME')
local now = tonumber(moment[1]) * 1000000 + tonumber(moment[2])
local gap = 1000000 / rate

local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
if full > now + burst * gap then full = now + burst * gap end -- the clock was set back, or the limit was raised

local free = math.floor(burst - (full - now) / gap + 0.001)
if free < 1 then return {0, math.ceil(full - now - (burst - 1) * gap)} end
local taken = math.min(free, most)
full = full + taken * gap
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return {taken, 0}
