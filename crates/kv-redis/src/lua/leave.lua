-- Leaves the line; whether it was in front and alive. What was not in line may still be on its way, and is marked.
-- KEYS: queue, what contenders brought, session; ARGV: prefix, lock, contender.
local queue, brought, session, lock, contender = KEYS[5], KEYS[6], KEYS[7], ARGV[2], ARGV[3]
local is_open = call('EXISTS', session) == 1
local rank = call('ZRANK', queue, contender)
if not rank then
    if is_open then call('HSET', session, 'gone ' .. contender, '1') end
    return 0
end
call('ZREM', queue, contender)
call('HDEL', brought, contender)
if is_open then
    -- A session lives by its end, not by what is in it.
    call('HSET', session, 'open', '1')
    call('HDEL', session, 'in ' .. contender)
end
if rank == 0 then
    local before = call('ZCARD', queue)
    local first, token = front(lock)
    if call('ZCARD', queue) == before then changed(lock, first, token) end
end
return (is_open and rank == 0) and 1 or 0
