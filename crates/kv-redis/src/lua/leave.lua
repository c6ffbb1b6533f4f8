-- Leaves the line; whether it was in front and alive. What was not in line may still be on its way by another connection: it
-- is marked for a while, and whoever keeps the session finds what comes later.
-- KEYS: queue, what contenders brought, session; ARGV: prefix, lock, contender.
local queue, brought, session, lock, contender = KEYS[5], KEYS[6], KEYS[7], ARGV[2], ARGV[3]
local is_line, is_open = has(queue, 'zset'), has(session, 'hash')
has(brought, 'hash')
may_write({ { 'PTTL', own } })
make_room()
local first = is_line and front(lock)
local number = first and call('ZSCORE', queue, contender)
if not number then
    call('SET', own .. 'gone/' .. contender, '', 'PX', 5000)
    if is_open and call('HEXISTS', session, 'in ' .. contender) == 1 then
        call('HSET', session, 'open', '1')
        call('HDEL', session, 'in ' .. contender)
    end
    return 0
end
call('ZREM', queue, contender)
call('HDEL', brought, contender)
if is_open then
    -- A session lives by its end, not by what is in it.
    call('HSET', session, 'open', '1')
    call('HDEL', session, 'in ' .. contender)
end
if first ~= contender then return 0 end
front(lock, number)
return 1
