-- Leaves the queue, and answers whether the contender was in front and alive. One that is not in
-- the queue may still be on its way by another connection: its name is marked as gone for a while,
-- and a renewal of the session finds it if it comes later still.
local queue, brought, session, lock, contender = KEYS[5], KEYS[6], KEYS[7], ARGV[2], ARGV[3]
local is_line, is_open = has(queue, 'zset'), has(session, 'hash')
has(brought, 'hash')
may_write()
may('PTTL', own)
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
    -- The field `open` keeps the hash from being empty: a session lives by its end, not by its
    -- contenders.
    call('HSET', session, 'open', '1')
    call('HDEL', session, 'in ' .. contender)
end
if first ~= contender then return 0 end
front(lock, number)
return 1
