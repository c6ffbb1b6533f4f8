-- Finds the contender that is in front and alive. ARGV: prefix, lock. KEYS: queue, what contenders
-- brought. Answers its number, what it brought, what is left of its session, and the last number
-- given: later holders have greater ones.
has(KEYS[5], 'zset')
has(KEYS[6], 'hash')
local first, score = found_in_front(ARGV[2])
if not first then return { false, '', 0, last_number() } end
local number = tonumber(score)
if not number or number < 1 or number > greatest or number ~= math.floor(number) then
    damaged(KEYS[5], 'is a line with the number ' .. score .. ', which we never give')
end
return { text(number), call('HGET', KEYS[6], first) or '', left_of(first), last_number() }
