-- Hold an entry back until it is due, by the server's clock: in a sorted set beside the stream, by the time.
--
-- KEYS: the set. ARGV: milliseconds, a text that no other entry has, how long the stream may be or "", then the fields.
-- Returns the time in milliseconds at which it is due.

if redis.replicate_commands then redis.replicate_commands() end -- needed before 7.0

local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1]
redis.call('ZADD', KEYS[1], string.format('%.0f', due), cmsgpack.pack({unpack(ARGV, 2)}))
return string.format('%.0f', due)
