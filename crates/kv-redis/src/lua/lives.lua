-- What is left of the lives of keys that may have ended: milliseconds, -1 for ever, -2 where it is gone. ARGV from the second
-- on: keys.
local left = {}
for at = 2, #ARGV do
    local name = prefix .. ARGV[at]
    left[at - 1] = is_string(name) and call('PTTL', name) or -2
    if left[at - 1] == -2 then missed(ARGV[at]) end
end
return left
