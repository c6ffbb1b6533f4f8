-- Takes the contender in front out of the queue, if it is the one of this token, and answers
-- whether it is. KEYS: queue, what contenders brought; ARGV: prefix, lock, the number of the
-- contender and its part of the token.
local queue, brought, lock = KEYS[5], KEYS[6], ARGV[2]
local is_line = has(queue, 'zset')
has(brought, 'hash')
may_write()
may('PTTL', own)
if not is_line then return 0 end
local first, number = found_in_front(lock)
if not first or text(number) ~= ARGV[3] then return 0 end
local part = string.match(call('HGET', brought, first) or '', '^(%d+)[ \n]')
if part ~= ARGV[4] then return 0 end
make_room()
-- Dead ones before it go first.
front(lock)
local session = name_of_session(first)
call('ZREM', queue, first)
call('HDEL', brought, first)
-- A copy of the request to enter may come late.
call('SET', own .. 'gone/' .. first, '', 'PX', 5000)
call('HSET', session, 'open', '1')
call('HDEL', session, 'in ' .. first)
front(lock, number)
return 1
