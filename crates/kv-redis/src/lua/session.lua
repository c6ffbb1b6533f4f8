-- Renews a session and looks at its contenders; or ends it. KEYS[5]: the session; ARGV: prefix,
-- what to do, TTL, where to go on: a large session goes step by step. Answers where to go on; what
-- is left of the shortest life of a contender before one of ours; our contenders that are in
-- front, each with its lock; and those that are behind others. A contender that is in neither list
-- has lost its place, or its place cannot be read, because its queue or the session in front of it
-- is damaged: it has the place again when they are put right.
local session, ttl = KEYS[5], tonumber(ARGV[3])
if not has(session, 'hash') then return false end
if ARGV[2] == 'end' then
    may_write()
    may('PTTL', own)
    may('HSCAN', own, '0')
    may('ZSCORE', own, '')
    may('ZRANK', own, '')
    may('ZRANGE', own, '0', '0')
    may('EXISTS', own)
end
call('PEXPIRE', session, ttl)
local found = call('HSCAN', session, ARGV[4], 'COUNT', 100)
local entries, soonest, firsts, behind = found[2], -1, {}, {}
for at = 1, #entries, 2 do
    if string.sub(entries[at], 1, 3) == 'in ' then
        local contender = string.sub(entries[at], 4)
        local token, lock = string.match(entries[at + 1], '^(%d+) (.*)$')
        local is_line, is_damaged = false, false
        if lock then is_line, is_damaged = look_at(lock) end
        local score = is_line and call('ZSCORE', queue_of(lock), contender)
        local is_there = score and text(score) == token
        if ARGV[2] == 'end' or not is_there and not is_damaged then
            call('HSET', session, 'open', '1')
            call('HDEL', session, entries[at])
        end
        if ARGV[2] == 'end' and score then
            local is_first = call('ZRANK', queue_of(lock), contender) == 0
            call('ZREM', queue_of(lock), contender)
            call('HDEL', brought_to(lock), contender)
            if is_first then front(lock, score) end
        elseif is_there then
            keep(lock, ttl)
            local first = front(lock)
            if first == contender then
                firsts[#firsts + 1] = contender .. ' ' .. lock
            elseif type_of(name_of_session(first)) == 'hash' then
                local left = left_of(first)
                behind[#behind + 1] = contender .. ' ' .. lock
                if soonest < 0 or left < soonest then soonest = left end
            end
        end
    end
end
if ARGV[2] == 'end' and found[1] == '0' then call('UNLINK', session) end
return { found[1], soonest, firsts, behind }
