-- What is left of the lives of keys that may have ended: milliseconds, -1 for ever; -2 where it is gone, which was published,
-- and -3 where that could not be. ARGV from the second on: keys, each with the number that was told of it.
local left = {}
for at = 2, #ARGV, 2 do
    local name = prefix .. ARGV[at]
    local lives = is_string(name) and call('PTTL', name) or -2
    if lives == -2 and not missed(ARGV[at], ARGV[at + 1]) then lives = -3 end
    left[#left + 1] = lives
end
return left
