-- Changes the value that the holder brought, and answers whether the contender holds the lock.
-- KEYS: queue, what contenders brought, session; ARGV: prefix, lock, contender, its number, value.
local brought, lock, contender = KEYS[6], ARGV[2], ARGV[3]
local is_line, is_open = has(KEYS[5], 'zset'), has(KEYS[7], 'hash')
has(brought, 'hash')
may_write()
may('PTTL', own)
if not is_line or not is_open then return 0 end
local first, number = found_in_front(lock)
if first ~= contender or text(number) ~= ARGV[4] then return 0 end
-- It begins with a part of the token and, once the value was changed, how often it was.
local part, changes = string.match(call('HGET', brought, contender) or '', '^(%d+) ?(%d*)\n')
if not part then damaged(brought, 'holds what no contender brought') end
call('HSET', brought, contender, part .. ' ' .. text((tonumber(changes) or 0) + 1) .. '\n' .. ARGV[5])
told_holder(lock, first, number)
return 1
