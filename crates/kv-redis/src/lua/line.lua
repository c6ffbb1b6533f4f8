-- The functions that the scripts about locks share. A lock is a queue of contenders by the numbers
-- they got, and a hash of what each brought. A contender `SESSION:N` lives as long as its session:
-- a hash with an end, which holds the contender's place, its number and its lock.
local function queue_of(lock) return own .. 'lock/' .. lock end
local function brought_to(lock) return own .. 'held/' .. lock end
-- A member of the queue that is no contender names a session that does not exist.
local function session_of(contender) return string.match(contender, '^[^:]*') end
local function name_of_session(contender) return own .. 'session/' .. session_of(contender) end
local function is_alive(contender) return call('EXISTS', name_of_session(contender)) == 1 end
local function left_of(contender) return call('PTTL', name_of_session(contender)) end

-- The contender that is in front and alive, and its number; changes nothing. A record in place of
-- a session of ours may have no end, and the session's owner may still believe in it: so the
-- script is refused, and nobody waits behind such a record.
local function found_in_front(lock)
    local at = 0
    while true do
        local found = call('ZRANGE', queue_of(lock), at, at, 'WITHSCORES')
        if not found[1] or has(name_of_session(found[1]), 'hash') then return found[1], found[2] end
        at = at + 1
    end
end

-- The number of a contender, as text.
local function number_of(lock, score)
    local number = tonumber(score)
    if not number or number < 1 or number > greatest or number ~= math.floor(number) then
        damaged(queue_of(lock), 'is a line with the number ' .. score .. ', which we never give')
    end
    return text(number)
end

-- Whether the queue is there, and whether one of its records is none of ours.
local function look_at(lock)
    local queue, brought = type_of(queue_of(lock)), type_of(brought_to(lock))
    local is_ours = (queue == 'zset' or queue == 'none') and (brought == 'hash' or brought == 'none')
    return is_ours and queue == 'zset', not is_ours
end

-- A queue outlives the sessions of its contenders by a second: when all have died, nothing is
-- left.
local function keep(lock, ttl)
    for _, name in ipairs({ queue_of(lock), brought_to(lock) }) do
        if call('PTTL', name) < ttl + 1000 then call('PEXPIRE', name, text(ttl + 1000)) end
    end
end

-- Publishes to the watches of the holder which contender that is, and what it brought.
local function told_holder(lock, first, token)
    publish({ on .. 'lock/' .. lock }, function()
        local left, brought = left_of(first), call('HGET', brought_to(lock), first) or ''
        return 'H\n' .. lock .. '\n' .. text(token) .. '\n' .. text(left) .. '\n' .. brought
    end)
end

-- Publishes that another contender is in front: it is woken, and watches of the holder are told.
-- Where there is none, they are told that all holders up to this number are gone.
local function changed(lock, first, token, last)
    if not first then return publish({ on .. 'lock/' .. lock }, 'F\n' .. lock .. '\n' .. text(last)) end
    publish({ on .. 'session/' .. session_of(first) }, first)
    told_holder(lock, first, token)
end

-- The contender in front, and its number. Dead ones before it are taken out. The change is
-- published if there were any, or if one of the number `last` was taken out before.
local function front(lock, last)
    local queue = queue_of(lock)
    while true do
        local first = call('ZRANGE', queue, 0, 0, 'WITHSCORES')
        if not first[1] or is_alive(first[1]) then
            if last then changed(lock, first[1], first[2], last) end
            return first[1], first[2]
        end
        call('ZREM', queue, first[1])
        call('HDEL', brought_to(lock), first[1])
        last = first[2]
    end
end
