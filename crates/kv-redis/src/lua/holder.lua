-- Who is in front and alive. ARGV: prefix, lock. KEYS: queue, what contenders brought.
local at = 0
while true do
    local found = call('ZRANGE', KEYS[5], at, at, 'WITHSCORES')
    if not found[1] then return false end
    if is_alive(found[1]) then return { text(found[2]), call('HGET', KEYS[6], found[1]) or '', left_of(found[1]) } end
    at = at + 1
end
