-- Answers whether a key is there, in few steps, as the script that reads one value. KEYS[1]: the
-- name; ARGV[1]: the prefix.
redis.call('ZREM', ARGV[1] .. '.kv/index', '')
return redis.call('TYPE', KEYS[1])['ok'] == 'string' and 1 or 0
