-- Enters a queue. KEYS: queue, what contenders brought, session; ARGV: prefix, lock, contender,
-- TTL, whether the session may be new, whether to wait, what it brings.
local queue, brought, session = KEYS[5], KEYS[6], KEYS[7]
local lock, contender, ttl = ARGV[2], ARGV[3], tonumber(ARGV[4])
has(queue, 'zset')
has(brought, 'hash')
local is_open = has(session, 'hash')
found_in_front(lock)
next_number()
may_write()
may('PTTL', own)
if call('EXISTS', own .. 'gone/' .. contender) == 1 then return { 'gone' } end
if not is_open and ARGV[5] ~= '1' then return { 'over' } end
local first, token = front(lock), call('ZSCORE', queue, contender)
if token then
    token = text(token)
else
    if first and ARGV[6] ~= '1' then return { 'taken' } end
    token = tick()
    call('HSET', session, 'in ' .. contender, token .. ' ' .. lock)
    -- A client that does not count the session's TTL yet counts it from this request on, though an
    -- earlier one, whose answer it did not get, may have made the session.
    if not is_open or ARGV[5] == '1' then call('PEXPIRE', session, ttl) end
    call('ZADD', queue, token, contender)
    call('HSET', brought, contender, ARGV[7])
    keep(lock, ttl)
    if not first then
        first = contender
        changed(lock, first, token)
    end
end
if first == contender then return { 'first', token } end
return { 'waits', token, left_of(first) }
