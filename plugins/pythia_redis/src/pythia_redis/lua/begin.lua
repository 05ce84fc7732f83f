-- Take an identity of a message for a while, unless somebody has it or it is done.
--
-- KEYS: where it is remembered. ARGV: who we are, milliseconds we may take. Returns what is there: "" if it is ours now,
-- "done", or "running" and the milliseconds the other has left.

local there = redis.call('GET', KEYS[1])
if not there or there == 'running:' .. ARGV[1] then
  redis.call('SET', KEYS[1], 'running:' .. ARGV[1], 'PX', ARGV[2])
  return {'', 0}
end
if there == 'done' then return {'done', 0} end
return {'running', redis.call('PTTL', KEYS[1])}
