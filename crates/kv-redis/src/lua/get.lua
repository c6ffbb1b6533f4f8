-- Reads a value and its note, in few steps: most calls are this one. It begins with nothing of
-- what the other scripts begin with. KEYS[1]: the name; ARGV[1]: the prefix. The first step changes
-- nothing, and a server that takes no writes refuses it; where it is refused for another reason,
-- the client runs the script that reads several keys.
local prefix, call = ARGV[1], redis.call
call('ZREM', prefix .. '.kv/index', '')
local value = call('GET', KEYS[1])
return value and { value, call('HGET', prefix .. '.kv/meta', string.sub(KEYS[1], #prefix + 1)) }
