-- Give up an identity, if it is still ours.
--
-- KEYS: where it is remembered. ARGV: who we are.

if redis.call('GET', KEYS[1]) == 'running:' .. ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
