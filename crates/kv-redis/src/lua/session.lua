-- Keeps a session, and looks at all that hangs on it; or ends it. KEYS[5]: the session; ARGV: prefix, what to do, TTL.
-- Answers what is left of the shortest life before ours in a line, those of ours that are in front, and those that are gone.
local session = KEYS[5]
if call('EXISTS', session) == 0 then return false end
local entries = call('HGETALL', session)
if ARGV[2] == 'end' then
    call('UNLINK', session)
    for at = 1, #entries, 2 do
        if string.sub(entries[at], 1, 3) == 'in ' then front(entries[at + 1]) end
    end
    return { 0, {}, {} }
end
local ttl, soonest, first_of_ours, gone = tonumber(ARGV[3]), -1, {}, {}
call('PEXPIRE', session, ttl)
for at = 1, #entries, 2 do
    if string.sub(entries[at], 1, 3) == 'in ' then
        local contender, lock = string.sub(entries[at], 4), entries[at + 1]
        local queue = queue_of(lock)
        if not call('ZSCORE', queue, contender) then
            call('HSET', session, 'open', '1')
            call('HDEL', session, entries[at])
            gone[#gone + 1] = contender
        else
            keep(lock, ttl)
            local first = front(lock)
            if first == contender then
                first_of_ours[#first_of_ours + 1] = contender
            else
                local left = left_of(first)
                if soonest < 0 or left < soonest then soonest = left end
            end
        end
    end
end
return { soonest, first_of_ours, gone }
