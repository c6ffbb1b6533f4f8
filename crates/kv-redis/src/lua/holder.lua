-- Who is in front and alive. ARGV: prefix, lock. KEYS: queue, what contenders brought. Answers its number, what it brought,
-- what is left of its session, and the last number given: whoever holds it later has a greater one.
has(KEYS[5], 'zset')
has(KEYS[6], 'hash')
local at = 0
while true do
    local found = call('ZRANGE', KEYS[5], at, at, 'WITHSCORES')
    if not found[1] then return { false, '', 0, last_number() } end
    if is_alive(found[1]) then
        local number = tonumber(found[2])
        if not number or number < 1 or number > greatest or number ~= math.floor(number) then
            damaged(KEYS[5], 'is a line with the number ' .. found[2] .. ', which we never give')
        end
        return { text(number), call('HGET', KEYS[6], found[1]) or '', left_of(found[1]), last_number() }
    end
    at = at + 1
end
