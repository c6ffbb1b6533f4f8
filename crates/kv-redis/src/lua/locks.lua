-- Finds who holds each of these locks, and counts the others in its queue that are alive. ARGV:
-- prefix, locks; KEYS from the fifth on: of each its queue, and what its contenders brought.
-- Answers of each lock that is held its name, the holder's number, what the holder brought, and
-- the count.
local held = {}
for at = 2, #ARGV do
    local lock = ARGV[at]
    if has(queue_of(lock), 'zset') then
        has(brought_to(lock), 'hash')
        local first, score = found_in_front(lock)
        if first then
            local others = 0
            for _, other in ipairs(call('ZRANGE', queue_of(lock), 0, -1)) do
                if other ~= first and is_alive(other) then others = others + 1 end
            end
            local brought = call('HGET', brought_to(lock), first) or ''
            held[#held + 1] = { lock, number_of(lock, score), brought, others }
        end
    end
end
return held
