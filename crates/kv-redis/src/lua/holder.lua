-- Finds the contender that is in front and alive. ARGV: prefix, lock. KEYS: queue, what contenders
-- brought. Answers its number, what it brought, what is left of its session, and the last number
-- given: later holders have greater ones.
has(KEYS[5], 'zset')
has(KEYS[6], 'hash')
local first, score = found_in_front(ARGV[2])
if not first then return { false, '', 0, last_number() } end
return { number_of(ARGV[2], score), call('HGET', KEYS[6], first) or '', left_of(first), last_number() }
